"""Leaks between training and evaluation: how they are found, and how the training side is excluded."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.catalog import Catalog
from curation.catalog.schema import EVALUATION
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput

__all__ = ["NearDuplicates", "exclude_training_side", "near_duplicate_sets", "refuse_leaks"]

_COLUMNS = ["key", "group", "split"]
FIX = "`amber duplicates --apply` excludes the training side; then plan and train again"


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """A set of images linked by near-duplicate pairs: their keys, their current groups, and sample counts by split."""

    keys: tuple[str, ...]
    groups: tuple[str, ...]
    splits: dict[str, int]

    @property
    def across(self) -> bool:
        """Whether the set has samples in train and in validation or test."""
        return "train" in self.splits and any(split in self.splits for split in EVALUATION)


def refuse_leaks(now: Snapshot, trained: pa.Array | None = None) -> None:
    """Raise BadInput if a training sample shares its group with an evaluation sample: the figures would be too good.

    `trained` holds the keys of the samples that a run was trained on; default: all of train that are not excluded.
    """
    across = now.groups_across(trained)
    if len(across):
        first = across.slice(0, 1).to_pylist()[0]
        others = f" and {len(across) - 1:,} more groups are" if len(across) > 1 else " is"
        raise BadInput(
            f"group {first['group']!r}{others} in training and in evaluation ({first['train']} and "
            f"{first['evaluation']} of its samples): the figures would be too good; {FIX}"
        )


def near_duplicate_sets(now: Snapshot, near: list[str], keys: list[str]) -> list[NearDuplicates]:
    """Near-duplicate sets of at least two images, sets across splits first; `near[i]` is the set of `keys[i]`."""
    rows, trained = {row["key"]: row for row in now.samples().select(_COLUMNS).to_pylist()}, _trained(now)
    members: dict[str, list[str]] = {}
    for key, name in zip(keys, near, strict=True):
        members.setdefault(name, []).append(key)
    found = []
    for inside in members.values():
        if len(inside) > 1:
            some = [rows[key] for key in inside]
            splits = Counter(row["split"] for row in some if row["split"] != "train" or row["key"] in trained)
            groups = tuple(sorted({row["group"] for row in some}))
            found.append(NearDuplicates(keys=tuple(sorted(inside)), groups=groups, splits=dict(sorted(splits.items()))))
    return sorted(found, key=lambda part: (not part.across, part.keys))


def exclude_training_side(catalog: Catalog, found: list[NearDuplicates], *, author: str) -> tuple[int, int]:
    """Join the groups that near-duplicates link, and exclude the training samples of each group across splits.

    Splits do not change. Returns how many samples changed their group, and how many became excluded; if both are 0,
    nothing is committed.
    """
    with catalog.read() as now:
        digest, samples, trained = now.digest, now.samples().select(_COLUMNS).to_pylist(), _trained(now)
    name = _joined(sorted({row["group"] for row in samples}), found)
    evaluated = {name[row["group"]] for row in samples if row["split"] in EVALUATION}
    moved = {row["key"]: name[row["group"]] for row in samples if name[row["group"]] != row["group"]}
    out = [row["key"] for row in samples if row["key"] in trained and name[row["group"]] in evaluated]
    if moved or out:
        message = f"join {len(moved)} near-duplicates to their groups, exclude {len(out)}"
        with catalog.commit(author=author, message=message, batch=f"duplicates:{digest}") as change:
            change.add_attributes(pa.table({"key": _texts(moved), "group": _texts(moved.values())}))
            change.add_attributes(pa.table({"key": _texts(out), "excluded": pa.array([True] * len(out), pa.bool_())}))
    return len(moved), len(out)


def _trained(now: Snapshot) -> set[str]:
    """Keys of the samples that may be trained on."""
    samples = now.samples()
    return set(
        samples["key"].filter(pc.is_in(samples["sample_id"], value_set=pa.array(now.training_ids()))).to_pylist()
    )


def _texts(values: Iterable[str]) -> pa.Array:
    return pa.array(list(values), pa.string())


def _joined(groups: list[str], found: list[NearDuplicates]) -> dict[str, str]:
    """For each group, the first group by name among those that near-duplicates link."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    row_of = {group: row for row, group in enumerate(groups)}
    links = [(row_of[one.groups[0]], row_of[other]) for one in found for other in one.groups[1:]]
    left, right = np.asarray(links, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(links), np.bool_), (left, right)), shape=(len(groups), len(groups)))
    component = connected_components(graph, directed=False)[1].tolist()
    first: dict[int, str] = {}
    for group, number in zip(groups, component, strict=True):
        first.setdefault(number, group)
    return {group: first[number] for group, number in zip(groups, component, strict=True)}
