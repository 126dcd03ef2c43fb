"""What every reader hands over: three Arrow tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from curation.catalog.event_tables import LABELS, as_labels

__all__ = ["Content"]


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
