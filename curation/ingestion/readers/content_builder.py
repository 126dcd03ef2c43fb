"""Builds the content of a source image by image: samples with attributes, and their labels."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from curation.catalog.event_tables import LABELS
from curation.errors import BadInput
from curation.ingestion.readers.content import Content
from curation.ingestion.readers.findings import BadEntry, Findings
from curation.ingestion.readers.image_paths import key_of, unsigned
from curation.ingestion.readers.times import to_utc

__all__ = ["ContentBuilder", "Value", "plain_name"]

Value = str | bool | int | float | datetime | None
"""The types of an attribute."""

_TAKEN = ("key", "location", "excluded")
_TIMES = ("captured_at",)


@dataclass(frozen=True, kw_only=True)
class _Sample:
    location: str | None
    origin: str
    attributes: dict[str, Value]


class ContentBuilder:
    """Samples and labels of the data set `dataset`, in the order in which they are added.

    Times without an offset are local times of `timezone`; `annotator` is the author of labels that name none; values in
    `unknown` count as missing. `findings` collects the entries that are refused.
    """

    def __init__(
        self, dataset: str, *, annotator: str = "import", timezone: str = "UTC", unknown: Sequence[str] = (),
        findings: Findings | None = None,
    ) -> None:  # fmt: skip
        self._dataset, self._annotator, self._timezone = dataset, annotator, timezone
        self._unknown, self._findings = frozenset(unknown), findings or Findings()
        self._samples: dict[str, _Sample] = {}
        self._names: dict[str, str] = {}
        self._labels: list[dict[str, Any]] = []

    def add_image(
        self, name: str, location: str, attributes: Mapping[str, Value], origin: str, *, again: bool = False,
        root: str = "",
    ) -> str:  # fmt: skip
        """Add an image under the `name` that its source gives it; returns its key.

        BadInput if another image has the key. The same image may be added repeatedly only with `again`. An absolute
        name below `root` has the key of the relative name.
        """
        key = key_of(self._dataset, name, root)
        self.add_sample(key, location, attributes, origin, again=again)
        return key

    def add_sample(
        self, key: str, location: str | None, attributes: Mapping[str, Value], origin: str, *, again: bool = False
    ) -> None:
        """Add a sample by its key; a sample without a location is one that the catalog holds."""
        before = self._samples.get(key)
        if before is None:
            named: dict[str, Value] = {
                self._plain(name, origin): value
                for name, value in attributes.items()
                if value is not None and value not in self._unknown
            }
            self._samples[key] = _Sample(location=location, origin=origin, attributes=named)
        elif unsigned(before.location or "") != unsigned(location or ""):
            raise BadInput(f"{origin} and {before.origin}: both would have the key {key!r}; rename one of them")
        elif not again:
            raise BadInput(f"{origin}: the image of key {key!r} is in {before.origin} too; keep one")

    def add_label(self, key: str, task: str, *, origin: str, **columns: Any) -> None:
        """Add one label; `columns` are further columns of `LABELS`; `state` is known by default.

        `box_origins` holds the origin of each box, in the order of `boxes`.
        """
        if columns.get("text") in self._unknown:
            return
        row = {"key": key, "task": task, "state": "known", "annotator": self._annotator, "origin": origin}
        self._labels.append(row | columns)

    def content(self, *, held_back: bool, fractions: bool = False) -> Content:
        """All samples and labels; `held_back` holds all labels back."""
        samples = self._samples.values()
        columns: dict[str, Any] = {
            "key": pa.array(self._samples, pa.string()),
            "location": pa.array([sample.location for sample in samples], pa.string()),
        }
        for name in self._names:
            columns[name] = self._attribute(name, list(samples))
        origins = pa.array([row.get("box_origins") for row in self._labels], pa.list_(pa.string()))
        table = self._table()
        return Content.of(pa.table(columns), table, held_back=held_back, box_origins=origins, fractions=fractions)

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
        if name == "group":
            return pa.array([_text(value) for value in values], pa.string())
        self._drop_other_types(name, values, samples)
        self._drop_out_of_range(name, values, samples)
        if any(isinstance(value, float) for value in values):
            return pa.array(values, pa.float64())
        return pa.array(values)

    def _times(self, values: Sequence[Any], origins: Sequence[str]) -> pa.ChunkedArray:
        texts: list[str | None] = []
        for value, origin in zip(values, origins, strict=True):
            text = value.isoformat() if isinstance(value, datetime) else value
            with self._findings.entry():
                if not isinstance(text, str | None):
                    raise BadEntry(origin, repr(value), "is not a time", "write it as 2026-07-01T12:30:00+02:00")
                if self._findings.quarantine and text is not None:
                    self._utc([text], [origin])
            texts.append(text)
        if self._findings.quarantine:
            texts = [text if self._is_time(text) else None for text in texts]
        return self._utc(texts, origins)

    def _utc(self, texts: Sequence[str | None], origins: Sequence[str]) -> pa.ChunkedArray:
        return to_utc(pa.chunked_array([pa.array(texts, pa.string())]), self._timezone, lambda row: origins[row])

    def _is_time(self, text: Any) -> bool:
        try:
            self._utc([text], [""])
        except (BadInput, pa.ArrowException, TypeError):
            return False
        return True

    def _drop_other_types(self, name: str, values: list[Value], samples: Sequence[_Sample]) -> None:
        """Refuse values of another type than the first one; where they are quarantined, they become missing."""
        first: tuple[str, _Sample] | None = None
        for row, (value, sample) in enumerate(zip(values, samples, strict=True)):
            if value is None:
                continue
            type_ = "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
            first = first or (type_, sample)
            if type_ != first[0]:
                rule = f"has another type than in {first[1].origin}"
                self._findings.refuse(BadEntry(sample.origin, f"{name} = {value!r}", rule, "use one type"))
                values[row] = None

    def _drop_out_of_range(self, name: str, values: list[Value], samples: Sequence[_Sample]) -> None:
        """Refuse whole numbers that int64 cannot hold, or that fractions beside them would round."""
        fractions = any(isinstance(value, float) for value in values)
        for row, (value, sample) in enumerate(zip(values, samples, strict=True)):
            if not isinstance(value, int) or isinstance(value, bool):
                continue
            text = f"{name} = {value}"
            if not -(2**63) <= value < 2**63:
                self._findings.refuse(BadEntry(sample.origin, text, "is beyond 64 bits", "write it as text"))
                values[row] = None
            elif fractions and int(float(value)) != value:
                rule = "would be rounded beside fractions"
                self._findings.refuse(BadEntry(sample.origin, text, rule, "write it as text"))
                values[row] = None


def _text(value: Value) -> str | None:
    """A value as text; whole numbers without a fraction (12, not 12.0)."""
    return None if value is None else str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def plain_name(name: str) -> str:
    """`name` as the name of an attribute: lower-case letters, digits and _, starting with a letter.

    >>> plain_name("Weather Type"), plain_name("2nd lane")
    ('weather_type', 'x_2nd_lane')
    """
    named = re.sub("[^a-z0-9]+", "_", name.lower()).strip("_") or "unnamed"
    return named if named[0].isalpha() else f"x_{named}"
