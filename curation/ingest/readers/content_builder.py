"""What a reader gathers image by image: samples with attributes, and what is said of them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from curation.catalog.event_tables import LABELS
from curation.errors import BadInput
from curation.ingest.readers.content import Content
from curation.ingest.readers.image_paths import key_of
from curation.ingest.readers.times import to_utc

__all__ = ["Harvest", "Value", "plain_name"]

Value = str | bool | int | float | datetime | None
"""What an attribute can hold."""

_TAKEN = ("key", "location", "excluded")
_TIMES = ("captured_at",)


@dataclass(frozen=True, kw_only=True)
class _Sample:
    location: str | None
    origin: str
    attributes: dict[str, Value]


class Harvest:
    """Samples and labels of the data set `dataset`, in the order in which they were found.

    Times without an offset are those of a clock in `timezone`; `annotator` gave the labels that name nobody.
    """

    def __init__(self, dataset: str, *, annotator: str = "import", timezone: str = "UTC") -> None:
        self._dataset, self._annotator, self._timezone = dataset, annotator, timezone
        self._samples: dict[str, _Sample] = {}
        self._names: dict[str, str] = {}
        self._labels: list[dict[str, Any]] = []

    def sample(
        self, name: str, location: str, attributes: Mapping[str, Value], origin: str, *, again: bool = False
    ) -> str:
        """Take an image that its source calls `name`; its key.

        BadInput when another image has the key; the same one is taken once if it may come `again`.
        """
        key = key_of(self._dataset, name)
        self.keyed(key, location, attributes, origin, again=again)
        return key

    def keyed(
        self, key: str, location: str | None, attributes: Mapping[str, Value], origin: str, *, again: bool = False
    ) -> None:
        """Take a sample under its key; without a location it is one that the catalog holds."""
        before = self._samples.get(key)
        if before is None:
            named: dict[str, Value] = {
                self._plain(name, origin): value for name, value in attributes.items() if value is not None
            }
            self._samples[key] = _Sample(location=location, origin=origin, attributes=named)
        elif before.location != location:
            raise BadInput(f"{origin} and {before.origin}: both would have the key {key!r}; rename one of them")
        elif not again:
            raise BadInput(f"{origin}: the image of key {key!r} stands in {before.origin} too; keep one")

    def label(self, key: str, task: str, *, origin: str, **said: Any) -> None:
        """Take one label; `said` are further columns of `LABELS`; `state` is known unless said otherwise."""
        row = {"key": key, "task": task, "state": "known", "annotator": self._annotator, "origin": origin}
        self._labels.append(row | said)

    def content(self, *, held_back: bool) -> Content:
        """All that was gathered; the labels are held back if so asked."""
        samples = self._samples.values()
        columns: dict[str, Any] = {
            "key": pa.array(self._samples, pa.string()),
            "location": pa.array([sample.location for sample in samples], pa.string()),
        }
        for name in self._names:
            columns[name] = self._attribute(name, list(samples))
        return Content.of(pa.table(columns), self._table(), held_back=held_back)

    def _table(self) -> pa.Table:
        rows = self._labels
        columns = {
            field.name: pa.array([row.get(field.name) for row in rows], field.type)
            for field in LABELS
            if field.name != "labelled_at"
        }
        columns["labelled_at"] = self._times(
            [row.get("labelled_at") for row in rows], [str(row["origin"]) for row in rows]
        )
        return pa.table(columns).select(LABELS.names).cast(LABELS)

    def _plain(self, name: str, origin: str) -> str:
        attribute = plain_name(name)
        if attribute in _TAKEN:
            raise BadInput(f"{origin}: the attribute {name!r} has a reserved name; rename it or leave it out")
        if self._names.setdefault(attribute, name) != name:
            raise BadInput(
                f"{origin}: {name!r} and {self._names[attribute]!r} would both be the attribute {attribute}; rename one"
            )
        return attribute

    def _attribute(self, name: str, samples: Sequence[_Sample]) -> pa.Array | pa.ChunkedArray:
        values = [sample.attributes.get(name) for sample in samples]
        if name in _TIMES:
            return self._times(values, [sample.origin for sample in samples])
        _check_kind(name, values, samples)
        _check_range(name, values, samples)
        if any(isinstance(value, float) for value in values):
            return pa.array(values, pa.float64())
        return pa.array(values)

    def _times(self, values: Sequence[Any], origins: Sequence[str]) -> pa.ChunkedArray:
        for value, origin in zip(values, origins, strict=True):
            if not isinstance(value, str | datetime | None):
                raise BadInput(f"{origin}: {value!r} is no time; write it as 2026-07-01T12:30:00+02:00")
        texts = [value.isoformat() if isinstance(value, datetime) else value for value in values]
        return to_utc(pa.chunked_array([pa.array(texts, pa.string())]), self._timezone, lambda row: origins[row])


def plain_name(name: str) -> str:
    """`name` as the name of an attribute: lower-case letters, digits and _, a letter first."""
    named = re.sub("[^a-z0-9]+", "_", name.lower()).strip("_") or "unnamed"
    return named if named[0].isalpha() else f"x_{named}"


def _check_kind(name: str, values: Iterable[Value], samples: Sequence[_Sample]) -> None:
    first: tuple[str, _Sample] | None = None
    for value, sample in zip(values, samples, strict=True):
        if value is None:
            continue
        kind = "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
        if first is None:
            first = kind, sample
        elif kind != first[0]:
            raise BadInput(
                f"{sample.origin}: {name} = {value!r} is of another type than in {first[1].origin}; give it one type"
            )


def _check_range(name: str, values: Sequence[Value], samples: Sequence[_Sample]) -> None:
    """Refuse whole numbers that int64 cannot hold, or that fractions beside them would round."""
    fractions = any(isinstance(value, float) for value in values)
    for value, sample in zip(values, samples, strict=True):
        if not isinstance(value, int) or isinstance(value, bool):
            continue
        if not -(2**63) <= value < 2**63:
            raise BadInput(f"{sample.origin}: {name} = {value} is beyond 64 bits; write it as text")
        if fractions and int(float(value)) != value:
            raise BadInput(f"{sample.origin}: {name} = {value} would be rounded beside fractions; write it as text")
