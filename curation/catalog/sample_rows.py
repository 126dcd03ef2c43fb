"""SQL of samples with the attributes that every sample has."""

from collections.abc import Collection

from curation.catalog.view import View

__all__ = ["samples_sql"]

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
