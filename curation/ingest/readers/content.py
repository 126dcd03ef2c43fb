"""The result of every reader: Arrow tables of samples, labels and held-back labels."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from curation.catalog.event_tables import LABELS, as_labels

__all__ = ["Content"]


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
