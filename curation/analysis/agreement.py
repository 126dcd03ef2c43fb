"""How far annotators agree on a task, and how each of them errs.

The newest statement of each annotator counts, whether it is the current label or not; unsure ones are counted, but are
no class. Two statements agree when they say the same class, numbers within the task's tolerance, or the same set of
classes (of boxes: of classes that have one). Alpha is nominal for classes and interval for numbers; where a label holds
several classes it is the mean of the alpha of each, of whether it was said or, of boxes, of how many there are.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.analysis.alpha import disagreement
from curation.analysis.annotator_labels import Opinions
from curation.analysis.dawid_skene import Fitted, fit
from curation.catalog.schema import UNSURE
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task

__all__ = ["Agreement", "Annotator", "Circle", "Pair", "agreement", "people_agree"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

PEOPLE: Final = "human"
BIASES: Final = 5
"""Classes that are named of an annotator's bias: the largest."""
CONFUSABLE: Final = 100
"""Classes of which Dawid and Skene are fitted at most: ten thousand chances of an annotator need that many labels."""
DISPUTED: Final = pa.schema([("sample_id", pa.int64()), ("class", pa.string()), ("chance", pa.float64())])


@dataclass(frozen=True, kw_only=True)
class Circle:
    """Annotators that are compared: everyone, people, or another source against what most people say.

    `statements` are of the `samples` that two or more of them labelled; `agreement` is the share of pairs that agree;
    `by_class` holds the alpha of each class where a label holds several. None: nothing to compare, or no variety.
    """

    name: str
    samples: int
    statements: int
    agreement: float | None
    alpha: float | None
    by_class: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Annotator:
    """One annotator: statements, how many are `shared` with one of `others`, and how they compare.

    `majority` is the share that agrees with what most of the others say, where most say one thing; of numbers, with
    their mean. `bias` is how much more often a class is said than by the others of the same samples; of numbers, and of
    how many classes or boxes, how much more. `accuracy` and `confusion` ({true: {said: chance}}) are Dawid and Skene's;
    None for numbers, several classes in a label, more than a hundred classes, and without others.
    """

    name: str
    source: str
    labels: int
    unsure: int
    shared: int
    others: int
    majority: float | None
    bias: dict[str, float]
    accuracy: float | None
    confusion: dict[str, dict[str, float]] | None


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two annotators: samples that both labelled, and on how many they agree."""

    one: str
    other: str
    both: int
    same: int


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Agreement on one task. `disputed` (sample_id, class, chance) holds the samples of which annotators disagree, with
    the class that Dawid and Skene find likeliest (null where they are not fitted), the least certain first."""

    task: str
    circles: tuple[Circle, ...]
    annotators: tuple[Annotator, ...]
    pairs: tuple[Pair, ...]
    disputed: pa.Table

    def row(self) -> dict[str, object]:
        """The whole as plain values."""
        parts = {name: [asdict(part) for part in getattr(self, name)] for name in ("circles", "annotators", "pairs")}
        return {"task": self.task, **parts, "disputed": self.disputed.to_pylist()}


def agreement(now: Snapshot, task: str) -> Agreement:
    """How far the annotators of one task agree at this snapshot; NotFound when there is no such task."""
    definition, statements = now.task(task), now.labels.by_annotator(task)
    names, annotator = _people(statements)
    unsure = annotator[np.asarray(pc.equal(statements["state"], UNSURE), np.bool_)]
    said = Opinions.of(definition, statements, annotator)
    shared = said.shared()
    fitted = _fitted(shared, len(names))
    return Agreement(
        task=task,
        circles=tuple(_circles(said, [source for source, _ in names])),
        annotators=tuple(_annotators(said, shared, names, np.bincount(unsure, minlength=len(names)), fitted)),
        pairs=tuple(_pairs(shared, [name for _, name in names])),
        disputed=_disputed(shared, fitted),
    )


def people_agree(now: Snapshot, task: str) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Every two statements of people on one sample: its id, and whether they agree."""
    statements = now.labels.by_annotator(task)
    statements = statements.filter(pc.equal(statements["source"], PEOPLE))
    said = Opinions.of(now.task(task), statements, _people(statements)[1])
    samples: list[Ints] = [np.zeros(0, np.int64)]
    agree: list[npt.NDArray[np.bool_]] = [np.zeros(0, np.bool_)]
    for one, other in said.pairs():
        samples.append(said.sample[one])
        agree.append(said.same(one, other))
    return np.concatenate(samples), np.concatenate(agree)


def _people(statements: pa.Table) -> tuple[list[tuple[str, str]], Ints]:
    """Source and name of each annotator, sorted, and who gave each statement."""
    who = pc.binary_join_element_wise(statements["source"], statements["annotator"], "\n")
    names = sorted(pc.unique(who).to_pylist())
    places = pc.index_in(who, value_set=pa.array(names, pa.string()))
    return [(name.split("\n", 1)[0], name.split("\n", 1)[1]) for name in names], np.asarray(places.to_numpy(), np.int64)


def _circles(said: Opinions, sources: list[str]) -> Iterator[Circle]:
    source = np.array(sources, dtype=str)[said.annotator]
    yield _circle("everyone", said)
    people = said.where(source == PEOPLE)
    if not len(people.sample) or set(sources) == {PEOPLE}:
        return
    yield _circle("people", people)
    consensus = people.consensus()
    for name in sorted(set(sources) - {PEOPLE}):
        yield _circle(f"{name} against people", said.where(source == name).beside(consensus))


def _circle(name: str, said: Opinions) -> Circle:
    said = said.shared()
    unit = said.unit
    raters = np.bincount(unit)
    columns = max(1, len(said.task.classes))
    apart = disagreement(unit[said.cell], raters, said.column, said.value, columns=columns)
    each = apart.by_column() if said.several else []
    known = [part for part in each if part is not None]
    pairs = [(len(one), int(said.same(one, other).sum())) for one, other in said.pairs()]
    both = sum(count for count, _ in pairs)
    return Circle(
        name=name, samples=len(raters), statements=len(unit),
        agreement=sum(same for _, same in pairs) / both if both else None,
        alpha=(float(np.mean(known)) if known else None) if said.several else apart.alpha(),
        by_class=dict(zip(said.task.classes, each, strict=True)) if said.several else {},
    )  # fmt: skip


def _annotators(
    said: Opinions, shared: Opinions, names: list[tuple[str, str]], unsure: Ints, fitted: Fitted | None
) -> Iterator[Annotator]:
    labels, in_company = (np.bincount(part.annotator, minlength=len(names)) for part in (said, shared))
    right, counted = _with_majority(shared, len(names))
    biases, others = _biases(shared, len(names)), _others(shared, len(names))
    accuracy = fitted.accuracy() if fitted else np.zeros(len(names))
    for code, (source, name) in enumerate(names):
        judged = fitted if in_company[code] else None
        yield Annotator(
            name=name, source=source, labels=int(labels[code]), unsure=int(unsure[code]),
            shared=int(in_company[code]), others=int(others[code]),
            majority=float(right[code] / counted[code]) if counted[code] else None, bias=biases[code],
            accuracy=float(accuracy[code]) if judged else None,
            confusion=_confusion(shared.task, judged.confusion[code]) if judged else None,
        )  # fmt: skip


def _with_majority(said: Opinions, annotators: int) -> tuple[Ints, Ints]:
    """How often each annotator says what most of the others say, of how often most of them say one thing."""
    others, alike, most = said.votes()
    agrees = 2 * alike > others
    counted = agrees | (2 * most > others)
    if said.task.kind == "regression":
        agrees, counted = np.abs(_ahead(said)) <= said.task.tolerance, np.ones(len(others), np.bool_)
    right, all_ = (np.bincount(said.annotator[part], minlength=annotators) for part in (agrees, counted))
    return right, all_


def _ahead(said: Opinions) -> Floats:
    """How far each number is above the mean of the others' of its sample."""
    unit = said.unit
    others = np.bincount(unit)[unit] - 1
    rest = np.bincount(unit, said.number)[unit] - said.number
    return np.asarray(said.number - rest / others, np.float64)


def _biases(said: Opinions, annotators: int) -> list[dict[str, float]]:
    """How much more often, or how much more, each annotator says than the others of the same samples."""
    count = np.maximum(1, np.bincount(said.annotator, minlength=annotators))
    if said.task.kind not in ("binary", "categorical"):
        name = {"multilabel": "classes", "detection": "boxes"}.get(said.task.kind, said.task.unit)
        mean = np.bincount(said.annotator, _ahead(said), annotators) / count
        return [{name: float(part)} if met else {} for part, met in zip(mean, _others(said, annotators), strict=True)]
    classes, raters = len(said.task.classes), np.bincount(said.unit)[said.unit]
    more = np.zeros(annotators * classes)
    for pair in said.pairs():
        for one, other in (pair, pair[::-1]):
            weight = 1 / (raters[one] - 1)
            for place, sign in ((one, 1.0), (other, -1.0)):
                cell = said.annotator[one] * classes + said.code[place]
                more += np.bincount(cell, sign * weight, len(more))
    return [_largest(said.task, row / n) for row, n in zip(more.reshape(-1, classes), count, strict=True)]


def _largest(task: Task, bias: Floats) -> dict[str, float]:
    order = np.argsort(-np.abs(bias), kind="stable")[:BIASES]
    return {task.classes[code]: float(bias[code]) for code in order.tolist() if abs(bias[code]) > 1e-12}


def _others(said: Opinions, annotators: int) -> Ints:
    """With how many others each annotator shares a sample."""
    keys = [np.unique(np.concatenate([_key(said, a, b, annotators), _key(said, b, a, annotators)]))
            for a, b in said.pairs()]  # fmt: skip
    met = np.unique(np.concatenate(keys)) if keys else np.zeros(0, np.int64)
    return np.bincount(met // annotators, minlength=annotators)


def _key(said: Opinions, one: Ints, other: Ints, annotators: int) -> Ints:
    return np.asarray(said.annotator[one] * annotators + said.annotator[other], np.int64)


def _pairs(said: Opinions, names: list[str]) -> Iterator[Pair]:
    keys: list[Ints] = [np.zeros(0, np.int64)]
    same: list[npt.NDArray[np.bool_]] = [np.zeros(0, np.bool_)]
    for one, other in said.pairs():
        low, high = (side(said.annotator[one], said.annotator[other]) for side in (np.minimum, np.maximum))
        keys.append(low * len(names) + high)
        same.append(said.same(one, other))
    cells, place, both = np.unique(np.concatenate(keys), return_inverse=True, return_counts=True)
    agreed = np.bincount(place, np.concatenate(same), len(cells))
    for cell, n, k in zip(cells.tolist(), both.tolist(), agreed.tolist(), strict=True):
        yield Pair(one=names[cell // len(names)], other=names[cell % len(names)], both=n, same=int(k))


def _fitted(said: Opinions, annotators: int) -> Fitted | None:
    classes = len(said.task.classes) if said.task.kind in ("binary", "categorical") else 0
    if not 0 < classes <= CONFUSABLE or not len(said.sample):
        return None
    return fit(said.unit, said.annotator, said.code, annotators=annotators, classes=classes)


def _confusion(task: Task, chances: Floats) -> dict[str, dict[str, float]]:
    return {
        true: {said: float(chance) for said, chance in zip(task.classes, row, strict=True) if chance >= 0.0005}
        for true, row in zip(task.classes, chances, strict=True)
    }


def _disputed(said: Opinions, fitted: Fitted | None) -> pa.Table:
    unit = said.unit
    apart = np.zeros(int(unit[-1]) + 1 if len(unit) else 0, np.bool_)
    for one, other in said.pairs():
        apart[unit[one[~said.same(one, other)]]] = True
    part = said.where(apart[unit])
    samples = np.unique(part.sample)
    if fitted is None or not len(samples):
        return pa.table({"sample_id": samples, "class": pa.nulls(len(samples)), "chance": pa.nulls(len(samples))}).cast(
            DISPUTED
        )
    chances = fitted.posterior(part.unit, part.annotator, part.code)
    order = np.argsort(chances.max(axis=1), kind="stable")
    names = pa.array(part.task.classes).take(pa.array(chances.argmax(axis=1)[order]))
    return pa.table([pa.array(samples[order]), names, pa.array(chances.max(axis=1)[order])], schema=DISPUTED)
