"""SQL of samples with the attributes that every sample has, and of samples that were forgotten."""

from collections.abc import Collection

import pyarrow as pa

from curation.catalog.view import View

__all__ = ["forgotten_images", "forgotten_keys", "samples_sql"]

GIVEN = {
    "group": ("text", 'coalesce("a_group".value, key)'),
    "split": ("text", "coalesce(\"a_split\".value, '')"),
    "excluded": ("flag", 'coalesce("a_excluded".value, false)'),
    "captured_at": ("time", '"a_captured_at".value'),
}
"""The attributes that every sample has: type, and value in SQL."""


def samples_sql(view: View, columns: Collection[str] = ()) -> str:
    """SQL of the samples of a view, in no order, with the columns of `Snapshot.samples`; of `GIVEN` only those that
    `columns` names, where it names any column."""
    given = {name: each for name, each in GIVEN.items() if not columns or name in columns}
    joins = " ".join(
        f'LEFT JOIN ({view.attribute_sql(name, type_)}) AS "a_{name}" USING (sample_id)'
        for name, (type_, _) in given.items()
    )
    values = "".join(f', {value} AS "{name}"' for name, (_, value) in given.items())
    return f"""SELECT sample_id, key, location, dataset, sha256, format, width, height, bytes{values}
        FROM ({view.samples_sql}) AS sample {joins}"""


def forgotten_keys(view: View, samples: pa.Table) -> list[str]:
    """Those of the keys of `samples` (key) that were forgotten, sorted. The catalog keeps only their hashes."""
    return _keys(view, "SELECT key FROM incoming WHERE sha256(key) IN (SELECT key_sha256 FROM forgotten)", samples)


def forgotten_images(view: View, samples: pa.Table) -> list[str]:
    """Keys of those of `samples` (key, sha256) that the catalog lacks and whose image was forgotten, sorted."""
    query = (
        "SELECT key FROM incoming ANTI JOIN sample USING (key) "
        "WHERE sha256('image ' || incoming.sha256) IN (SELECT key_sha256 FROM forgotten)"
    )
    return _keys(view, query, samples)


def _keys(view: View, query: str, samples: pa.Table) -> list[str]:
    rows = view.table(f"SELECT DISTINCT key FROM ({query}) ORDER BY key", incoming=samples)
    return [str(key) for key in rows["key"].to_pylist()]
