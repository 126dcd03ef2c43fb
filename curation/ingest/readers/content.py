"""What every reader hands over: three Arrow tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.event_tables import LABELS, as_labels

__all__ = ["Content", "without"]


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a source holds, read but not yet checked.

    `samples` has the columns `key` and `location` (one that `curation.files.locations` reads, or null for a sample that
    the catalog holds already); every further column is an attribute. `labels` goes into the ledger, `held_back` only
    into the oracle's file; both follow `LABELS`. `embeddings` are vectors by the name of their model: tables of `key`
    and `vector`, a list of float32 of one length.
    """

    samples: pa.Table
    labels: pa.Table
    held_back: pa.Table
    embeddings: Mapping[str, pa.Table] = field(default_factory=dict)

    @classmethod
    def of(
        cls, samples: pa.Table, labels: pa.Table, *, held_back: bool, embeddings: Mapping[str, pa.Table] | None = None
    ) -> "Content":
        """Content of which all labels are held back, or none."""
        known = as_labels(labels)
        return cls(
            samples=samples,
            labels=LABELS.empty_table() if held_back else known,
            held_back=known if held_back else LABELS.empty_table(),
            embeddings=embeddings or {},
        )

    def keys(self) -> pa.ChunkedArray:
        """Keys of all samples, labels and vectors; a key may come several times."""
        tables = [self.samples, self.labels, self.held_back, *self.embeddings.values()]
        return pa.concat_tables([table.select(["key"]) for table in tables])["key"]

    def without(self, keys: Sequence[str]) -> "Content":
        """The content without these samples, and without their labels and vectors."""
        return Content(
            samples=without(self.samples, keys), labels=without(self.labels, keys),
            held_back=without(self.held_back, keys),
            embeddings={model: without(table, keys) for model, table in self.embeddings.items()},
        )  # fmt: skip


def without(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    """The rows of `table` with another key."""
    if not keys:
        return table
    return table.filter(pc.invert(pc.is_in(table["key"], value_set=pa.array(keys, pa.string()))))
