"""The picture and the page of a lineage: one box for each run, oldest first, with its plans beside it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from training.dynamics.lineage import Lineage, LineagePlan, Link
from training.report.page import write_page

__all__ = ["lineage_view", "write_lineage"]

LINE: Final = 17
"""Height of a line of text, in units of the picture."""
GAP: Final = 34
LEFT, PLAN_WIDTH, RUN_LEFT, RUN_WIDTH = 8, 300, 348, 420
LETTERS: Final = {"plan": 44, "run": 62}
"""Letters of a line that fit into a box."""

View = dict[str, Any]


def write_lineage(lineage: Lineage, path: Path, marks: Mapping[str, Sequence[str]] | None = None) -> Path:
    """Write one self-contained HTML file with the picture and the tables of a lineage; returns `path`.

    `marks` are further lines about runs, such as that one was released.
    """
    write_page(path, "lineage.html", lineage_view(lineage, marks or {}))
    return path


def lineage_view(lineage: Lineage, marks: Mapping[str, Sequence[str]]) -> View:
    """What the page shows, as plain values."""
    plans = {plan.plan: plan for plan in lineage.plans}
    boxes = list(_boxes(lineage, plans, marks))
    return {
        "title": f"Lineage of run {lineage.run}", "run": lineage.run, "boxes": boxes, "broken": lineage.broken,
        "arrows": list(_arrows(lineage, boxes)), "links": lineage.links, "plans": lineage.plans,
        "marks": {link.run: list(marks.get(link.run, ())) for link in lineage.links},
        "width": RUN_LEFT + RUN_WIDTH + 24 * (1 + len(lineage.links)), "height": boxes[-1]["bottom"] + LEFT,
        "frame": {"plan": (LEFT, PLAN_WIDTH), "run": (RUN_LEFT, RUN_WIDTH), "line": LINE},
    }  # fmt: skip


def _boxes(lineage: Lineage, plans: Mapping[str, LineagePlan], marks: Mapping[str, Sequence[str]]) -> Iterator[View]:
    """The two boxes of each link: their top, height and lines of text."""
    top = LEFT
    for link in lineage.links:
        texts = {"run": list(_run_lines(link, marks.get(link.run, ()))), "plan": list(_plan_lines(link, plans))}
        height = LINE * (1 + max(map(len, texts.values())))
        lines = {name: [(text, _cut(text, LETTERS[name])) for text in found] for name, found in texts.items()}
        yield {"run": link.run, "state": link.state, "top": top, "height": height, "bottom": top + height, **{
            f"{name}_lines": found for name, found in lines.items()}}  # fmt: skip
        top += height + GAP


def _run_lines(link: Link, marks: Sequence[str]) -> Iterator[str]:
    yield f"run {link.run}" + (f" ({link.state})" if link.state else "")
    if link.how:
        yield ", ".join(link.how)
        yield f"trunk {link.trunk}"
        yield f"learned: {', '.join(link.learned) or 'none'}"
    if link.distilled:
        yield f"distilled: {', '.join(link.distilled)}"
    if link.frozen:
        yield f"frozen: {', '.join(link.frozen)}"
    if link.author:
        yield f"evaluated by {link.author} in commit {link.evaluated}"
    yield from marks


def _plan_lines(link: Link, plans: Mapping[str, LineagePlan]) -> Iterator[str]:
    for hash_ in dict.fromkeys(name for name in (link.plan, *link.course) if name):
        plan = plans[hash_]
        yield f"plan {hash_[:12]}" + (f" ({plan.state})" if plan.state else "")
        if plan.parent:
            yield f"continues {plan.parent[:12]} at draw {plan.position:,}"
        if plan.draws:
            yield f"commit {plan.commit}, {plan.draws:,} draws, policy {plan.policy}"
            yield f"by {plan.by or 'unknown'}" + (f"; signed by {', '.join(plan.signed)}" if plan.signed else "")


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def _arrows(lineage: Lineage, boxes: Sequence[View]) -> Iterator[View]:
    """The path of each arrow between runs: straight to the next box, around the boxes between to a later one."""
    rows = {box["run"]: number for number, box in enumerate(boxes)}
    middle, right = RUN_LEFT + RUN_WIDTH // 2, RUN_LEFT + RUN_WIDTH
    for edge in lineage.edges():
        if edge.kind not in ("weights", "features"):
            continue
        start, end = rows[edge.source], rows[edge.target]
        if end == start + 1:
            at = middle + (40 if edge.kind == "features" else 0)
            path = f"M{at} {boxes[start]['bottom']}V{boxes[end]['top'] - 3}"
        else:
            first, last = (boxes[row]["top"] + boxes[row]["height"] // 2 for row in (start, end))
            out = right + 24 * (end - start)
            path = f"M{right} {first}C{out} {first} {out} {last} {right + 3} {last}"
        yield {"kind": edge.kind, "path": path, "source": edge.source, "target": edge.target}
