"""Draws the pictures of docs/concepts.md: `python tests/support/concept_pictures.py` writes them into docs/images.

What they show is computed: the plan, its draws and weights are those of a small workspace of drawn pictures, and the
states those of the trainer. Each picture has a light ground of its own, so it reads the same on a dark page, and is
narrow, so it reads on a phone.
"""

import tempfile
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path

import numpy as np
from support.homes import make_home

from samplers import Plan, Policy, make_pack, make_plan
from training.loop.states import STATES

__all__ = ["FOLDER", "pictures"]

FOLDER = Path(__file__).parents[2] / "docs" / "images"
WIDTH = 480
INK, FAINT, PAPER = "#1f2328", "#59636e", "#fbfaf7"
TASKS = {"color": "#0b5c8a", "car": "#a8480c", "bike": "#5a3d8c"}
CLASSES = {"red": "#c62828", "yellow": "#e0a800", "green": "#2e7d32", "false": "#9aa4ae", "true": "#3b4a5a"}
SHARES = {"color": 0.5, "car": 0.3, "bike": 0.2}


class Picture:
    """An SVG of `WIDTH` units, with a title that is read aloud."""

    def __init__(self, title: str, height: int) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
            f'role="img" font-family="system-ui, sans-serif" font-size="15" fill="{INK}">',
            f"<title>{escape(title)}</title>",
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0 0L8 4L0 8z" fill="{FAINT}"/></marker></defs>',
            f'<rect width="{WIDTH}" height="{height}" rx="8" fill="{PAPER}"/>',
        ]

    def text(self, x: float, y: float, words: str, *, fill: str = INK, anchor: str = "start", size: int = 15) -> None:
        """Words whose baseline begins, ends or is centred at a point."""
        self._parts.append(
            f'<text x="{x:g}" y="{y:g}" fill="{fill}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>'
        )

    def box(self, x: float, y: float, width: float, height: float, *, fill: str, edge: str = "none") -> None:
        """A rectangle with round corners."""
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4" fill="{fill}" stroke="{edge}"/>'
        )

    def named(self, x: float, y: float, width: float, name: str, below: str = "", *, fill: str = "#ffffff") -> None:
        """A box with a name and a line of explanation."""
        self.box(x, y, width, 52, fill=fill, edge=FAINT)
        self.text(x + width / 2, y + (22 if below else 31), name, anchor="middle")
        self.text(x + width / 2, y + 42, below, fill=FAINT, anchor="middle", size=13)

    def arrow(self, *points: float, words: str = "") -> None:
        """An arrow along x, y, x, y, ...; its words stand right of its middle."""
        path = " ".join(f"{x:g},{y:g}" for x, y in zip(points[::2], points[1::2], strict=True))
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="{FAINT}" stroke-width="1.5" marker-end="url(#head)"/>'
        )
        if words:
            self.text((points[0] + points[2]) / 2 + 8, (points[1] + points[3]) / 2 + 5, words, fill=FAINT, size=13)

    def done(self) -> str:
        """The picture as text."""
        return "\n".join([*self._parts, "</svg>\n"])


def pictures() -> Iterator[tuple[str, str]]:
    """Name and text of each picture."""
    with tempfile.TemporaryDirectory(prefix="amber-pictures-") as folder:
        plan = _plan(Path(folder))
        drawn: dict[str, Callable[[Plan], str]] = {
            "loop": _loop, "unknown": _unknown, "weights": _weights, "draws": _draws, "states": _states,
        }  # fmt: skip
        yield from ((name, draw(plan)) for name, draw in drawn.items())


def _plan(folder: Path) -> Plan:
    """A plan for three tasks: colours balanced, the two others as they are."""
    catalog = make_home(folder)
    asked = {
        name: {"owner": name, "share": share, "importance": share, "rule": "balanced" if name == "color" else "natural"}
        for name, share in SHARES.items()
    }
    return make_plan(catalog, Policy.model_validate({"task": asked}), make_pack(catalog), draws=400)


def _loop(_: Plan) -> str:
    made = Picture("The loop: from images and labels to label requests, and back", 470)
    left, right, width = 30, 260, 190
    rows = [
        (left, 24, "Catalog", "what is known, by commit"), (right, 24, "Slices", "where it matters"),
        (right, 122, "Policy", "what the owners ask"), (right, 220, "Plan", "draws and weights"),
        (right, 318, "Network", "all tasks at once"), (left, 318, "Errors", "of every task and slice"),
        (left, 220, "Requests", "labels that help most"), (left, 122, "People", "or an oracle"),
    ]  # fmt: skip
    for x, y, name, below in rows:
        made.named(x, y, width, name, below)
    made.arrow(left + width, 50, right, 50)
    for y in (76, 174, 272):
        made.arrow(right + 95, y, right + 95, y + 46)
    made.arrow(right, 344, left + width, 344)
    for y in (318, 220, 122):
        made.arrow(left + 95, y, left + 95, y - 46)
    made.named(left, 400, WIDTH - 60, "Images stay where they are", "read from disk, from a URL, or packed into tars")
    return made.done()


def _unknown(plan: Plan) -> str:
    """The labels of eight images, and the weight of each in the loss."""
    counts = np.bincount(plan.label_sample, minlength=len(plan.keys))
    rows = np.concatenate([np.flatnonzero(counts == known)[:3] for known in (1, 2, 3)])[:8].astype(np.int32)
    values, known, weights = plan.labels(rows)
    made = Picture(
        "Labels of eight images for three tasks; unknown cells have no weight in the loss", 66 + 46 * len(rows)
    )
    for column, task in enumerate(plan.tasks):
        made.text(176 + 112 * column, 34, task.name, anchor="middle", fill=TASKS[task.name])
    for place in range(len(rows)):
        y = 50 + 46 * place
        made.text(20, y + 26, f"image {place + 1}", fill=FAINT)
        for column, task in enumerate(plan.tasks):
            x = 124 + 112 * column
            if known[place, column]:
                word = task.task.classes[int(values[place, column])]
                made.box(x, y, 104, 38, fill="#ffffff", edge=TASKS[task.name])
                made.text(x + 52, y + 17, word, anchor="middle", size=14)
                made.text(x + 52, y + 33, f"weight {weights[place, column]:.2f}", anchor="middle", fill=FAINT, size=13)
            else:
                made.box(x, y, 104, 38, fill="#ecebe6")
                made.text(x + 52, y + 24, "unknown", anchor="middle", fill=FAINT, size=13)
    return made.done()


def _weights(plan: Plan) -> str:
    """For two tasks, the classes among the labels, among the draws, and as their loss sees them."""
    made = Picture("Classes among the labels, in the draws, and in the loss, for two tasks", 372)
    y = 18
    for name, rule in (("color", "asks for balanced classes"), ("car", "asks for the classes as they are")):
        made.text(20, y + 18, name, fill=TASKS[name])
        made.text(78, y + 18, rule, fill=FAINT)
        for row, (what, shares) in enumerate(_class_shares(plan, name).items()):
            made.text(20, y + 52 + 40 * row, what, size=14)
            _stacked(made, 146, y + 34 + 40 * row, shares)
        y += 178
    return made.done()


def _class_shares(plan: Plan, name: str) -> dict[str, dict[str, float]]:
    """Shares of the classes of a task: of its labels, of what is drawn, and of what its loss weighs."""
    code = [task.name for task in plan.tasks].index(name)
    mine = plan.label_task == code
    values = plan.label_value[mine].astype(np.int64)
    drawn = plan.probabilities()[plan.label_sample[mine]]
    masses = {
        "in the labels": np.ones(len(values)),
        "in the draws": drawn,
        "in the loss": drawn * plan.label_weights()[mine],
    }
    classes = plan.tasks[code].task.classes
    return {
        what: dict(zip(classes, (np.bincount(values, mass, len(classes)) / mass.sum()).tolist(), strict=True))
        for what, mass in masses.items()
    }


def _stacked(made: Picture, x: float, y: float, shares: dict[str, float]) -> None:
    """A bar whose parts are labelled with their percentage."""
    for name, share in shares.items():
        width = 314 * share
        made.box(x, y, width, 30, fill=CLASSES[name])
        if width > 60:
            ink = INK if name in ("yellow", "false") else "#ffffff"
            made.text(x + width / 2, y + 20, f"{name} {share:.0%}", anchor="middle", fill=ink, size=13)
        elif width > 30:
            made.text(x + width / 2, y + 20, f"{share:.0%}", anchor="middle", fill=INK, size=13)
        x += width


def _draws(plan: Plan) -> str:
    """The first draws of the plan, by the task for which each is made, and how many of each there are."""
    count, across = 60, 15
    tasks = [task.name for task in plan.tasks]
    made = Picture("The first sixty draws of a plan, by task", 236)
    for position, code in enumerate(plan.draw_task[:count].tolist()):
        x, y = 20 + 30 * (position % across), 44 + 32 * (position // across)
        made.box(x, y, 26, 28, fill=TASKS[tasks[code]])
    made.text(20, 30, "draws 1 to 60, in order", fill=FAINT)
    for place, (name, share) in enumerate(zip(tasks, plan.shares.tolist(), strict=True)):
        got = int((plan.draw_task[:count] == place).sum())
        made.box(20 + 152 * place, 190, 16, 16, fill=TASKS[name])
        made.text(42 + 152 * place, 203, f"{name}: {got} of {count}", size=14)
        made.text(42 + 152 * place, 222, f"share {share:.0%}", fill=FAINT, size=13)
    return made.done()


def _states(_: Plan) -> str:
    """The states of a task while a network learns from draws."""
    learns = ("learns from labels", "no gain; one more look", "keeps its best step", "not learned, still judged")
    made = Picture("States of a task: " + ", ".join(STATES), 430)
    for place, (state, below) in enumerate(zip(STATES, learns, strict=True)):
        made.named(150, 20 + 108 * place, 200, state, below)
    for place, words in enumerate(("no gain for a while", "again no gain", "no gain for a while")):
        made.arrow(250, 72 + 108 * place, 250, 126 + 108 * place, words=words)
    made.arrow(150, 150, 110, 150, 110, 50, 148, 50)
    made.text(116, 105, "a gain", fill=FAINT, size=13)
    made.arrow(350, 370, 400, 370, 400, 262, 352, 262)
    made.text(408, 312, "its loss", fill=FAINT, size=13)
    made.text(408, 328, "rises", fill=FAINT, size=13)
    made.arrow(150, 366, 70, 366, 70, 40, 148, 40)
    made.text(16, 240, "new", fill=FAINT, size=13)
    made.text(16, 256, "labels", fill=FAINT, size=13)
    return made.done()


if __name__ == "__main__":
    for name, text in pictures():
        (FOLDER / f"{name}.svg").write_text(text)
