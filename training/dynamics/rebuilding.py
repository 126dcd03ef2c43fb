"""Rebuilding trainings in a clean workspace from the ledger: the catalog copied, plans made and runs trained again.

Images come from the shards of the first workspace, by reference: a shard is named by its sha256, which is checked.
"""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch

from curation.catalog.admin.moving import copy_to
from curation.catalog.catalog import Catalog
from curation.errors import BadInput, Damaged
from curation.files.progress import StageProgress
from curation.files.read_back import read_json, sha256_of
from samplers.pack.pack import Pack
from samplers.plan.build import Parent, draft_plan
from samplers.plan.plan import AGAIN, Plan
from samplers.policy.policy import Policy
from training.dynamics.chain_steps import Step
from training.dynamics.lineage import OF_RUN, Lineage, LineagePlan
from training.evaluation.evaluation import evaluate
from training.evaluation.features import embed
from training.loop.ranks import Ranks
from training.loop.trainer import train
from training.network.weights import read_tensors
from training.recipe import Recipe
from training.run import Run

__all__ = ["RECORDED", "Rebuilder", "weights_sha256"]

RECORDED: Final = "recorded-"
"""What the name of a recorded run begins with in the rebuilt workspace, where the rebuilt one may have its id."""
AUTHOR: Final = "replay"


class Rebuilder:
    """A clean workspace in the new folder `folder`, with the plans of a lineage made again.

    `catalog` is the rebuilt catalog. `plans` says for each plan by its hash: "equal", "same draws" (its pack was
    rewritten since, because an image was forgotten), or "differs". BadInput for a folder that exists; Damaged for a
    shard that is not what was packed.
    """

    def __init__(
        self, source: Catalog, lineage: Lineage, folder: Path, *, ranks: Ranks, progress: StageProgress | None = None
    ) -> None:
        if folder.exists():
            raise BadInput(f"{folder}: exists already; name a new folder")
        self._source, self._ranks = source, ranks
        self._tell: StageProgress = progress or (lambda stage, done, total: None)
        copy_to(source, str(folder))
        self.catalog = Catalog.open(folder)
        self._link_images(lineage)
        self._hashes: dict[str, str] = {}
        self.plans: dict[str, str] = {}
        for number, plan in enumerate(lineage.plans):
            if plan.by != "training":
                self._make_plan(plan)
            self._tell("plans", number + 1, len(lineage.plans))

    def run(self, steps: Sequence[Step], *, reuse: bool = False) -> dict[str, str]:
        """Train the steps, in order; the id of the run that each made, by the id that it repeats.

        A step that was trained here already is not trained again. With `reuse`, a step that would repeat a recorded
        run exactly takes its weights, where they are at hand.
        """
        made: dict[str, str] = {}
        for number, step in enumerate(steps):
            made[step.run] = self._trained(step, made, reuse=reuse)
            self._tell("train", number + 1, len(steps))
        return made

    def predictions(self, run: str) -> Path:
        """The predictions of a run of this workspace, which is evaluated if it was not."""
        path = self.catalog.home / "runs" / run / "predictions.parquet"
        with self.catalog.read() as now:
            known = run in now.runs()["run"].to_pylist() and path.is_file()
        if not known:
            evaluate(Run.open(self.catalog.home, run), self.catalog, author=AUTHOR, batch=f"replay:{run}")
            self._tell("evaluate", 1, 1)
        return path

    def recorded(self, run: str) -> str:
        """The name under which a run that was evaluated in the first workspace is registered here."""
        name = RECORDED + run
        with self._source.read() as now:
            path = now.runs.predictions_file(self._source.home, run)
        target = self.catalog.home / "runs" / name / "predictions.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        with self.catalog.commit(author=AUTHOR, message=f"recorded run {run}", batch=f"recorded:{run}") as change:
            change.add_run(
                name, plan="", predictions=str(target.relative_to(self.catalog.home)), sha256=sha256_of(target)
            )
        return name

    def _link_images(self, lineage: Lineage) -> None:
        """Copy the indexes of all packs and link the shards, after a check of those that the plans draw from."""
        home, source = self.catalog.home, self._source.home
        shutil.copytree(source / "packs", home / "packs")
        (home / "shards").symlink_to((source / "shards").resolve(), target_is_directory=True)
        packs = {read_json(source / "plans" / plan.plan / "plan.json", AGAIN, dict)["pack"] for plan in lineage.plans}
        shards = {shard.name for hash_ in packs for shard in Pack.open(home, hash_).shards}
        for number, name in enumerate(sorted(shards)):
            if sha256_of(home / "shards" / name) != Path(name).stem:
                raise Damaged(f"{source / 'shards' / name}: is not what was packed; delete the shard, then pack again")
            self._tell("images", number + 1, len(shards))

    def _make_plan(self, plan: LineagePlan) -> None:
        """Make a plan again from its policy and commit, and compare it with what was recorded."""
        header = read_json(self._source.home / "plans" / plan.plan / "plan.json", AGAIN, dict)
        parent = Parent(plan=self._hashes[plan.parent], position=plan.position) if plan.parent else None
        draft = draft_plan(
            self.catalog, Policy.model_validate(header["policy"]), Pack.open(self.catalog.home, header["pack"]),
            draws=plan.draws, seed=header["seed"], commit=plan.commit, parent=parent,
        )  # fmt: skip
        draft.save(by=plan.by)
        self._hashes[plan.plan] = draft.hash
        tables = [{name: part for name, part in each["tables"].items() if name != "samples"} for each in
                  (header, draft.header)]  # fmt: skip
        same = "same draws" if tables[0] == tables[1] else "differs"
        self.plans[plan.plan] = "equal" if draft.hash == plan.plan else same

    def _trained(self, step: Step, made: dict[str, str], *, reuse: bool) -> str:
        """Train one step, after the steps that it is made of, and return the id of its run."""
        home = self.catalog.home
        recipe = step.recipe
        if step.features_of:
            recipe = replace(recipe, trunk=f"{OF_RUN}{made[step.features_of]}")
        plan = Plan.open(home, self._hashes[step.plan])
        parent = made[step.parent] if step.parent else ""
        if reuse:
            self._take_over(step, recipe, plan.hash, parent)
        embed(home, Pack.open(home, plan.pack_hash), recipe)
        done = train(
            recipe, plan, self.catalog, parent=parent, ranks=self._ranks,
            on_error="quarantine" if step.quarantine else "raise",
        )  # fmt: skip
        return done.id

    def _take_over(self, step: Step, recipe: Recipe, plan: str, parent: str) -> None:
        """Copy the record and the weights of a recorded run that this step would repeat exactly."""
        recorded = self._source.home / "runs" / step.run
        run = Run.open(self._source.home, step.run)
        weights = recorded / "checkpoints" / "last.pt"
        target = self.catalog.home / "runs" / step.run
        same = (run.recipe, run.plan, run.parent) == (recipe, plan, parent)
        if not same or not weights.is_file() or target.exists():
            return
        (target / "checkpoints").mkdir(parents=True)
        shutil.copyfile(weights, target / "checkpoints" / "last.pt")
        shutil.copyfile(recorded / "run.json", target / "run.json")


def weights_sha256(home: Path, run: str) -> str:
    """The sha256 of a run's weights: names, types, shapes and bytes of all tensors; "" where there are none.

    It does not depend on how the file was written. Damaged where the file cannot be read.
    """
    path = home / "runs" / run / "checkpoints" / "last.pt"
    if not path.is_file():
        return ""
    state = read_tensors(path, f"train run {run} again")
    found = hashlib.sha256()
    for name, value in sorted(state.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        found.update(
            value.contiguous().view(torch.uint8).numpy().tobytes() if value.dim() else repr(value.item()).encode()
        )
    return found.hexdigest()
