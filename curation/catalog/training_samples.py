"""Which samples may be trained on: those of the train split that are not excluded, and the groups that they share.

Nothing else derives this: counts, requests, plans and training take it from here.
"""

import numpy as np
import pyarrow as pa

from curation.arrays import Ints
from curation.catalog.view import View

__all__ = ["groups_across", "split_ids", "training_ids"]


def training_ids(view: View, *, before_split: bool = False) -> Ints:
    """Ids of the samples of the train split that are not excluded, sorted.

    With `before_split`, while no sample is in train: the samples without a split that are not excluded.
    """
    split = _attribute(view, "split")
    if before_split and not view.rows(f"SELECT 1 FROM ({split}) WHERE value = 'train' LIMIT 1"):
        unsplit = f"""FROM sample ANTI JOIN ({split}) USING (sample_id) SELECT sample_id
            WHERE commit_id <= {view.commit}"""
        rows = view.table(f"FROM ({unsplit}) ANTI JOIN ({_excluded_sql(view)}) USING (sample_id)")
    else:
        rows = view.table(_training_sql(view))
    return np.sort(np.asarray(rows["sample_id"].to_numpy(), np.int64))


def split_ids(view: View, split: str) -> Ints:
    """Ids of the samples of a split, excluded ones too, sorted."""
    rows = view.table(f"FROM ({_attribute(view, 'split')}) SELECT sample_id WHERE value = ?", [split])
    return np.sort(np.asarray(rows["sample_id"].to_numpy(), np.int64))


def groups_across(view: View, trained: pa.Array | None) -> pa.Table:
    """Groups with samples on both sides, training and evaluation, by name: group, train, evaluation (how many samples
    of each). The training side is the keys `trained`, or else all samples of `training_ids`."""
    named = f"""JOIN sample USING (sample_id) LEFT JOIN ({_attribute(view, "group")}) AS named USING (sample_id)
        WHERE commit_id <= {view.commit}"""
    mine = "SELECT sample_id FROM sample WHERE key IN (FROM trained)" if trained is not None else _training_sql(view)
    split = _attribute(view, "split")
    return view.table(
        f"""WITH evaluated AS MATERIALIZED (
            SELECT coalesce(named.value, key) AS "group", count(*) AS evaluation
            FROM (FROM ({split}) SELECT sample_id WHERE value IN ('validation', 'test')) {named} GROUP BY 1)
        SELECT "group", count(*) AS train, any_value(evaluation) AS evaluation FROM (
            SELECT coalesce(named.value, key) AS "group" FROM ({mine}) {named})
        JOIN evaluated USING ("group") GROUP BY "group" ORDER BY "group" """,
        trained=pa.table({"key": pa.array([], pa.string()) if trained is None else trained}),
    )


def _training_sql(view: View) -> str:
    """SQL of the ids of the training samples, in no order."""
    trained = f"FROM ({_attribute(view, 'split')}) SELECT sample_id WHERE value = 'train'"
    return f"FROM ({trained}) ANTI JOIN ({_excluded_sql(view)}) USING (sample_id)"


def _excluded_sql(view: View) -> str:
    return f"FROM ({_attribute(view, 'excluded', 'flag')}) SELECT sample_id WHERE value"


def _attribute(view: View, name: str, type_: str = "text") -> str:
    return view.attribute_sql(name, type_)
