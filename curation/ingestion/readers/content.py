"""The result of every reader: Arrow tables of samples, labels and held-back labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.event_tables import LABELS, as_labels

__all__ = ["Content", "without"]


@dataclass(frozen=True, kw_only=True)
class Content:
    """The content of a source, read but not yet validated.

    `samples` has the columns `key` and `location` (readable by `curation.files.locations`, or null for a sample that
    the catalog already holds); every further column is an attribute. `labels` go into the ledger, `held_back` only into
    the oracle's file; both have the columns of `LABELS`. `embeddings` maps the name of a model to a table of `key` and
    `vector`, lists of float32 of one length.

    `box_origins` is aligned with the labels (`labels`, or `held_back` where all are held back): the origin of each box,
    or null where the label's own origin serves. With `fractions`, boxes are in fractions of the upright image; without,
    in pixels.
    """

    samples: pa.Table
    labels: pa.Table
    held_back: pa.Table
    embeddings: Mapping[str, pa.Table] = field(default_factory=dict)
    box_origins: pa.Array | None = None
    fractions: bool = False

    @classmethod
    def of(
        cls, samples: pa.Table, labels: pa.Table, *, held_back: bool, embeddings: Mapping[str, pa.Table] | None = None,
        box_origins: pa.Array | None = None, fractions: bool = False,
    ) -> "Content":  # fmt: skip
        """Content with all labels held back, or none."""
        known = as_labels(labels)
        return cls(
            samples=samples,
            labels=LABELS.empty_table() if held_back else known,
            held_back=known if held_back else LABELS.empty_table(),
            embeddings=embeddings or {},
            box_origins=box_origins,
            fractions=fractions,
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
