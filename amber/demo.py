"""`make demo`: the loop on real traffic lights beside the same loop with random requests, then two networks.

These are multitask networks on rendered images: eight tasks of whole images (streets), and four of boxes and of pairs
of frames (street_signs). Run again, the demo reuses its results.
"""

import resource
import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from amber.__main__ import run_and_leave
from amber.exit_codes import guarded
from amber.loop import Loop, Round, run_loop
from amber.rounds_table import rounds_table
from amber.terminal import Screen, interval, output, table
from amber.verbs.options import size_option
from curation.catalog.catalog import Catalog
from curation.ingestion.dataset import Dataset
from curation.ingestion.ingest import ingest
from samplers.policy.policy import Policy
from training.evaluation.image_size import fitted_size
from training.recipe import Recipe
from training.report import write_report

__all__ = ["demo"]

DATASETS = Path(__file__).resolve().parent.parent / "datasets"
AUTHOR = "demo"


@click.command()
@click.option("--out", default="demo-out", show_default=True, type=click.Path(path_type=Path))
@click.option(
    "--images", type=click.IntRange(1), default=20_000, show_default=True, help="Images of streets to render."
)
@click.option(
    "--draws", type=click.IntRange(1), default=96_000, show_default=True, help="Draws of the training from pixels."
)
@click.option(
    "--sign-images", type=click.IntRange(1), default=4_000, show_default=True, help="Images of street_signs to render."
)
@click.option(
    "--sign-draws",
    type=click.IntRange(0),
    default=9_600,
    show_default=True,
    help="Draws of its training; 0: leave it out.",
)
@size_option
def demo(
    out: Path, images: int, draws: int, sign_images: int, sign_draws: int, size: tuple[int, int] | None
) -> None:  # fmt: skip
    """Watch Amber find the yellow lights."""
    started = time.monotonic()
    screen, results = Screen(), output()
    arms = _traffic_lights(out, screen, size)
    results.print(
        rounds_table("Yellow lights among 1,484 real crops", arms, task="light_color", rare="yellow"),
    )
    screen.say("\n[bold]streets[/bold]: eight tasks, each labelled on its own part of the images; trained from pixels")
    rounds = _streets(out, screen, images, draws)
    results.print(_tasks_table(rounds))
    made = _street_signs(out, screen, results, sign_images, sign_draws) if sign_draws else []
    with screen.stages():
        first = write_report(
            Catalog.open(out / "traffic_lights"), arms["mined"][-1].run, out / "report.html",
            title="Traffic lights", rounds=[vars(step) for arm in arms.values() for step in arm],
        )  # fmt: skip
        second = write_report(
            Catalog.open(out / "streets"), rounds[-1].run, out / "streets.html", title="Streets",
            rounds=[vars(step) for step in rounds],
        )  # fmt: skip
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    results.print(f"reports: {', '.join(map(str, [first, second, *made]))}")
    results.print('next: `source .venv/bin/activate`, and go on with the README at "A first workspace"')
    results.print(f"{time.monotonic() - started:.0f} s, {peak:.1f} GB at the peak")


def _traffic_lights(out: Path, screen: Screen, size: tuple[int, int] | None) -> dict[str, list[Round]]:
    """Both arms start from the same labels; then each runs its own rounds in its own workspace."""
    screen.say("[bold]traffic_lights[/bold]: 1,484 real crops, 44 of them yellow; 100 labels to request")
    catalog = Catalog.create(out / "traffic_lights")
    baseline = out / "traffic_lights-random"
    with screen.stages():
        ingest(catalog, Dataset.load(DATASETS / "traffic_lights"), author=AUTHOR, progress=screen.tell)
        with catalog.read() as now:
            loop = Loop(recipe=Recipe.of("efficientnet_lite0", size=size or fitted_size(now)))
        mined = list(run_loop(catalog, loop, author=AUTHOR, progress=screen.tell))
    screen.say("  the same, with every label requested at random")
    with screen.stages():
        ingest(Catalog.create(baseline), Dataset.load(DATASETS / "traffic_lights"), author=AUTHOR, progress=screen.tell)
        _share_embeddings(catalog.home, baseline)
        at_random = list(
            run_loop(Catalog.open(baseline), replace(loop, random_share=1.0), author=AUTHOR, progress=screen.tell)
        )
    return {"mined": mined, "random": at_random}


def _share_embeddings(source: Path, home: Path) -> None:
    """Copy the features: they depend only on the images, so both arms share them."""
    shutil.copytree(source / "embeddings", home / "embeddings", dirs_exist_ok=True)


def _streets(out: Path, screen: Screen, images: int, draws: int) -> list[Round]:
    catalog = Catalog.create(out / "streets")
    loop = Loop(
        rounds=1, start=0, budget=1_000, recipe=Recipe.of("small"), first_draws=draws, draws=24_000,
        policy=Policy.load(DATASETS / "streets" / "policy.toml"),
    )  # fmt: skip
    with screen.stages():
        dataset = Dataset.load(DATASETS / "streets").with_reader({"images": images})
        ingest(catalog, dataset, author=AUTHOR, progress=screen.tell)
        return list(run_loop(catalog, loop, author=AUTHOR, progress=screen.tell))


def _tasks_table(rounds: list[Round]) -> object:
    """One row per task and rare slice on test, before and after a round of label requests."""
    rows = []
    for figure in rounds[-1].figures:
        if figure["split"] == "test" and (not figure["slice"] or figure["slice"] in rounds[0].found):
            before = rounds[0].figure(figure["task"], figure["slice"])
            named = [figure["task"], figure["slice"] or "(all)", figure["n"], figure["metric"]]
            rows.append([*named, interval(before), interval(figure)])
    columns = ["task", "slice", "n", "metric", "imported labels", f"and {rounds[-1].labels:,} requested"]
    return table("Streets, one network for all tasks (test, 95% intervals)", columns, rows)


def _street_signs(out: Path, screen: Screen, results: Console, images: int, draws: int) -> list[Path]:
    """A sign detector, a sign parser, a detector of what moves and a speed predictor in one network, and its report."""
    from samplers.pack.pack_writer import make_pack  # loads scipy
    from samplers.plan.build import make_plan
    from training.evaluation.evaluation import evaluate  # loads torch, as the next
    from training.loop.trainer import train

    screen.say("\n[bold]street_signs[/bold]: signs and which they are, what moves, and how fast the car drives")
    catalog, folder = Catalog.create(out / "street_signs"), DATASETS / "street_signs"
    step = f"demo:{images}:{draws}"
    with screen.stages():
        if not catalog.has(step):
            dataset = Dataset.load(folder).with_reader({"images": images})
            ingest(catalog, dataset, author=AUTHOR, progress=screen.tell)
            pack = make_pack(catalog, progress=partial(screen.tell, "pack"))
            plan = make_plan(catalog, Policy.load(folder / "policy.toml"), pack, draws=draws)
            recipe = Recipe.load(folder / "recipe.toml")
            run = train(recipe, plan, catalog, progress=lambda done, total, loss: screen.tell("train", done, total))
            evaluate(run, catalog, author=AUTHOR, batch=step, progress=partial(screen.tell, "evaluate"))
        with catalog.read() as now:
            last = now.runs()["run"][-1].as_py()
            figures = [row for row in now.runs.slice_errors(last).to_pylist() if _of_test(row)]
    results.print(_four_table({(row["task"], row["metric"]): row for row in figures}))
    with screen.stages():
        return [write_report(catalog, last, out / "street_signs.html", title="Street signs")]


FOUR = {
    "sign detector: AP50": ("signs", "ap50"),
    "sign parser: accuracy, boxes given, 32 signs": ("signs", "sign_kind:accuracy"),
    "road users: AP50": ("road_users", "ap50"),
    "moving or standing: accuracy, boxes given": ("road_users", "moving:accuracy"),
    "speed: mean absolute error in km/h": ("speed", "mae"),
}


def _of_test(figure: dict[str, Any]) -> bool:
    return (figure["slice"], figure["split"]) == ("", "test")


def _four_table(figures: dict[tuple[str, str], dict[str, Any]]) -> object:
    """One row for each of the four tasks, and for road users as they are found."""
    rows = [[what, figures[cell]["n"], interval(figures[cell])] for what, cell in FOUR.items()]
    return table("Street signs, four tasks in one network (test, 95% intervals)", ["task", "n", "figure"], rows)


if __name__ == "__main__":
    run_and_leave(lambda: guarded(lambda: demo.main(prog_name="python -m amber.demo", standalone_mode=False)))
