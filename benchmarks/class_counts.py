"""Class counts of current labels, straight from the current-label rule: what the catalog's benchmarks time."""

from collections.abc import Sequence

import pyarrow as pa

from curation.catalog.snapshot import Snapshot

__all__ = ["class_counts"]


def class_counts(now: Snapshot, tasks: Sequence[str] | None = None) -> pa.Table:
    """Current labels of these tasks, or of all, counted: task_id, state, code (null for kinds without classes), n."""
    labels = now.labels.sql(tasks)
    return now.view.table(f"SELECT task_id, state, code, count(*) AS n FROM ({labels}) GROUP BY ALL ORDER BY ALL")
