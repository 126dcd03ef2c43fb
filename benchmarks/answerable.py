"""`make bench-answerable`: requests for labels of a task that does not apply everywhere, and how many have no answer.

Labels are held back (of `streets`, those that its reader holds back), and the task's own are removed where it does not
apply, so nobody can answer there. After labels at random and a training, one round of the loop requests labels of the
task: predictions decide where it applies while the label that decides is not known. By default the colour of a light on
`streets`, where a light is in view;
`DATA=FOLDER TASK=NAME APPLIES=PREDICATE` name another data set whose labels are all known. Nothing was tuned.
"""

import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from amber.loop import Loop, run_loop
from amber.replayed_data import copy_workspace
from benchmarks.seeds import for_each
from benchmarks.table import Row, cases_row, finish, small
from curation.arrays import Ints
from curation.catalog.applicability import applicability
from curation.catalog.catalog import Catalog
from curation.catalog.held_back_labels import read_held_back
from curation.catalog.snapshot import Snapshot
from curation.ingestion.dataset import Dataset
from curation.ingestion.ingest import ingest
from samplers.pack.pack_writer import make_pack
from training.evaluation.features import embed
from training.evaluation.image_size import fitted_size
from training.recipe import Recipe

DATASETS = Path(__file__).resolve().parent.parent / "datasets"
DATA = Path(os.environ.get("DATA") or DATASETS / "streets")
TASK = os.environ.get("TASK", "light_color")
APPLIES = os.environ.get("APPLIES", "label.light_present")
IMAGES = 600 if small() else 4_000
SEEDS = int(os.environ.get("SEEDS", "2" if small() else "10"))
FIRST_SEED = int(os.environ.get("FIRST_SEED", "10"))
BUDGET = 50 if small() else 200
KNOWN = 0.12
"""Part of all labels that is known at the start."""
AUTHOR = "bench"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The requests of one seed: how many, on how many nobody could answer, on how many the task was known not to apply,
    and how many labels they brought; and the share of the pool on which nobody can answer."""

    requests: int
    unanswerable: int
    known: int
    valued: int
    pool: float


def main() -> None:
    """Embed once, run every seed, print the rates."""
    with tempfile.TemporaryDirectory(prefix="bench-answerable-") as name:
        _template(Path(name))
        found = list(
            for_each(one_seed, {seed: (Path(name), seed) for seed in range(FIRST_SEED, FIRST_SEED + SEEDS)}).values()
        )
    finish("answerable", _rows(found), seeds=SEEDS, first_seed=FIRST_SEED)


def _template(folder: Path) -> None:
    """A workspace with features, whose task has its predicate and whose oracle lacks what nobody can answer; and the
    ids of the images where the task does not apply."""
    os.environ["AMBER_CACHE"] = str(folder / "images")
    reader = {"images": IMAGES} if DATA == DATASETS / "streets" else {"held_back": True}
    catalog = Catalog.create(folder / "template")
    ingest(catalog, Dataset.load(DATA).with_reader(reader), author=AUTHOR)
    held = read_held_back(catalog.home)
    shutil.copytree(catalog.home, folder / "truth")
    truth = Catalog.open(folder / "truth")
    with truth.commit(author=AUTHOR, message="everything is known") as change:
        change.add_labels(held, source="import")
    with truth.read() as now:
        outside, samples, size = now.members(f"(NOT {APPLIES})"), now.samples("sample_id", "key"), fitted_size(now)
    np.save(folder / "outside.npy", outside)
    keys = samples["key"].filter(pc.is_in(samples["sample_id"], value_set=pa.array(outside))).combine_chunks()
    answers = pc.and_(pc.equal(held["task"], TASK), pc.is_in(held["key"], value_set=keys))
    pq.write_table(held.filter(pc.invert(answers)), catalog.home / "oracle.parquet")
    with catalog.commit(author=AUTHOR, message="applies") as change:
        change.redefine_task(change.now.task(TASK).model_copy(update={"applies": APPLIES}))
    embed(catalog.home, make_pack(catalog), Recipe(size=size))


def one_seed(folder: Path, seed: int) -> Asked:
    """Labels at random, a training, and one round of requests for the task."""
    torch.set_num_threads(1)
    os.environ["AMBER_CACHE"] = str(folder / "images")
    outside = np.load(folder / "outside.npy")
    catalog = copy_workspace(Catalog.open(folder / "template"), folder / f"seed-{seed}")
    with catalog.read() as now:
        size, before = fitted_size(now), len(now.training_ids()) * len(now.tasks())
    loop = Loop(
        rounds=0, start=round(KNOWN * before), start_random_share=1.0, budget=BUDGET, seed=seed,
        recipe=Recipe(size=size, seed=seed, threads=1),
    )  # fmt: skip
    start = next(run_loop(catalog, replace(loop, random_share=1.0), author=AUTHOR))
    with catalog.read() as now:
        first, known = now.commit, applicability(now, now.task(TASK)).known
        pool = np.setdiff1d(now.training_ids(), now.labels(TASK, "sample_id")["sample_id"].to_numpy())
    list(run_loop(catalog, replace(loop, rounds=1, begin=start.run, ask=(TASK,)), author=AUTHOR))
    with catalog.read() as now:
        asked = _requested_after(now, first)
        valued = np.isin(asked, now.labels(TASK, "sample_id")["sample_id"].to_numpy())
    return Asked(
        requests=len(asked), unanswerable=int(np.isin(asked, outside).sum()), known=int(np.isin(asked, known).sum()),
        valued=int(valued.sum()), pool=float(np.isin(pool, outside).mean()),
    )  # fmt: skip


def _requested_after(now: Snapshot, commit: int) -> Ints:
    """The samples of the task's requests that later commits opened."""
    every, earlier = now.requests(), now.earlier(commit).requests()
    new = every.filter(pc.invert(pc.is_in(every["request_id"], value_set=earlier["request_id"].combine_chunks())))
    return np.asarray(new.filter(pc.equal(new["task"], TASK))["sample_id"].to_numpy(), np.int64)


def _rows(found: list[Asked]) -> list[Row]:
    asked, wrong = sum(each.requests for each in found), sum(each.unanswerable for each in found)
    at_random = 100 * float(np.mean([each.pool for each in found]))
    known, valued = sum(each.known for each in found), sum(each.valued for each in found)
    wanted = BUDGET * len(found)
    return [
        cases_row(
            f"{TASK} asked where nobody can answer", wrong, asked, asked="below random's",
            met=100 * wrong < at_random * asked, peers={"of the pool, %": at_random},
        ),
        Row(what=f"{TASK} asked where it was known not to apply", value=known, asked="0", met=known == 0),
        cases_row("the budget, after refills: labels with a value", valued, wanted, asked="all", met=valued >= wanted),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
