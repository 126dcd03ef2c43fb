"""What people do to samples that they pick by hand: request labels, tag, mark as unsure, retract their labels.

Each function returns the rows for a commit to add, and which samples it passes over and why. It changes nothing, so
the result can be previewed.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.attributes import NAME
from curation.catalog.event_tables import LABELS, REQUESTS
from curation.catalog.schema import EVALUATION, KNOWN, RETRACTED, UNSURE
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput, NotFound

__all__ = ["TAG", "ManualRows", "MarkedState", "mark_state", "request_labels", "tag"]

TAG: Final = "tag_"
"""A tag is a boolean attribute with this prefix; slices call it `attr.tag_NAME`."""

MarkedState = Literal["unsure", "retracted"]
"""unsure: the annotator cannot tell. retracted: the annotator takes back their label."""


@dataclass(frozen=True, kw_only=True)
class ManualRows:
    """`rows` for a commit to add; how many samples are `passed_over`, by reason; and how many of the others have
    something worth knowing (`noted`)."""

    rows: pa.Table
    passed_over: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)


def request_labels(now: Snapshot, keys: Sequence[str], tasks: Sequence[str], reason: str) -> ManualRows:
    """Label requests of the arm "picked" for each of `keys` and `tasks`, all of priority 0: first come, first labelled.

    Open requests are passed over. A known label may be requested again, because it may be wrong.

    >>> found = request_labels(now, ["pictures/00005"], ["color", "car"], "looks wrong")
    >>> len(found.rows), dict(found.passed_over)
    (2, {})
    """
    samples, ids = _samples(now, keys), now.task_ids()
    rows, passed_over, noted = [], Counter[str](), Counter[str]()
    open_ = {(row["key"], row["task"]) for row in now.requests("open").to_pylist()}
    for name in tasks:
        known = _with_state(now.labels(now.task(name).name), KNOWN)
        for sample in samples:
            if (sample["key"], name) in open_:
                passed_over["requested already"] += 1
                continue
            noted["known already, and requested again"] += sample["sample_id"] in known
            noted["evaluation samples, whose figures then depend on the choice"] += sample["split"] in EVALUATION
            rows.append(
                {
                    "sample_id": sample["sample_id"], "task_id": ids[name], "arm": "picked", "slice": "",
                    "reason": reason, "run": "", "priority": 0, "propensity": 1.0, "cost": 1.0,
                }
            )  # fmt: skip
    return ManualRows(rows=pa.Table.from_pylist(rows, REQUESTS), passed_over=+passed_over, noted=+noted)


def tag(now: Snapshot, keys: Sequence[str], name: str, *, on: bool) -> ManualRows:
    """Set the attribute `tag_NAME` of each of `keys` to `on`; BadInput when the name is no tag.

    >>> tag(now, ["pictures/00005"], "blurred", on=True).rows.to_pylist()
    [{'key': 'pictures/00005', 'tag_blurred': True}]
    """
    attribute, types = TAG + name, now.attributes()
    if not re.fullmatch(NAME, attribute):
        raise BadInput(f"tag {name!r}: a tag is lower-case letters, digits and _, at most 59; choose another")
    if types.get(attribute, "flag") != "flag":
        raise BadInput(f"tag {name!r}: the attribute {attribute} is a {types[attribute]}; choose another")
    tagged: set[int] = set()
    if attribute in types:
        values = now.attribute(attribute)
        tagged = set(values.filter(values["value"])["sample_id"].to_pylist())
    chosen = [sample["key"] for sample in _samples(now, keys) if (sample["sample_id"] in tagged) != on]
    rows = {"key": pa.array(chosen, pa.string()), attribute: pa.array([on] * len(chosen), pa.bool_())}
    why = "tagged already" if on else "not tagged"
    return ManualRows(rows=pa.table(rows), passed_over=+Counter({why: len(set(keys)) - len(chosen)}))


def mark_state(now: Snapshot, keys: Sequence[str], task: str, state: MarkedState, *, annotator: str) -> ManualRows:
    """Labels by which `annotator` marks each of `keys` as unsure, or retracts their label of it."""
    labels = now.labels.by_annotator(now.task(task).name)
    mine = labels.filter(pc.and_(pc.equal(labels["annotator"], annotator), pc.equal(labels["source"], "human")))
    states = dict(zip(mine["sample_id"].to_pylist(), mine["state"].to_pylist(), strict=True))
    state_of = {sample["key"]: states.get(sample["sample_id"], RETRACTED) for sample in _samples(now, keys)}
    chosen = [key for key, current in state_of.items() if current != {"unsure": UNSURE, "retracted": RETRACTED}[state]]
    why = f"{annotator} is unsure already" if state == "unsure" else f"{annotator} has no label of it"
    rows = [{"key": key, "task": task, "state": state, "annotator": annotator} for key in chosen]
    return ManualRows(rows=pa.Table.from_pylist(rows, LABELS), passed_over=+Counter({why: len(set(keys)) - len(rows)}))


def _samples(now: Snapshot, keys: Sequence[str]) -> list[dict[str, object]]:
    """The samples of `keys`, in their order, each once; NotFound when one is missing."""
    by_key = {row["key"]: row for row in now.samples_of(keys).select(["key", "sample_id", "split"]).to_pylist()}
    missing = [key for key in keys if key not in by_key]
    if missing:
        raise NotFound(f"sample {missing[0]!r}: the catalog has no sample with this key; reload the page")
    return [by_key[key] for key in dict.fromkeys(keys)]


def _with_state(labels: pa.Table, state: int) -> set[int]:
    return set(labels.filter(pc.equal(labels["state"], state))["sample_id"].to_pylist())
