"""Labelling progress by task and slice, and by person."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curation.analysis.agreement import human_agreement
from curation.analysis.disputes import human_votes
from curation.catalog.snapshot import Snapshot

__all__ = ["Person", "Progress", "people", "progress"]

WINDOW: Final = timedelta(hours=24)
"""The rate is measured over the last 24 hours of work."""

LABEL: Final = ("known", "unsure", "inapplicable")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Label requests of one (task, slice) and their outcomes; slice "" is the whole task.

    `sent` open requests are on the server. On `disputed` open requests two people disagree, so a third is asked.
    `unsure` and `skipped` count answers. `rate` is answers per hour in the last day of work; `agreement` is the share
    of pairs of people that agree; `spent` and `open_cost` are in the unit of request costs. `hours` is the time left at
    that rate, if each open request takes as many answers as the finished ones did. None: no data.
    """

    task: str
    slice: str
    requests: int
    sent: int
    disputed: int
    answered: int
    withdrawn: int
    unsure: int
    skipped: int
    rate: float | None
    agreement: float | None
    spent: float
    open_cost: float
    hours: float | None


@dataclass(frozen=True, kw_only=True)
class Person:
    """One annotator's work: how many answers (of which `unsure`), skips and unfit answers; the median `seconds` of an
    answer; how many `gold` questions, and `quality`, the share of right answers to these (None: no gold question)."""

    annotator: str
    answers: int
    unsure: int
    skipped: int
    unfit: int
    seconds: float | None
    gold: int
    quality: float | None


def progress(now: Snapshot, sent: Collection[int]) -> Iterator[Progress]:
    """A row for each requested task, and for each slice it was requested for; `sent` are ids of pushed requests."""
    rows: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in now.requests().to_pylist():
        rows[row["task"], ""].append(row)
        if row["slice"]:
            rows[row["task"], row["slice"]].append(row)
    names = {id_: name for name, id_ in now.task_ids().items()}
    answers: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in now.requests.answers().to_pylist():
        answers[names[row["task_id"]]].append(row)
    votes = human_votes(now, {task for task, _ in rows})
    pairs = {task: human_agreement(now, task) for task in {task for task, _ in rows}}
    for (task, slice_), requests in sorted(rows.items()):
        samples = {row["sample_id"] for row in requests}
        own = [row for row in answers[task] if row["sample_id"] in samples]
        disputed = {sample for sample in samples if votes.get((task, sample), (0, False))[1]}
        yield _row(task, slice_, requests, own, sent, disputed, _agreement(*pairs[task], samples))


def people(now: Snapshot) -> list[Person]:
    """Everybody who answered or skipped anything, by name."""
    rows: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in now.requests.answers().to_pylist():
        rows[row["annotator"]].append(row)
    return [_person(name, answers) for name, answers in sorted(rows.items())]


def _row(
    task: str, slice_: str, requests: list[dict[str, Any]], answers: list[dict[str, Any]], sent: Collection[int],
    disputed: Collection[int], agreement: float | None,
) -> Progress:  # fmt: skip
    states = [row["state"] for row in requests]
    open_ = [row for row in requests if row["state"] == "open"]
    labels = [row for row in answers if row["outcome"] in LABEL]
    rate, done = _rate(labels), {row["sample_id"] for row in requests if row["state"] == "answered"}
    each = sum(row["sample_id"] in done for row in labels) / len(done) if done else 1.0
    return Progress(
        task=task, slice=slice_, requests=len(requests), sent=sum(row["request_id"] in sent for row in open_),
        disputed=sum(row["sample_id"] in disputed for row in open_), answered=states.count("answered"),
        withdrawn=states.count("withdrawn"), unsure=sum(row["outcome"] == "unsure" for row in labels),
        skipped=sum(row["outcome"] == "skipped" for row in answers), rate=rate, agreement=agreement,
        spent=sum(row["cost"] for row in requests if row["state"] == "answered"),
        open_cost=sum(row["cost"] for row in open_), hours=each * len(open_) / rate if rate else None,
    )  # fmt: skip


def _rate(labels: list[dict[str, Any]]) -> float | None:
    """Answers per hour between the first and the last answer of the last 24 hours of work."""
    if not labels:
        return None
    last = max(row["answered_at"] for row in labels)
    recent = sorted(row["answered_at"] for row in labels if row["answered_at"] > last - WINDOW)
    hours = (last - recent[0]) / timedelta(hours=1)
    return (len(recent) - 1) / hours if hours else None


def _agreement(sample: npt.NDArray[np.int64], same: npt.NDArray[np.bool_], samples: Collection[int]) -> float | None:
    """The share of pairs of answers that agree, among pairs on `samples`."""
    inside = same[np.isin(sample, list(samples))]
    return float(inside.mean()) if len(inside) else None


def _person(name: str, answers: list[Mapping[str, Any]]) -> Person:
    outcomes = [row["outcome"] for row in answers]
    gold = [outcome for outcome in outcomes if outcome in ("gold_right", "gold_wrong")]
    seconds = [row["seconds"] for row in answers if row["seconds"] > 0 and row["outcome"] in LABEL]
    return Person(
        annotator=name, answers=sum(outcome in LABEL for outcome in outcomes), unsure=outcomes.count("unsure"),
        skipped=outcomes.count("skipped"), unfit=outcomes.count("unfit"),
        seconds=median(seconds) if seconds else None, gold=len(gold),
        quality=gold.count("gold_right") / len(gold) if gold else None,
    )  # fmt: skip
