"""The labels that a plan may draw: those known of training samples that lie in the pack, read for all tasks at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from samplers.pack.pack import Pack
from samplers.plan.rates import Floats, Ints
from samplers.policy.policy import TaskPolicy

__all__ = ["Labels", "Rows", "eligible_labels", "grouped", "known_labels"]

Rows = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Labels:
    """L labels of one task, in the order of the pack's rows.

    `samples` [L] are sample ids, `rows` [L] rows of the pack. `values` [L] are class codes or numbers; of a multilabel
    or detection task the rarest class that is present, C where there is none. `several` [L] lists what a multilabel
    holds (class codes) or the boxes of a detection, None for other kinds.
    """

    task: Task
    samples: Ints
    rows: Rows
    values: Floats
    several: pa.ListArray | None = None

    def held(self) -> tuple[Ints, Ints]:
        """Each class that an image of a multilabel or detection task holds, once: its place in [L], and the code."""
        assert self.several is not None
        image = np.repeat(np.arange(len(self.rows)), pc.fill_null(pc.list_value_length(self.several), 0).to_numpy())
        flat = self.several.flatten()
        code = flat if self.task.kind == "multilabel" else pc.struct_field(flat, "code")
        classes = np.int64(len(self.task.classes))
        held = np.unique(image * classes + np.asarray(code, np.int64))
        return held // classes, held % classes


def eligible_labels(now: Snapshot, policies: Mapping[str, TaskPolicy], pack: Pack) -> list[Labels]:
    """The labels of each task that `policies` names, in its order.

    BadInput for a task without labels, and where the pack lacks a labelled training sample, which is named.
    """
    table = now.eligible(list(policies), pack.home / "packs" / pack.hash / "index.parquet")
    _refuse_unpacked(now, list(policies), table)
    ids, tasks = now.task_ids(), now.tasks()
    place = np.full(max(ids.values()) + 1, -1, np.int32)
    place[[ids[name] for name in policies]] = np.arange(len(policies), dtype=np.int32)
    found = _Found.of(table)
    by_row, _ = grouped(found.row, pack.images)
    by_task, ends = grouped(place[table["task_id"].to_numpy()][by_row], len(policies))
    spans = zip(policies.items(), np.split(by_row[by_task], ends[1:-1]), strict=True)
    return [_labels_of(now, tasks[name], part, found, mine) for (name, part), mine in spans]


def known_labels(now: Snapshot, task: Task, policy: TaskPolicy) -> Labels:
    """The labels of one task, whether a pack holds their images or not; rows only number them."""
    table = now.labels(task.name)
    train = pa.array(now.training_ids())
    table = table.filter(pc.and_(pc.equal(table["state"], 1), pc.is_in(table["sample_id"], value_set=train)))
    found = _Found.of(table.append_column("row", pa.array(np.arange(len(table)))))
    return _labels_of(now, task, policy, found, np.arange(len(table), dtype=np.int32))


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Labels of all tasks, in no order; `model` says which a model gave."""

    sample: Ints
    row: Ints
    code: npt.NDArray[np.int32]
    number: Floats
    codes: pa.ChunkedArray
    model: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, table: pa.Table) -> "_Found":
        return cls(
            sample=table["sample_id"].to_numpy(), row=table["row"].to_numpy(), codes=table["codes"],
            code=table["code"].fill_null(0).to_numpy(), number=table["number"].fill_null(0.0).to_numpy(),
            model=pc.equal(table["source"], "model").to_numpy(),
        )  # fmt: skip


def grouped(codes: npt.NDArray[np.integer], size: int) -> tuple[Rows, npt.NDArray[np.int32]]:
    """The places of equal codes [n] below `size`, one code after the other, and where each begins [size + 1].

    Within a code places ascend. A counting sort, in a fraction of the time that comparing takes.
    """
    from scipy.sparse import csr_array  # slow to load, and most commands build no plan

    places = np.arange(len(codes), dtype=np.int32)
    counted = csr_array((places, codes.astype(np.int32), np.array([0, len(codes)])), shape=(1, size)).tocsc()
    return counted.data, counted.indptr


def _labels_of(now: Snapshot, task: Task, policy: TaskPolicy, found: _Found, mine: Rows) -> Labels:
    if not policy.model_labels:
        mine = mine[~found.model[mine]]
    if not len(mine):
        raise BadInput(f"policy: task {task.name} has no label to train on; give it share 0, or ask for labels")
    labels = Labels(
        task=task, samples=found.sample[mine], rows=found.row[mine].astype(np.int32),
        values=(found.number if task.kind == "regression" else found.code)[mine].astype(np.float64),
        several=_several(now, task, found, mine),
    )  # fmt: skip
    return labels if labels.several is None else replace(labels, values=_rarest(labels).astype(np.float64))


def _several(now: Snapshot, task: Task, found: _Found, mine: Rows) -> pa.ListArray | None:
    if task.kind == "multilabel":
        return pa.concat_arrays(found.codes.take(pa.array(mine)).chunks)
    if task.kind != "detection":
        return None
    boxes = now.labels(task.name).select(["sample_id", "boxes"]).combine_chunks()
    places = pc.index_in(pa.array(found.sample[mine]), value_set=boxes["sample_id"].combine_chunks())
    return pa.concat_arrays(boxes["boxes"].take(places).chunks)


def _rarest(labels: Labels) -> Ints:
    """Of each image the class that the fewest images hold, the lower code where two are equally rare; C without any."""
    classes = len(labels.task.classes)
    image, code = labels.held()
    by_rarity = np.argsort(np.bincount(code, minlength=classes), kind="stable")
    rarity = np.argsort(by_rarity)
    rarest = np.full(len(labels.rows), classes, np.int64)
    np.minimum.at(rarest, image, rarity[code])
    return np.append(by_rarity, classes)[rarest]


def _refuse_unpacked(now: Snapshot, tasks: Sequence[str], table: pa.Table) -> None:
    """BadInput naming the first labelled training sample that is not in the pack."""
    sample, train = now.known(tasks)["sample_id"].to_numpy(), now.training_ids()
    trained = np.zeros(int(max(sample.max(initial=0), train.max(initial=0))) + 1, np.bool_)
    trained[train] = True
    mine = trained[sample]
    if int(mine.sum()) == len(table):
        return
    lacking = np.setdiff1d(sample[mine], table["sample_id"].to_numpy())
    samples = now.samples()
    keys = samples["key"].filter(pc.is_in(samples["sample_id"], value_set=pa.array(lacking)))
    raise BadInput(f"{keys[0]}: labelled, and not in the pack ({len(keys):,} such images); pack again, then plan")
