"""The verb `amber simulate`."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from rich.console import Group

from amber.extras import need_extra
from amber.loop import Loop
from amber.replayed_data import Simulation
from amber.simulate import ARMS, simulate
from amber.simulated_picture import draw, simulated_table
from amber.terminal import Screen, show
from amber.verbs.options import grouped, trunk_option, workspace
from curation.errors import BadInput
from training.recipe import Recipe

__all__ = ["simulate_command"]


@dataclass(frozen=True, kw_only=True)
class SimulateOptions:
    """Options of a simulation."""

    wanted: tuple[str, ...]
    share: float
    wrong: float
    known: float | None
    seeds: int
    arms: tuple[str, ...]
    rounds: int
    budget: int
    start: int
    draws: int
    trunk: str
    picture: Path

    def simulation(self) -> Simulation:
        """The settings; BadInput names the option that breaks a rule."""
        pairs = [wanted.partition("=")[::2] for wanted in self.wanted]
        for wanted, (task, label) in zip(self.wanted, pairs, strict=True):
            if not task or ("=" in wanted) != bool(label):
                raise BadInput(f"--wanted {wanted!r}: must be TASK=CLASS, or TASK for a task of numbers; correct it")
            if task != pairs[0][0] or self.wanted.count(wanted) > 1:
                raise BadInput(f"--wanted {wanted!r}: must be another class of {pairs[0][0]}; correct it")
        loop = Loop(
            rounds=self.rounds, budget=self.budget, start=self.start, draws=self.draws, recipe=Recipe.of(self.trunk)
        )
        return Simulation(
            task=pairs[0][0], labels=tuple(label for _, label in pairs if label), share=self.share, wrong=self.wrong,
            known=self.known, fitted=True, loop=loop,
        )  # fmt: skip


simulate_options = grouped(
    "options", SimulateOptions,
    click.option(
        "--wanted", required=True, multiple=True, metavar="TASK=CLASS",
        help="The class to make rare and to look for; again for further classes of the task. TASK alone for numbers.",
    ),
    click.option("--share", default=0.01, show_default=True, help="Its share of the training pool, by thinning."),
    click.option("--wrong", default=0.05, show_default=True, help="Share of the answers that are wrong."),
    click.option("--known", type=float, help="Share of each task's labels that is known at the start, not --start."),
    click.option("--seeds", default=5, show_default=True, type=click.IntRange(min=1), help="How many seeds."),
    click.option(
        "--strategy", "--arm", "arms", multiple=True, default=tuple(ARMS), show_default=True,
        type=click.Choice(tuple(ARMS)), help="How labels are chosen; again for others.",
    ),
    click.option("--rounds", default=5, show_default=True, help="Rounds after the first training."),
    click.option("--budget", default=60, show_default=True, help="Labels to request per round."),
    click.option("--start", default=200, show_default=True, help="Labels drawn at random before the first training."),
    click.option("--draws", default=6_400, show_default=True, help="Draws in the plan of each round."),
    trunk_option,
    click.option(
        "--picture", default="simulation.png", show_default=True, type=click.Path(path_type=Path),
        help="Picture of the curves to write (.png or .svg).",
    ),
)  # fmt: skip


@click.command("simulate")
@click.argument("dataset", type=click.Path(path_type=Path))
@simulate_options
@workspace
def simulate_command(dataset: Path, options: SimulateOptions, home: str, as_json: bool) -> None:
    """Run the loop on the data set declared in the folder DATASET, whose labels are all known, as if they were not.

    Labels are held back, a share is made wrong, and the wanted classes are thinned. Strategies start alike and differ
    in what they request; "mined" is Amber's. Prints one table and writes one picture. Workspaces are temporary folders
    beside the workspace; the catalog in it is not touched.
    """
    need_extra("train")
    simulation, screen = options.simulation(), Screen(quiet=as_json)
    parent = Path(home).absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="simulation-", dir=parent) as folder, screen.stages():
        points = list(
            simulate(
                dataset, Path(folder), simulation, seeds=range(options.seeds), arms=options.arms, progress=screen.tell
            )
        )
    wrong = f"{simulation.wrong:.0%} wrong answers"
    rare = f" at {simulation.share:.1%}" if simulation.labels else ""
    title = f"{', '.join(options.wanted)}{rare}, {wrong}, {options.seeds} seeds"
    picture = draw(title, points, options.picture)
    rows = [{name: None if value != value else value for name, value in vars(point).items()} for point in points]
    shown: dict[str, Any] = {"points": rows, "picture": str(picture)}
    show(shown, as_json, lambda: Group(simulated_table(title, points), f"picture: {picture}"))
