"""`make demo`: the loop on real traffic lights beside the same loop with random requests, then streets.

Streets is a multitask network on rendered images. Run again, the demo reuses its results.
"""

import resource
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import click

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
@click.option("--images", default=20_000, show_default=True, help="Images of streets to render.")
@click.option("--draws", default=96_000, show_default=True, help="Draws of the training from pixels.")
@size_option
def demo(out: Path, images: int, draws: int, size: tuple[int, int] | None) -> None:
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
    results.print(f"reports: {first} and {second}")
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


if __name__ == "__main__":
    sys.argv[0] = "make demo"
    sys.exit(guarded(lambda: demo.main(standalone_mode=False)))
