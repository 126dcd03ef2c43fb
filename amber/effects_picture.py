"""The effects of pairs of tasks as tables and as a picture of task x task, each cell a gain with its interval."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Group

from amber.terminal import table
from curation.files.atomic import whole
from training.dynamics.effects import Effect, Effects

__all__ = ["effects_tables", "write_effects_picture"]

COLOURS = {"synergy": "#00798c", "conflict": "#d1495b", "cannot tell": "#8a8a8a"}


def effects_tables(effects: Effects) -> Group:
    """What each partner (column) does to each task (row), and the pairs in which something is shown."""
    title = (
        f"Gain of each task (row) learned with each other (column), points of {effects.split}, "
        f"{len(effects.seeds)} seeds; +: synergy, -: conflict, ?: cannot tell"
    )
    rows = [
        [task, effects.labels[task], effects.judged[task], effects.groups[task], f"{effects.alone[task]:.1f}",
         *(_cell(effects, task, partner) for partner in effects.tasks)]
        for task in effects.tasks
    ]  # fmt: skip
    columns = ["task", "labels", "judged by", "groups", "alone", *effects.tasks]
    shown = sorted((each for each in effects.effects if each.verdict != "cannot tell"), key=lambda each: -each.gain)
    pairs = [[each.verdict, each.partner, each.task, _span(each)] for each in shown]
    return Group(
        table(title, columns, rows),
        table(
            "Shown, in points with the interval of 95% for all pairs together",
            ["verdict", "learning with", "does to", "gain"], pairs,
        ),
    )  # fmt: skip


def write_effects_picture(effects: Effects, path: Path) -> Path:
    """Draw the task x task picture into `path` (SVG, PNG or PDF by its ending), whole or not at all; returns `path`.

    A filled cell is a synergy or a conflict, an empty one cannot tell; the numbers are the gain and its interval.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    names, count = effects.tasks, len(effects.tasks)
    figure = Figure(figsize=(2.6 + 1.25 * count, 1.6 + 0.8 * count), layout="constrained")
    axes = figure.add_subplot()
    for row, column, each in _cells(effects):
        colour, known = COLOURS[each.verdict], each.verdict != "cannot tell"
        face = colour if known else "none"
        axes.add_patch(Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, facecolor=face, edgecolor=colour))
        ink = "white" if known else "#444444"
        axes.text(column, row - 0.12, f"{each.gain:+.1f}", ha="center", va="center", color=ink, fontsize=11)
        if each.low is not None and each.high is not None:
            text = f"{each.low:+.1f} to {each.high:+.1f}"
            axes.text(column, row + 0.22, text, ha="center", va="center", color=ink, fontsize=7)
    axes.set(
        xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5), xticks=range(count), yticks=range(count),
        xticklabels=names, yticklabels=[f"{name} ({effects.alone[name]:.0f})" for name in names],
        xlabel="learned together with", ylabel="task (points learned alone)",
        title=f"Gain in points of {effects.split}, {len(effects.seeds)} seeds; blue: synergy, red: conflict\n"
        "intervals hold in 95% of cases for all pairs together",
    )  # fmt: skip
    axes.title.set_fontsize(9)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix.removeprefix(".")
    with matplotlib.rc_context({"svg.hashsalt": "effects"}), whole(path) as part:
        figure.savefig(part, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return path


def _cells(effects: Effects) -> Iterator[tuple[int, int, Effect]]:
    for row, task in enumerate(effects.tasks):
        for column, partner in enumerate(effects.tasks):
            if task != partner:
                yield row, column, effects.of(task, partner)


def _cell(effects: Effects, task: str, partner: str) -> Any:
    if task == partner:
        return ""
    each = effects.of(task, partner)
    sign = {"synergy": "+", "conflict": "-", "cannot tell": "?"}[each.verdict]
    return f"{each.gain:+.1f} {sign}"


def _span(each: Effect) -> str:
    return f"{each.gain:+.2f} [{each.low:+.2f}, {each.high:+.2f}]"
