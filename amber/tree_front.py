"""A comparison of trees as tables, and as a folder with a picture of the front and all figures."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group

from amber.compare_trees import ComparedTree, TreeComparison, TreeFigure
from amber.terminal import table
from curation.errors import BadInput
from curation.files.atomic import whole
from training.evaluation.paired import Estimate
from training.report.formatting import FEW

__all__ = ["comparison_tables", "refuse_foreign", "write_comparison"]

PICTURE, FIGURES, RECIPE = "front.svg", "figures.json", "recipe.toml"


def refuse_foreign(folder: Path) -> None:
    """BadInput for a folder that holds anything but an earlier comparison: writing replaces it."""
    if folder.exists():
        held = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
        if other := sorted(held - {PICTURE, FIGURES, RECIPE}):
            raise BadInput(f"--out {folder}: holds {other[0]}, which is no part of a comparison; name a new folder")


def write_comparison(
    folder: Path, comparison: TreeComparison, *, more: Mapping[str, Any] | None = None, recipe: str = ""
) -> Path:
    """Write front.svg and figures.json into `folder`, both or neither; returns `folder`.

    `more` are further entries of figures.json; a `recipe` becomes recipe.toml.
    """
    refuse_foreign(folder)
    with whole(folder) as part:
        part.mkdir()
        (part / FIGURES).write_text(json.dumps(asdict(comparison) | dict(more or {}), indent=1))
        if recipe:
            (part / RECIPE).write_text(recipe)
        _draw(comparison, part / PICTURE)
    return folder


def comparison_tables(comparison: TreeComparison) -> Group:
    """What each tree costs and scores; and each (task, slice), with every tree's difference from the first."""
    first = comparison.trees[0].tree
    what = f"{comparison.split}, {len(comparison.seeds)} seeds"
    frozen = f"; and {_count(comparison.frozen_macs)} of the frozen trunk for all" if comparison.frozen_macs else ""
    trees = [
        [tree.tree, f"{tree.parameters:,}", _count(tree.macs), f"{tree.milliseconds:.2f}", f"{tree.score:.3f}",
         _gap(tree.gap), "yes" if tree.front else "no"]
        for tree in comparison.trees
    ]  # fmt: skip
    columns = ["tree", "parameters", "MACs", "ms an image", "score", f"minus {first} [95%]", "on the front"]
    cells: dict[tuple[str, str], list[TreeFigure]] = {}
    for figure in comparison.figures:
        cells.setdefault((figure.task, figure.slice), []).append(figure)
    rows: list[list[Any]] = [
        [task, slice_ or "(all)", figures[0].metric, figures[0].n, figures[0].groups, _number(figures[0].value),
         *(_beside(figure) for figure in figures[1:])]
        for (task, slice_), figures in cells.items()
    ]  # fmt: skip
    others = [f"{tree.tree} (minus {first} [95%])" for tree in comparison.trees[1:]]
    return Group(
        table(f"Trees on {what} (score: mean of tasks; MACs of one image{frozen})", columns, trees),
        table("Figures (mae: less is better)", ["task", "slice", "metric", "n", "groups", first, *others], rows),
    )


def _beside(figure: TreeFigure) -> str:
    gap = "too little data" if figure.n < FEW else _gap(figure.gap)
    return f"{_number(figure.value)} ({gap})"


def _gap(gap: Estimate | None) -> str:
    """A difference with its interval; empty for the first tree, which has none."""
    if gap is None:
        return ""
    return f"{gap.value:+.3f}" + ("" if gap.low is None else f" [{gap.low:+.3f}, {gap.high:+.3f}]")


def _number(value: float) -> str:
    return f"{value:.3f}"


def _count(macs: float) -> str:
    """Multiply-accumulate operations, in thousands or millions.

    >>> _count(1_450_000), _count(36_000), _count(240)
    ('1.45M', '36k', '0.24k')
    """
    return f"{macs / 1e6:,.3g}M" if macs >= 1e6 else f"{macs / 1e3:.3g}k"


def _draw(comparison: TreeComparison, path: Path) -> None:
    """The score of each tree against its operations, and the front through those that no other beats at both."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    first = comparison.trees[0]
    for tree in comparison.trees:
        low, high = _edges(first, tree)
        axes.errorbar(
            tree.macs, tree.score, [[tree.score - low], [high - tree.score]], fmt="o" if tree.front else "s",
            color="#00798c" if tree.front else "#d1495b", capsize=3,
        )  # fmt: skip
        axes.annotate(tree.tree, (tree.macs, tree.score), xytext=(7, 5), textcoords="offset points")
    front = sorted((tree for tree in comparison.trees if tree.front), key=lambda tree: tree.macs)
    axes.step([tree.macs for tree in front], [tree.score for tree in front], where="post", color="#00798c", alpha=0.4)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda macs, _: _count(macs)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.2, y=0.15)
    frozen = f" (and {_count(comparison.frozen_macs)} of the frozen trunk)" if comparison.frozen_macs else ""
    axes.set(
        xlabel=f"multiply-accumulate operations of an image{frozen}", ylabel="score, mean of tasks",
        title=f"Trees on {comparison.split}, {len(comparison.seeds)} seeds; "
        f"bars: 95% interval of the difference from {first.tree}",
    )  # fmt: skip
    axes.title.set_fontsize(10)
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, format="svg")


def _edges(first: ComparedTree, tree: ComparedTree) -> tuple[float, float]:
    """The interval of a tree's difference, around the score of the first; the score itself without one."""
    if tree.gap is None or tree.gap.low is None or tree.gap.high is None:
        return tree.score, tree.score
    return first.score + tree.gap.low, first.score + tree.gap.high
