"""Random histories: at every commit, current labels equal those of the rule written in plain Python.

Labels of every kind by several people and sources, retractions, unsure labels, and classes that are added, renamed,
merged, split, reordered or dropped; folded at random moments, and read before and after a compaction.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import pyarrow as pa
import pytest

from curation import Catalog, Task
from curation.catalog import current_labels
from curation.catalog.box_agreement import agreed_boxes
from curation.catalog.event_tables import LABELS
from curation.catalog.snapshot import Snapshot

SAMPLES = 6
TASKS = [
    Task(name="car", kind="binary", owner="ada"),
    Task(name="color", kind="categorical", classes=("a", "b", "c"), owner="ada"),
    Task(name="seen", kind="multilabel", classes=("a", "b", "c"), owner="ada"),
    Task(name="speed", kind="regression", unit="km/h", metric="mae", tolerance=1.0, owner="ada"),
    Task(name="things", kind="detection", classes=("a", "b"), owner="ada"),
]
PEOPLE = {"human": ["ada", "bob", "eve"], "oracle": ["o"], "import": ["v", "w"], "model": ["m"]}
RANKS = {"human": 0, "oracle": 0, "import": 1, "model": 2}
ATTRIBUTES: dict[str, list[Any]] = {"night": [True, False], "weather": ["rain", "fog"], "lux": [0.5, 2.0]}


@dataclass(frozen=True, kw_only=True)
class Event:
    """One label event: `value` is a class, classes, a number or boxes, in the class names of its time."""

    turn: int
    commit: int
    task: str
    sample: int
    annotator: int
    source: str
    state: str
    value: Any


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A task from one turn on, and the new names of its earlier classes."""

    turn: int
    commit: int
    task: Task
    moved: dict[str, str | None]


@dataclass
class History:
    """What was done to a catalog, in turns; each commit has one or more turns."""

    random: Random
    turn: int = 0
    events: list[Event] = field(default_factory=list)
    definitions: dict[str, list[Definition]] = field(default_factory=dict)
    annotators: list[tuple[str, str]] = field(default_factory=list)
    attributes: list[tuple[int, str, int, Any]] = field(default_factory=list)

    def task(self, name: str, commit: int) -> Task | None:
        """The definition of a task at `commit`."""
        held = [part.task for part in self.definitions[name] if part.commit <= commit]
        return held[-1] if held else None

    def now(self, name: str) -> Task:
        """The newest definition of a task."""
        return self.definitions[name][-1].task


# The rule, in plain Python


def answers(history: History, name: str, commit: int) -> dict[int, tuple[Any, ...]]:
    """(state, code, number, codes, boxes, source) of each sample that has a current label."""
    task = history.task(name, commit)
    found = {}
    for sample in range(SAMPLES):
        newest = {e.annotator: e for e in history.events if (e.task, e.sample) == (name, sample) and e.commit <= commit}
        claims = [(event, meaning(history, event, commit)) for event in newest.values()]
        counted = [(event, value) for event, value in claims if value is not None]
        if counted:
            assert task is not None
            found[sample] = resolved(task, counted)
    return found


def meaning(history: History, event: Event, commit: int) -> Any:
    """The value of an event at `commit`: None (no label), "unsure", a class, a set of classes, a number, or boxes."""
    if event.state != "known":
        return "unsure" if event.state == "unsure" else None
    value = event.value
    for part in history.definitions[event.task]:
        if event.turn < part.turn and part.commit <= commit:
            value = moved(value, part.moved)
    return value


def moved(value: Any, names: dict[str, str | None]) -> Any:
    """A value after its classes are renamed; None when one of them no longer exists."""
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, frozenset):
        now = {moved(name, names) for name in value}
        return None if None in now else frozenset(now)
    if isinstance(value, list):
        boxes = [{**box, "class": moved(box["class"], names)} for box in value]
        return None if any(box["class"] is None for box in boxes) else boxes
    return value


def resolved(task: Task, claims: list[tuple[Event, Any]]) -> tuple[Any, ...]:
    """The current label that several labels give."""
    best = min(RANKS[event.source] for event, _ in claims)
    votes = [(event, value) for event, value in claims if RANKS[event.source] == best]
    groups: dict[tuple[int, int], list[tuple[Event, Any]]] = {}
    for event, value in sorted(votes, key=lambda vote: (vote[0].commit, vote[0].annotator)):
        known = event.state == "known"
        code = task.classes.index(value) if known and task.kind in ("binary", "categorical") else -1
        groups.setdefault((1 if known else 2, code), []).append((event, value))
    (state, code), most = min(groups.items(), key=lambda group: (-len(group[1]), *group[0]))
    source = min(event.source for event, _ in most)
    doubt = (2, None, None, None, None, source)
    if state == 2 or 2 * len(most) <= len(votes):
        return doubt
    values = [value for _, value in most]
    if task.kind == "regression":
        together = max(values) - min(values) <= task.tolerance
        return (1, None, median(values), None, None, source) if together else doubt
    if task.kind == "multilabel":
        times = Counter(name for value in values for name in value)
        if any(2 * count == len(values) for count in times.values()):
            return doubt
        codes = sorted(task.classes.index(name) for name, count in times.items() if 2 * count > len(values))
        return 1, None, None, codes, None, source
    if task.kind == "detection":
        drawings = [[coded(task, box) for box in boxes] for boxes in values]
        boxes = drawings[0] if len(drawings) == 1 else agreed_boxes(drawings)
        return doubt if boxes is None else (1, None, None, None, boxes, source)
    return 1, code, None, None, None, source


def coded(task: Task, box: dict[str, Any]) -> dict[str, Any]:
    return {"code": task.classes.index(box["class"]), **{side: box[side] for side in "xywh"}, "attributes": None}


# Histories


def grow(catalog: Catalog, history: History, commits: int) -> None:
    """Some random commits, with a compaction now and then."""
    for _ in range(commits):
        with catalog.commit(author="ada", message="more") as change:
            for _ in range(history.random.randint(1, 3)):
                history.turn += 1
                history.random.choice([label, label, label, redefine, describe])(change, history)
        if history.random.random() < 0.15:
            catalog.compact()


def label(change: Any, history: History) -> None:
    """Labels of one source; each annotator labels a (task, sample) at most once in a commit."""
    random, source = history.random, history.random.choice(list(PEOPLE))
    cells = [(task.name, sample, who) for task in TASKS for sample in range(SAMPLES) for who in PEOPLE[source]]
    given = {
        (e.task, e.sample, history.annotators[e.annotator][0]) for e in history.events
        if e.commit == change.id and e.source == source
    }  # fmt: skip
    rows = []
    for name, sample, who in sorted(set(random.sample(cells, random.randint(1, len(cells) // 2))) - given):
        state = random.choices(["known", "unsure", "retracted"], [8, 1, 1])[0]
        value = random_value(random, history.now(name)) if state == "known" else None
        rows.append((name, sample, who, state, value))
    history.annotators += [
        (who, source) for who in sorted({row[2] for row in rows}) if (who, source) not in history.annotators
    ]
    for name, sample, who, state, value in rows:
        history.events.append(
            Event(turn=history.turn, commit=change.id, task=name, sample=sample, source=source, state=state,
                  annotator=history.annotators.index((who, source)), value=value)
        )  # fmt: skip
    table = pa.Table.from_pylist([as_row(*row) for row in rows], LABELS)
    assert change.add_labels(table, source=source) == len(rows)


def random_value(random: Random, task: Task) -> Any:
    """A value of the task's kind, from so few that people often agree."""
    if task.kind == "regression":
        return random.randint(0, 4) / 2
    if task.kind == "multilabel":
        return frozenset(random.sample(task.classes, random.randint(0, 2)))
    if task.kind == "detection":
        corners = [(0.0, 0.0), (1.0, 0.0), (20.0, 20.0)]
        return [
            {"class": random.choice(task.classes), "x": x, "y": y, "w": 10.0, "h": 10.0}
            for x, y in random.sample(corners, random.randint(0, 2))
        ]
    return random.choice(task.classes)


def as_row(task: str, sample: int, annotator: str, state: str, value: Any) -> dict[str, Any]:
    return {
        "key": f"s{sample}", "task": task, "state": state, "annotator": annotator,
        "text": value if isinstance(value, str) else None,
        "number": value if isinstance(value, float) else None,
        "names": sorted(value) if isinstance(value, frozenset) else None,
        "boxes": value if isinstance(value, list) else None,
    }  # fmt: skip


def redefine(change: Any, history: History) -> None:
    """Redefine one task: classes are added, renamed, merged, split, dropped, swapped, or only reordered."""
    random = history.random
    old = history.now(random.choice(["color", "seen", "speed", "things"]))
    if history.definitions[old.name][-1].commit == change.id:
        return
    if old.kind == "regression":
        new, names = old.model_copy(update={"tolerance": random.choice([0.0, 0.5, 1.0])}), {}
    else:
        names = random_moves(random, old.classes)
        kept = {names.get(name, name) for name in old.classes} - {None}
        fresh = {name for name in (f"n{history.turn}", "d", "e") if random.random() < 0.3}
        classes = sorted({str(name) for name in kept} | fresh | ({"a", "b"} if len(kept | fresh) < 2 else set()))
        new = old.model_copy(update={"classes": tuple(random.sample(classes, len(classes)))})
    change.redefine_task(new, names)
    history.definitions[old.name].append(Definition(turn=history.turn, commit=change.id, task=new, moved=names))


def random_moves(random: Random, classes: tuple[str, ...]) -> dict[str, str | None]:
    """New names of some classes."""
    one, other = random.sample(classes, 2) if len(classes) > 1 else (classes[0], "z")
    return random.choice(
        [{}, {one: f"{one}x"}, {one: None}, {one: other}, {one: other, other: one}, {one: "z", other: "z"}]
    )


def describe(change: Any, history: History) -> None:
    """One attribute of some samples, at most once in a commit."""
    name = history.random.choice(list(ATTRIBUTES))
    given = {sample for commit, other, sample, _ in history.attributes if (commit, other) == (change.id, name)}
    chosen = sorted(set(history.random.sample(range(SAMPLES), 3)) - given)
    values = [history.random.choice(ATTRIBUTES[name]) for _ in chosen]
    history.attributes += [(change.id, name, sample, value) for sample, value in zip(chosen, values, strict=True)]
    type_ = pa.array(ATTRIBUTES[name]).type
    change.add_attributes(
        pa.table({"key": pa.array([f"s{sample}" for sample in chosen], pa.string()), name: pa.array(values, type_)})
    )


def begun(folder: Path, random: Random) -> tuple[Catalog, History]:
    """A catalog with tasks and samples, the first of which has a value of every attribute."""
    catalog, history = Catalog.create(folder), History(random=random)
    facts = {"location": "", "sha256": "", "phash": 0, "format": "JPEG", "width": 48, "height": 48, "bytes": 1}
    with catalog.commit(author="ada", message="begin") as change:
        change.add_tasks(TASKS)
        change.add_samples(pa.Table.from_pylist([{"key": f"s{i}", **facts} for i in range(SAMPLES)]), dataset="d")
        for name in ATTRIBUTES:
            change.add_attributes(pa.table({"key": ["s0"], name: ATTRIBUTES[name][:1]}))
            history.attributes.append((change.id, name, 0, ATTRIBUTES[name][0]))
    history.definitions = {task.name: [Definition(turn=0, commit=1, task=task, moved={})] for task in TASKS}
    return catalog, history


# The comparison


def differing(now: Snapshot, history: History) -> Iterator[tuple[int, str, Any, Any]]:
    """(commit, task or attribute, found, expected) for every difference at any commit."""
    for commit in range(1, now.commit + 1):
        then = now.earlier(commit)
        for name in [task.name for task in TASKS]:
            columns = ("state", "code", "number", "codes", "boxes", "source")
            found = {row["sample_id"]: tuple(row[c] for c in columns) for row in then.labels(name).to_pylist()}
            expected = answers(history, name, commit)
            if found != expected:
                yield commit, name, found, expected
            assert then.task(name) == history.task(name, commit)
        for name in ATTRIBUTES:
            held = {row["sample_id"]: row["value"] for row in then.attribute(name).to_pylist()}
            expected = {s: value for at, other, s, value in history.attributes if other == name and at <= commit}
            if held != expected:
                yield commit, name, held, expected


@pytest.mark.parametrize("patience", [6, 100_000])
@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(4, 200))])
def test_current_labels_equal_the_rule_at_every_commit(
    seed: int, patience: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With little patience a commit folds by itself; with much patience only a compaction does."""
    monkeypatch.setattr(current_labels, "PATIENCE", patience)
    catalog, history = begun(tmp_path / "home", Random(seed))
    grow(catalog, history, commits=12)
    for _ in range(2):
        with catalog.read() as now:
            assert list(differing(now, history)) == []
        catalog.compact()
