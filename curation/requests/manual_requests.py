"""What people do to samples that they picked by hand: ask for labels, tag, mark unsure, take back what they said.

Each function says what there is to do, and what is passed over and why; a commit then adds its `rows`. Saying so
changes nothing, so that one can be shown first.
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

__all__ = ["TAG", "Doubt", "Picked", "ask", "doubt", "tag"]

TAG: Final = "tag_"
"""An attribute of this prefix that is true is a tag; slices call it `attr.tag_NAME`."""

Doubt = Literal["unsure", "retracted"]
"""That nobody can tell; or that what one said before is said no longer."""


@dataclass(frozen=True, kw_only=True)
class Picked:
    """What there is to do: `rows` for a commit to add, how many were `passed_over` and why, and what is `noted` of
    the others."""

    rows: pa.Table
    passed_over: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)


def ask(now: Snapshot, keys: Sequence[str], tasks: Sequence[str], reason: str) -> Picked:
    """Label requests of the arm "picked" for each of `keys` and `tasks`, first come, first labelled.

    What is asked for already is passed over. What is known may be asked again: the label may be wrong.
    """
    samples, ids = _samples(now, keys), now.task_ids()
    rows, passed_over, noted = [], Counter[str](), Counter[str]()
    open_ = {(row["key"], row["task"]) for row in now.requests("open").to_pylist()}
    for name in tasks:
        known = _with_state(now.labels(now.task(name).name), KNOWN)
        for sample in samples:
            if (sample["key"], name) in open_:
                passed_over["asked for already"] += 1
                continue
            noted["known already, and asked again"] += sample["sample_id"] in known
            noted["of the evaluation, whose figures depend on who picks"] += sample["split"] in EVALUATION
            rows.append(
                {
                    "sample_id": sample["sample_id"], "task_id": ids[name], "arm": "picked", "slice": "",
                    "reason": reason, "run": "", "priority": 0, "propensity": 1.0, "cost": 1.0,
                }
            )  # fmt: skip
    return Picked(rows=pa.Table.from_pylist(rows, REQUESTS), passed_over=+passed_over, noted=+noted)


def tag(now: Snapshot, keys: Sequence[str], name: str, *, on: bool) -> Picked:
    """The attribute `tag_NAME` of each of `keys`, set or taken away."""
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
    why = "tagged so already" if on else "without it already"
    return Picked(rows=pa.table(rows), passed_over=+Counter({why: len(set(keys)) - len(chosen)}))


def doubt(now: Snapshot, keys: Sequence[str], task: str, state: Doubt, *, annotator: str) -> Picked:
    """Labels that say of each of `keys` that `annotator` cannot tell, or takes back what they said."""
    said = now.labels.by_annotator(now.task(task).name)
    mine = said.filter(pc.and_(pc.equal(said["annotator"], annotator), pc.equal(said["source"], "human")))
    stands = dict(zip(mine["sample_id"].to_pylist(), mine["state"].to_pylist(), strict=True))
    of = {sample["key"]: stands.get(sample["sample_id"], RETRACTED) for sample in _samples(now, keys)}
    chosen = [key for key, stand in of.items() if stand != {"unsure": UNSURE, "retracted": RETRACTED}[state]]
    why = f"{annotator} said so already" if state == "unsure" else f"{annotator} said nothing of it"
    rows = [{"key": key, "task": task, "state": state, "annotator": annotator} for key in chosen]
    return Picked(rows=pa.Table.from_pylist(rows, LABELS), passed_over=+Counter({why: len(set(keys)) - len(rows)}))


def _samples(now: Snapshot, keys: Sequence[str]) -> list[dict[str, object]]:
    """The samples of `keys`, in their order, each once; NotFound when one is not there."""
    table = now.samples().select(["key", "sample_id", "split"])
    found = table.filter(pc.is_in(table["key"], value_set=pa.array(keys, pa.string()))).to_pylist()
    by_key = {row["key"]: row for row in found}
    missing = [key for key in keys if key not in by_key]
    if missing:
        raise NotFound(f"sample {missing[0]!r}: the catalog has none of that key; browse it anew")
    return [by_key[key] for key in dict.fromkeys(keys)]


def _with_state(labels: pa.Table, state: int) -> set[int]:
    return set(labels.filter(pc.equal(labels["state"], state))["sample_id"].to_pylist())
