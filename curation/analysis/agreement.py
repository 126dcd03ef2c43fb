"""How far annotators agree on a task, and how each of them errs.

The newest label of each annotator counts, even where it is not the current label. Unsure and inapplicable labels are
counted, but are no class. Two labels agree when they have the same class, numbers within the task's tolerance, or the
same set of classes (boxes: the set of classes with at least one box). Alpha is nominal for classes and interval for
numbers. For multilabel tasks it is the mean over classes of the alpha of the class's presence; for boxes, of its number
of boxes."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.analysis.alpha import disagreement
from curation.analysis.annotator_labels import AnnotatorLabels
from curation.analysis.dawid_skene import FittedModel, fit
from curation.arrays import Floats, Ints
from curation.catalog.schema import INAPPLICABLE, UNSURE
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task

__all__ = ["Agreement", "AgreementGroup", "Annotator", "Pair", "agreement", "human_agreement"]


PEOPLE: Final = "human"
BIASES: Final = 5
"""At most so many classes are listed in an annotator's bias: those with the largest."""
CONFUSABLE: Final = 100
"""Dawid and Skene's model is fitted for at most so many classes: 100 classes need 10,000 chances an annotator."""
DISPUTED: Final = pa.schema([("sample_id", pa.int64()), ("class", pa.string()), ("chance", pa.float64())])


@dataclass(frozen=True, kw_only=True)
class AgreementGroup:
    """Agreement within a set of annotators: everyone, people only, or another source against the majority of people.

    `statements` counts their labels of the `samples` that two or more of them labelled. `agreement` is the share of
    pairs of labels that agree. `by_class` holds the alpha of each class for multilabel and detection tasks. None means
    that there is nothing to compare, or that all labels are alike.
    """

    name: str
    samples: int
    statements: int
    agreement: float | None
    alpha: float | None
    by_class: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Annotator:
    """One annotator: number of labels, how many are on samples `shared` with any of `others`, and how they compare.

    `majority` is the share that agrees with the majority of the other annotators, where there is one; for numbers, with
    their mean. `bias` is how much more often the annotator gives a class than the others do on the same samples; for
    numbers, and numbers of classes or boxes, how much larger they are. `accuracy` and `confusion` ({true class: {given
    class: chance}}) are Dawid and Skene's: None for numbers, several classes in a label, more than 100 classes, and
    where no other annotator labelled the same samples.
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
    inapplicable: int = 0


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two annotators: the number of samples that both labelled, and on how many they agree."""

    one: str
    other: str
    both: int
    same: int


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Agreement on one task.

    `disputed` (sample_id, class, chance) holds the samples on which annotators disagree, the least certain first, with
    the likeliest class by Dawid and Skene's model (null where it is not fitted).
    """

    task: str
    circles: tuple[AgreementGroup, ...]
    annotators: tuple[Annotator, ...]
    pairs: tuple[Pair, ...]
    disputed: pa.Table

    def row(self) -> dict[str, object]:
        """The whole as plain values."""
        parts = {name: [asdict(part) for part in getattr(self, name)] for name in ("circles", "annotators", "pairs")}
        return {"task": self.task, **parts, "disputed": self.disputed.to_pylist()}


def agreement(now: Snapshot, task: str) -> Agreement:
    """How far the annotators of one task agree at this snapshot; NotFound when there is no such task.

    >>> agreement(now, "color").circles[0].name
    'everyone'
    """
    definition = now.task(task)
    statements = _statements(now, definition)
    names, annotator = _people(now, statements)
    state = np.asarray(statements["state"].to_numpy())
    unsure, inapplicable = (
        np.bincount(annotator[state == code], minlength=len(names)) for code in (UNSURE, INAPPLICABLE)
    )
    labels = AnnotatorLabels.of(definition, statements, annotator)
    shared = labels.shared()
    fitted = _fitted(shared, len(names))
    return Agreement(
        task=task,
        circles=tuple(_circles(labels, [source for source, _ in names])),
        annotators=tuple(_annotators(labels, shared, names, unsure, inapplicable, fitted)),
        pairs=tuple(_pairs(shared, [name for _, name in names])),
        disputed=_disputed(shared, fitted),
    )


def human_agreement(now: Snapshot, task: str) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Every two labels by people of one sample: the ids of the samples [n], and whether they agree [n]."""
    statements = _statements(now, now.task(task))
    names, annotator = _people(now, statements)
    people = np.array([source == PEOPLE for source, _ in names], np.bool_)[annotator]
    labels = AnnotatorLabels.of(now.task(task), statements.filter(pa.array(people)), annotator[people])
    samples: list[Ints] = [np.zeros(0, np.int64)]
    agree: list[npt.NDArray[np.bool_]] = [np.zeros(0, np.bool_)]
    for one, other in labels.pairs():
        samples.append(labels.sample[one])
        agree.append(labels.same(one, other))
    return np.concatenate(samples), np.concatenate(agree)


def _statements(now: Snapshot, task: Task) -> pa.Table:
    """The newest label of each annotator for one task, by sample; without names, which take longer than the rest."""
    return now.labels.by_annotator(task.name, "sample_id", "annotator_id", "state", *task.value_columns)


def _people(now: Snapshot, statements: pa.Table) -> tuple[list[tuple[str, str]], Ints]:
    """(source, name) of each annotator, sorted, and the number of the annotator of each label."""
    ids, numbers = np.unique(np.asarray(statements["annotator_id"].to_numpy(), np.int64), return_inverse=True)
    known = now.labels.annotator_names()
    names = [known[id_] for id_ in ids.tolist()]
    order = sorted(range(len(names)), key=names.__getitem__)
    rank: Ints = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    return [names[place] for place in order], rank[numbers]


def _circles(labels: AnnotatorLabels, sources: list[str]) -> Iterator[AgreementGroup]:
    source = np.array(sources, dtype=str)[labels.annotator]
    yield _circle("everyone", labels)
    people = labels.where(source == PEOPLE)
    if not len(people.sample) or set(sources) == {PEOPLE}:
        return
    yield _circle("people", people)
    consensus = people.consensus()
    for name in sorted(set(sources) - {PEOPLE}):
        yield _circle(f"{name} against people", labels.where(source == name).paired_with(consensus))


def _circle(name: str, labels: AnnotatorLabels) -> AgreementGroup:
    labels = labels.shared()
    unit = labels.unit
    raters = np.bincount(unit)
    columns = max(1, len(labels.task.classes))
    difference = disagreement(unit[labels.cell], raters, labels.column, labels.value, columns=columns)
    each = difference.by_column() if labels.several else []
    known = [part for part in each if part is not None]
    pairs = [(len(one), int(labels.same(one, other).sum())) for one, other in labels.pairs()]
    both = sum(count for count, _ in pairs)
    return AgreementGroup(
        name=name, samples=len(raters), statements=len(unit),
        agreement=sum(same for _, same in pairs) / both if both else None,
        alpha=(float(np.mean(known)) if known else None) if labels.several else difference.alpha(),
        by_class=dict(zip(labels.task.classes, each, strict=True)) if labels.several else {},
    )  # fmt: skip


def _annotators(
    labels: AnnotatorLabels,
    shared: AnnotatorLabels,
    names: list[tuple[str, str]],
    unsure: Ints,
    inapplicable: Ints,
    fitted: FittedModel | None,
) -> Iterator[Annotator]:
    total, in_company = (np.bincount(part.annotator, minlength=len(names)) for part in (labels, shared))
    right, counted = _with_majority(shared, len(names))
    biases, others = _biases(shared, len(names)), _others(shared, len(names))
    accuracy = fitted.accuracy() if fitted else np.zeros(len(names))
    for code, (source, name) in enumerate(names):
        judged = fitted if in_company[code] else None
        yield Annotator(
            name=name, source=source, labels=int(total[code]), unsure=int(unsure[code]),
            shared=int(in_company[code]), others=int(others[code]),
            majority=float(right[code] / counted[code]) if counted[code] else None, bias=biases[code],
            accuracy=float(accuracy[code]) if judged else None,
            confusion=_confusion(shared.task, judged.confusion[code]) if judged else None,
            inapplicable=int(inapplicable[code]),
        )  # fmt: skip


def _with_majority(labels: AnnotatorLabels, annotators: int) -> tuple[Ints, Ints]:
    """By annotator: how often they agree with the majority of the others, and how often there is a majority."""
    others, alike, most = labels.votes()
    agrees = 2 * alike > others
    counted = agrees | (2 * most > others)
    if labels.task.kind == "regression":
        agrees, counted = np.abs(_ahead(labels)) <= labels.task.tolerance, np.ones(len(others), np.bool_)
    right, all_ = (np.bincount(labels.annotator[part], minlength=annotators) for part in (agrees, counted))
    return right, all_


def _ahead(labels: AnnotatorLabels) -> Floats:
    """How far each number is above the mean of the other annotators' numbers for its sample."""
    unit = labels.unit
    others = np.bincount(unit)[unit] - 1
    rest = np.bincount(unit, labels.number)[unit] - labels.number
    return np.asarray(labels.number - rest / others, np.float64)


def _biases(labels: AnnotatorLabels, annotators: int) -> list[dict[str, float]]:
    """How much more often each annotator gives a class, or how much larger their numbers are, than the others'."""
    count = np.maximum(1, np.bincount(labels.annotator, minlength=annotators))
    if labels.task.kind not in ("binary", "categorical"):
        name = {"multilabel": "classes", "detection": "boxes"}.get(labels.task.kind, labels.task.unit)
        mean = np.bincount(labels.annotator, _ahead(labels), annotators) / count
        return [{name: float(part)} if met else {} for part, met in zip(mean, _others(labels, annotators), strict=True)]
    classes, raters = len(labels.task.classes), np.bincount(labels.unit)[labels.unit]
    more = np.zeros(annotators * classes)
    for pair in labels.pairs():
        for one, other in (pair, pair[::-1]):
            weight = 1 / (raters[one] - 1)
            for row, sign in ((one, 1.0), (other, -1.0)):
                cell = labels.annotator[one] * classes + labels.code[row]
                more += np.bincount(cell, sign * weight, len(more))
    return [_largest(labels.task, row / n) for row, n in zip(more.reshape(-1, classes), count, strict=True)]


def _largest(task: Task, bias: Floats) -> dict[str, float]:
    order = np.argsort(-np.abs(bias), kind="stable")[:BIASES]
    return {task.classes[code]: float(bias[code]) for code in order.tolist() if abs(bias[code]) > 1e-12}


def _others(labels: AnnotatorLabels, annotators: int) -> Ints:
    """With how many other annotators each annotator shares a sample."""
    keys = [np.unique(np.concatenate([_key(labels, a, b, annotators), _key(labels, b, a, annotators)]))
            for a, b in labels.pairs()]  # fmt: skip
    met = np.unique(np.concatenate(keys)) if keys else np.zeros(0, np.int64)
    return np.bincount(met // annotators, minlength=annotators)


def _key(labels: AnnotatorLabels, one: Ints, other: Ints, annotators: int) -> Ints:
    return np.asarray(labels.annotator[one] * annotators + labels.annotator[other], np.int64)


def _pairs(labels: AnnotatorLabels, names: list[str]) -> Iterator[Pair]:
    keys: list[Ints] = [np.zeros(0, np.int64)]
    same: list[npt.NDArray[np.bool_]] = [np.zeros(0, np.bool_)]
    for one, other in labels.pairs():
        low, high = (side(labels.annotator[one], labels.annotator[other]) for side in (np.minimum, np.maximum))
        keys.append(low * len(names) + high)
        same.append(labels.same(one, other))
    cells, cell_of, both = np.unique(np.concatenate(keys), return_inverse=True, return_counts=True)
    agreed = np.bincount(cell_of, np.concatenate(same), len(cells))
    for cell, n, k in zip(cells.tolist(), both.tolist(), agreed.tolist(), strict=True):
        yield Pair(one=names[cell // len(names)], other=names[cell % len(names)], both=n, same=int(k))


def _fitted(labels: AnnotatorLabels, annotators: int) -> FittedModel | None:
    classes = len(labels.task.classes) if labels.task.kind in ("binary", "categorical") else 0
    if not 0 < classes <= CONFUSABLE or not len(labels.sample):
        return None
    return fit(labels.unit, labels.annotator, labels.code, annotators=annotators, classes=classes)


def _confusion(task: Task, chances: Floats) -> dict[str, dict[str, float]]:
    return {
        true: {given: float(chance) for given, chance in zip(task.classes, row, strict=True) if chance >= 0.0005}
        for true, row in zip(task.classes, chances, strict=True)
    }


def _disputed(labels: AnnotatorLabels, fitted: FittedModel | None) -> pa.Table:
    unit = labels.unit
    disputed = np.zeros(int(unit[-1]) + 1 if len(unit) else 0, np.bool_)
    for one, other in labels.pairs():
        disputed[unit[one[~labels.same(one, other)]]] = True
    part = labels.where(disputed[unit])
    samples = np.unique(part.sample)
    if fitted is None or not len(samples):
        return pa.table({"sample_id": samples, "class": pa.nulls(len(samples)), "chance": pa.nulls(len(samples))}).cast(
            DISPUTED
        )
    chances = fitted.posterior(part.unit, part.annotator, part.code)
    order = np.argsort(chances.max(axis=1), kind="stable")
    names = pa.array(part.task.classes).take(pa.array(chances.argmax(axis=1)[order]))
    return pa.table([pa.array(samples[order]), names, pa.array(chances.max(axis=1)[order])], schema=DISPUTED)
