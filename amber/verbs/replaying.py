"""The verb `amber replay`."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import click
from rich.console import Group

from amber.completion import RUN
from amber.exit_codes import OUTCOMES
from amber.extras import need_extra
from amber.terminal import Screen, show, table
from amber.verbs.options import using_files, workspace
from amber.verbs.runs import HASH
from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from training.run_list import newest_run

if TYPE_CHECKING:
    from training.dynamics.replay import Contribution, Replay, SeedGain

__all__ = ["replay_command"]

CODES = {"differs": OUTCOMES["block"], "cannot tell": OUTCOMES["not enough data"]}


@click.command("replay")
@click.argument("run_", metavar="[RUN]", default="", type=RUN)
@click.option("--without", metavar="LINK", help="Leave out this run of the chain, and show what it contributed.")
@click.option("--flat", "flat", is_flag=True, help="Compare with one training from scratch on the last plan.")
@click.option("--threads", type=click.IntRange(min=1), help="Train on so many threads; default: as each recipe says.")
@click.option(
    "--seeds",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Trainings of both chains, for --without, --flat and --threads: more than one also counts how trainings vary.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where networks learn from draws; auto takes a GPU where there is one.",
)
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Keep the rebuilt workspace in this new folder.")
@workspace
@using_files
def replay_command(
    run_: str, without: str | None, flat: bool, threads: int | None, seeds: int, device: str, folder: Path | None,
    home: str, as_json: bool,
) -> None:  # fmt: skip
    """Rebuild the chain of RUN (default: the newest) in a clean workspace, and say whether it reproduces.

    The catalog is copied, plans are made again from their policies and commits, runs are trained again in order; images
    are read from the shards of this workspace. On one machine every bit should be equal; on another number of threads
    no figure may differ by more than chance, of which --seeds says how large it is. Exit codes: 0 it reproduces, 10 a
    figure differs, 11 no label can tell.

    Example: amber replay RUN --without LINK --seeds 3
    """
    catalog = Catalog.open(home)
    if without and flat:
        raise BadInput("replay: --without and --flat are two questions; give one of them")
    if seeds > 1 and not (without or flat or threads):
        raise BadInput(f"--seeds {seeds}: is for --without, --flat and --threads; leave it out")
    if threads and (without or flat):
        raise BadInput(f"--threads {threads}: is for a replay of the whole chain; leave it out")
    with catalog.read() as now:
        run_ = run_ or newest_run(catalog.home, now)
    need_extra("train")
    from training.loop.ranks import joined

    screen = Screen(quiet=as_json)
    with _clean(folder) as place, screen.stages(), joined(rank=0, world=1, device=device) as ranks:
        from training.dynamics.flattened_mark import FlattenedMark
        from training.dynamics.replay import contribution, flattened, replay

        if without:
            found = contribution(catalog, run_, without, place, seeds=seeds, ranks=ranks, progress=screen.tell)
        elif flat:
            found = flattened(catalog, run_, place, seeds=seeds, ranks=ranks, progress=screen.tell)
            mark = FlattenedMark(
                better=tuple(found.better), worse=tuple(found.worse), split=found.split, seeds=found.seeds
            )
            mark.save(catalog.home, found.run)
        else:
            done = replay(catalog, run_, place, threads=threads, seeds=seeds, ranks=ranks, progress=screen.tell)
            _show_replay(done, folder, as_json)
            return
    _show_contribution(found, folder, as_json)


@contextmanager
def _clean(folder: Path | None) -> Iterator[Path]:
    """The folder of the rebuilt workspace: kept where it was named, otherwise removed at the end."""
    if folder is not None:
        yield folder
        return
    place = Path(mkdtemp(prefix="amber-replay-"))
    try:
        yield place / "home"
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _show_replay(done: "Replay", folder: Path | None, as_json: bool) -> None:
    """Link by link, then the figures; ends with the exit code of the verdict."""
    rows = [[link.run, link.made, link.plan, link.weights, link.sha256[:HASH]] for link in done.links]
    columns = ["run", "rebuilt as", "plan", "weights", "sha256"]
    data = {**asdict(done), "folder": str(folder) if folder else None}
    title = f"Replay of run {done.run}: {done.verdict}"
    last = [f"predictions: {done.predictions}", *done.notes, *([f"workspace {folder}"] if folder else [])]
    if done.gains:
        title_of_gains = f"Other threads: gain over the recipes' own, {done.seeds} seeds, on {done.split}"
        figures = [_gains(title_of_gains, done.gains)]
    else:
        figures = [] if done.predictions == "equal" else [_figures(done.figures, "recorded", "rebuilt", done.split)]
    show(data, as_json, lambda: Group(table(title, columns, rows), *figures, *last))
    if code := CODES.get(done.verdict):
        raise click.exceptions.Exit(code)


def _figures(figures: Any, first: str, second: str, split: str) -> Any:
    from amber.comparison_tables import difference_text

    rows = [
        [part.task, part.slice or "everything", part.measure, part.n, part.groups, difference_text(part), part.p,
         part.verdict]
        for part in figures
    ]  # fmt: skip
    columns = ["task", "slice", "metric", "n", "groups", "difference [95% interval]", "p", "verdict"]
    return table(f"{second} minus {first}, on {split}", columns, rows)


def _show_contribution(found: "Contribution", folder: Path | None, as_json: bool) -> None:
    other = f"without {found.without}" if found.without else "trained from scratch on the last plan"
    data = {
        **asdict(found), "better": found.better, "worse": found.worse, "folder": str(folder) if folder else None,
    }  # fmt: skip
    if found.seeds > 1:
        shown = _gains(
            f"Run {found.run}: gain over the chain {other}, {found.seeds} seeds, on {found.split}", found.gains
        )
    else:
        shown = _figures(found.figures, f"the chain {other}", f"run {found.run}", found.split)
    said = f"better on: {', '.join(found.better) or 'nothing'}; worse on: {', '.join(found.worse) or 'nothing'}"
    doubt = "one seed: the intervals hold for these two networks, not for other trainings (--seeds N)"
    lines = [said, *([doubt] if found.seeds == 1 else []), *([f"workspace {folder}"] if folder else [])]
    show(data, as_json, lambda: Group(shown, *lines))


def _gains(title: str, gains: "Sequence[SeedGain]") -> Any:
    rows = [
        [row.task, row.metric, row.n, _gain_text(row.gain.value, row.gain.low, row.gain.high, row.unit)]
        for row in gains
    ]  # fmt: skip
    return table(title, ["task", "metric", "n", "gain [95% interval]"], rows)


def _gain_text(value: float, low: float | None, high: float | None, unit: str) -> str:
    ends = "" if low is None or high is None else f" [{low:+.2f}, {high:+.2f}]"
    return f"{value:+.2f}{ends} {unit}"
