"""Verbs of trained networks: train, report."""

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click
import pyarrow as pa

from amber.completion import PLAN, RUN
from amber.extras import need_extra
from amber.loop import rounds_of
from amber.tables import figures_table
from amber.terminal import Screen, show, table
from amber.verbs.options import author, grouped, heads_option, seeded, size_option, trunk_option, using_files, workspace
from curation.catalog.catalog import Catalog
from curation.errors import Failed, NotFound
from curation.files.toml_files import read_toml
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan
from samplers.streaming.stream import OnError
from training.recipe import Recipe
from training.run import Run

__all__ = ["report_command", "run_title", "size_for", "train_command"]


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options for the plan, the network and the optimisation."""

    plan_hash: str
    trunk: str
    size: tuple[int, int] | None
    heads: str | None
    batch: int
    learning_rate: float | None
    parent: str
    on_error: OnError
    shards: Path | None
    workers: int
    recipe_file: Path | None
    only: str
    device: str
    checkpoint_every: int
    smoke: bool

    def plan(self, catalog: Catalog) -> Plan:
        """The plan to train on."""
        return Plan.open(catalog.home, self.plan_hash) if self.plan_hash else Plan.newest(catalog.home)

    def recipe(self, catalog: Catalog, plan: Plan, seed: int) -> Recipe:
        """The recipe of the file, these settings where it says nothing; with --only and no file, that of the parent.

        For a plan with boxes and no file, the pretrained trunk is not read as features but as maps, which stay frozen.
        BadInput names the setting that breaks a rule.
        """
        boxed = any(part.task.kind == "detection" for part in plan.tasks)
        only = tuple(name.strip() for name in self.only.split(",") if name.strip())
        if only and self.parent and self.recipe_file is None:
            return replace(Run.open(catalog.home, self.parent).recipe, only=only)
        given = {"global_batch": self.batch, "seed": seed, "learning_rate": self.learning_rate, "heads": self.heads}
        if self.recipe_file is None:
            size = self.size or size_for(catalog, self.trunk, boxed=boxed)
            maps = "head" if boxed and self.trunk == Recipe.trunk and not self.heads else None
            return Recipe.of(self.trunk, size=size, only=only or None, learn_from=maps, **given)
        words = read_toml(self.recipe_file)
        trunk = words.get("trunk", self.trunk)
        size = self.size or (None if "size" in words else size_for(catalog, trunk, boxed=boxed))
        made = Recipe.load(self.recipe_file, trunk=self.trunk, size=size, **given)
        return replace(made, only=only) if only else made


train_options = grouped(
    "options", TrainOptions,
    click.option(
        "--plan", "plan_hash", default="", type=PLAN,
        help="Plan to train on (a prefix of its hash); default: the newest.",
    ),
    trunk_option,
    size_option,
    heads_option,
    click.option("--batch", default=64, show_default=True, help="Global batch size, in draws."),
    click.option("--learning-rate", type=float, help="Default: depends on the trunk."),
    click.option("--parent", default="", help="Run whose weights to start from."),
    click.option(
        "--recipe", "recipe_file", type=click.Path(path_type=Path), metavar="FILE",
        help="TOML file that says more than these options: the tree, what differs between tasks, when each stops.",
    ),
    click.option(
        "--only", default="", metavar="TASK[,TASK]",
        help="Continue --parent for these tasks alone; no output of another task moves by a bit.",
    ),
    click.option(
        "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True,
        help="Where a network learns from draws; auto takes a GPU where there is one.",
    ),
    click.option(
        "--checkpoint-every", default=500, show_default=True, type=click.IntRange(min=0), metavar="STEPS",
        help="A training that was stopped goes on at its last checkpoint; 0 writes one on SIGTERM only.",
    ),
    click.option(
        "--smoke", is_flag=True,
        help="Only check, in seconds, that each head can fit two batches of its own labels; leaves no run.",
    ),
    click.option(
        "--on-error", type=click.Choice(["raise", "quarantine"]), default="raise", show_default=True,
        help="When an image cannot be read: stop, or draw another of its stratum (trunks trained from scratch).",
    ),
    click.option(
        "--shards", type=click.Path(path_type=Path), metavar="FOLDER",
        help="Read images, labels and weights from FOLDER of `amber plan materialize`, by webdataset (--trunk small).",
    ),
    click.option(
        "--workers", type=click.IntRange(min=0), default=0, show_default=True,
        help="Processes that read --shards; with more than one the draws come in another order.",
    ),
)  # fmt: skip


@click.command("train")
@train_options
@seeded
@author
@workspace
@using_files
def train_command(options: TrainOptions, seed: int, author: str, home: str, as_json: bool) -> None:
    """Train a network on a plan and record its predictions and slice figures.

    With --smoke nothing is recorded; heads that cannot fit 32 of their own labels are named, and the exit code is 1.
    """
    catalog = Catalog.open(home)
    plan = options.plan(catalog)
    recipe = options.recipe(catalog, plan, seed).with_boxes([part.task for part in plan.tasks])
    need_extra("train")
    if options.shards:
        need_extra("shards")
    screen = Screen(quiet=as_json)
    if options.smoke:
        _smoke(catalog, plan, recipe, options.device, screen, as_json)
        return
    with screen.stages():
        done = _train(catalog, plan, recipe, options, author, screen)
    if done is None:  # another rank than the first: that one says it all
        return
    run, figures = done
    replaced, unseen = run.replaced(catalog.home), _unseen(catalog, plan)
    title = run_title(run) + (f"; its draws differ from its plan: {run.alarm}" if run.alarm else "")
    title += f"; {len(replaced):,} draws used another image" if replaced else ""
    title += "".join(f"\nalarm: {line}" for line in unseen)
    shown = {
        "run": run.id, "figures": figures, "alarm": run.alarm, "alarms": [*run.alarms, *unseen], "replaced": replaced,
    }  # fmt: skip
    show(shown, as_json, lambda: figures_table(title, figures))


def _unseen(catalog: Catalog, plan: Plan) -> list[str]:
    """A line for each class that has labels in test and none in training."""
    from training.evaluation.unseen import unseen_in_test

    with catalog.read() as now:
        return unseen_in_test(now, plan)


def _smoke(catalog: Catalog, plan: Plan, recipe: Recipe, device: str, screen: Screen, as_json: bool) -> None:
    """Show how well each head fits two batches of its labels; Failed, naming those that do not."""
    from training.loop.ranks import joined
    from training.loop.smoke import FITS, smoke

    with screen.stages(), joined(rank=0, world=1, device=device) as ranks:
        heads = smoke(recipe, plan, catalog, ranks=ranks, progress=partial(screen.tell, "smoke"))
    rows = [[head.task, head.kind, head.labels, head.loss, "yes" if head.fits else "NO"] for head in heads]
    title = f"Heads on two batches of their own labels (fits: loss at most {FITS:g} of the best constant's)"
    columns = ["task", "head", "labels", "loss over the constant's", "fits"]
    shown = [{**vars(head), "fits": head.fits} for head in heads]
    show({"heads": shown}, as_json, lambda: table(title, columns, rows))
    if unfit := [f"{head.task} ({head.kind}, {head.loss:.2f})" for head in heads if not head.fits]:
        which = f"head{'s' * (len(unfit) > 1)} {', '.join(unfit)}"
        raise Failed(
            f"smoke: {which} cannot fit two batches of its own labels; look at these labels and their images, then at "
            "the learning rate"
        )


def _train(
    catalog: Catalog, plan: Plan, recipe: Recipe, options: TrainOptions, author: str, screen: Screen
) -> tuple[Run, list[dict[str, object]]] | None:
    """Embed, train and evaluate; the run and its figures, on the first rank of a training by torchrun."""
    from training.evaluation.evaluation import evaluate
    from training.evaluation.features import embed
    from training.loop.ranks import joined
    from training.loop.shard_feed import Shards
    from training.loop.trainer import train

    shards = Shards(folder=options.shards, workers=options.workers) if options.shards else None
    place = {
        name: int(os.environ.get(variable, default))
        for name, variable, default in (
            ("rank", "RANK", "0"), ("world", "WORLD_SIZE", "1"), ("local_rank", "LOCAL_RANK", "0")
        )
    }  # fmt: skip
    with joined(**place, device=options.device) as ranks:
        pack = Pack.open(catalog.home, plan.pack_hash)
        if ranks.first:
            embed(catalog.home, pack, recipe, progress=partial(screen.tell, "embed"))
        ranks.gather(None)
        run = train(
            recipe, plan, catalog, parent=options.parent, on_error=options.on_error, shards=shards,
            every=options.checkpoint_every, ranks=ranks,
            progress=lambda done, total, loss: screen.tell("train", done, total),
            states=partial(screen.show_states, "train"),
        )  # fmt: skip
        if not ranks.first:
            return None
        return run, evaluate(run, catalog, author=author, progress=partial(screen.tell, "evaluate")).to_pylist()


@click.command("report")
@click.option("--run", "run_", default="", type=RUN, help="Run to report; default: the newest.")
@click.option("--out", default="report.html", show_default=True, type=click.Path(path_type=Path), help="File to write.")
@click.option(
    "--baseline", "baselines", multiple=True, type=click.Choice(["exact", "separate"]),
    help="Train this too, on the run's plan, and show each task beside it: exact heads on frozen features, or a "
    "network for each task; again for both. The best constant is always there.",
)  # fmt: skip
@workspace
@using_files
def report_command(run_: str, out: Path, baselines: tuple[str, ...], home: str, as_json: bool) -> None:
    """Write report.html: figures of every slice, curves, coverage, and images of the worst slices.

    For a run of a loop, it shows what each round's labels bought. It ends with commands for the next round.
    """
    from training.report import write_report

    catalog = Catalog.open(home)
    with catalog.read() as now:
        runs = now.runs()["run"].to_pylist()
        if not runs:
            raise NotFound(f"{home}: the catalog has no run yet; create one with `amber train` or `amber loop`")
        run_ = now.runs.full_id(run_) if run_ else runs[-1]
        rounds = rounds_of(now, run_)
    beside = _baselines(catalog, run_, baselines, as_json) if baselines else {}
    path = write_report(catalog, run_, out, rounds=[vars(step) for step in rounds], baselines=beside)
    show({"report": str(path)}, as_json, lambda: f"report {path}")


def _baselines(catalog: Catalog, run: str, kinds: tuple[str, ...], quiet: bool) -> dict[str, pa.Table]:
    """The predictions of what is trained beside a run."""
    from amber.baselines import baseline_predictions

    need_extra("train")
    size = size_for(catalog, Recipe.trunk)
    assert size is not None
    screen = Screen(quiet=quiet)
    with screen.stages():
        kinds = tuple(dict.fromkeys(kinds))
        return baseline_predictions(catalog, Run.open(catalog.home, run), kinds, size, progress=screen.tell)


def size_for(catalog: Catalog, trunk: str, *, boxed: bool = False) -> tuple[int, int] | None:
    """The size that fits the catalog's images, for a frozen trunk and for boxes; None for others with a default."""
    from training.evaluation.image_size import FOR_BOXES, fitted_size

    if trunk == "small" and not boxed:
        return None
    with catalog.read() as now:
        return fitted_size(now, largest=FOR_BOXES) if boxed else fitted_size(now)


def run_title(run: Run) -> str:
    """The run, how its heads were learned, and its alarms, a line each."""
    kinds = [head.kind for head in run.heads]
    counts = [f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds))]
    heads = f": {', '.join(counts)} head{'s' if len(kinds) > 1 else ''}" if kinds else ""
    return "\n".join([f"Run {run.id}{heads}", *(f"alarm: {alarm}" for alarm in run.alarms)])
