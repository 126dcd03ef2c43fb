"""Which samples may be trained on: those of the train split that are not excluded, and the groups that they share."""

import numpy as np
import pyarrow as pa

from curation.arrays import Ints
from curation.catalog.view import View

__all__ = ["groups_across", "training_ids"]


def training_ids(view: View) -> Ints:
    """Ids of the samples of the train split that are not excluded, sorted."""
    train, excluded = (
        view.table(f"SELECT sample_id FROM ({view.attribute_sql(name, type_)}) WHERE value{which}")
        for name, type_, which in (("split", "text", " = 'train'"), ("excluded", "flag", ""))
    )
    ids = np.sort(train["sample_id"].to_numpy())
    return np.asarray(ids[~np.isin(ids, excluded["sample_id"].to_numpy())], np.int64)


def groups_across(view: View, trained: pa.Array | None) -> pa.Table:
    """Groups with samples on both sides, training and evaluation, by name: group, train, evaluation (how many samples
    of each). The training side is the keys `trained`, or else all samples of `training_ids`."""
    group, split = (view.attribute_sql(name, "text") for name in ("group", "split"))
    excluded = view.attribute_sql("excluded", "flag")
    named = f"""JOIN sample USING (sample_id) LEFT JOIN ({group}) AS named USING (sample_id)
        WHERE commit_id <= {view.commit}"""
    mine = "SELECT sample_id FROM sample WHERE key IN (FROM trained)"
    if trained is None:
        out = f"FROM ({excluded}) SELECT sample_id WHERE value"
        mine = f"FROM (FROM ({split}) SELECT sample_id WHERE value = 'train') ANTI JOIN ({out}) USING (sample_id)"
    return view.table(
        f"""WITH evaluated AS MATERIALIZED (
            SELECT coalesce(named.value, key) AS "group", count(*) AS evaluation
            FROM (FROM ({split}) SELECT sample_id WHERE value IN ('validation', 'test')) {named} GROUP BY 1)
        SELECT "group", count(*) AS train, any_value(evaluation) AS evaluation FROM (
            SELECT coalesce(named.value, key) AS "group" FROM ({mine}) {named})
        JOIN evaluated USING ("group") GROUP BY "group" ORDER BY "group" """,
        trained=pa.table({"key": pa.array([], pa.string()) if trained is None else trained}),
    )
