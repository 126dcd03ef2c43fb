"""SQL of samples with the attributes that every sample has."""

from curation.catalog.view import View

__all__ = ["samples_sql"]


def samples_sql(view: View) -> str:
    """SQL of the samples of a view, in no order, with the columns of `Snapshot.samples`."""
    joins = " ".join(
        f'LEFT JOIN ({view.attribute_sql(name, type_)}) AS "a_{name}" USING (sample_id)'
        for name, type_ in (("group", "text"), ("split", "text"), ("excluded", "flag"), ("captured_at", "time"))
    )
    return f"""SELECT sample_id, key, location, dataset, sha256, format, width, height, bytes,
            coalesce("a_group".value, key) AS "group", coalesce("a_split".value, '') AS split,
            coalesce("a_excluded".value, false) AS excluded, "a_captured_at".value AS captured_at
        FROM ({view.samples_sql}) AS sample {joins}"""
