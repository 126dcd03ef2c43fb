"""The labels that a plan may draw: known labels of packed training samples, read for all tasks at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.arrays import Bools, Floats, Int8s, Int32s, Ints
from curation.catalog.ignored_boxes import ignored_boxes
from curation.catalog.presence import presence_of_lists
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput
from samplers.pack.pack import Pack
from samplers.policy.policy import TaskPolicy

__all__ = ["TaskLabels", "eligible_labels", "group_by_code", "known_labels"]


@dataclass(frozen=True, kw_only=True)
class TaskLabels:
    """L labels of one task, in the order of the pack's rows.

    `samples` [L] are sample ids, `rows` [L] rows of the pack. `values` [L] are class codes or numbers; for a multilabel
    or detection task the rarest class present, or C if there is none. `lists` [L] are the class codes of a multilabel
    task or the boxes of a detection task, None for other kinds. `looked` [L] are the class codes of a multilabel task
    that somebody looked at, null for all of them.
    """

    task: Task
    samples: Ints
    rows: Int32s
    values: Floats
    lists: pa.ListArray | None = None
    looked: pa.ListArray | None = None

    def present_classes(self) -> tuple[Ints, Ints]:
        """Every (label, class) pair of a multilabel or detection task: indices into [L], and class codes.

        Regions that are ignored, such as crowds, are of no class.
        """
        assert self.lists is not None
        image = np.repeat(np.arange(len(self.rows)), pc.fill_null(pc.list_value_length(self.lists), 0).to_numpy())
        flat = self.lists.flatten()
        code = np.asarray(flat if self.task.kind == "multilabel" else pc.struct_field(flat, "code"), np.int64)
        if self.task.kind == "detection":
            real = ~ignored_boxes(flat)
            image, code = image[real], code[real]
        classes = np.int64(len(self.task.classes))
        pairs = np.unique(image * classes + code)
        return pairs // classes, pairs % classes

    def states(self) -> Int8s:
        """The states [L, C] of the classes of a multilabel task, as in `samplers.plan.presence`."""
        assert self.lists is not None
        return presence_of_lists(self.lists, self.looked, len(self.task.classes))


def eligible_labels(now: Snapshot, policies: Mapping[str, TaskPolicy], pack: Pack) -> list[TaskLabels]:
    """The labels of each task in `policies`, in the same order.

    BadInput for a task without labels, and for a labelled training sample that the pack lacks; the message names it.
    """
    table = now.labels.eligible(list(policies), pack.home / "packs" / pack.hash / "index.parquet")
    _refuse_unpacked(now, list(policies), table)
    ids, tasks = now.task_ids(), now.tasks()
    code_of = np.full(max(ids.values()) + 1, -1, np.int32)
    code_of[[ids[name] for name in policies]] = np.arange(len(policies), dtype=np.int32)
    found = _LabelColumns.of(table)
    by_row, _ = group_by_code(found.row, pack.images)
    by_task, ends = group_by_code(code_of[table["task_id"].to_numpy()][by_row], len(policies))
    spans = zip(policies.items(), np.split(by_row[by_task], ends[1:-1]), strict=True)
    return [_labels_of(now, tasks[name], part, found, mine) for (name, part), mine in spans]


def known_labels(now: Snapshot, task: Task, policy: TaskPolicy) -> TaskLabels:
    """The training labels of one task, packed or not; `rows` only numbers them."""
    table = now.labels(task.name)
    train = pa.array(now.training_ids())
    table = table.filter(pc.and_(pc.equal(table["state"], 1), pc.is_in(table["sample_id"], value_set=train)))
    found = _LabelColumns.of(table.append_column("row", pa.array(np.arange(len(table)))))
    return _labels_of(now, task, policy, found, np.arange(len(table), dtype=np.int32))


@dataclass(frozen=True, kw_only=True)
class _LabelColumns:
    """Labels of all tasks, in no order; `model` marks labels from a model."""

    sample: Ints
    row: Ints
    code: Int32s
    number: Floats
    codes: pa.ChunkedArray
    looked: pa.ChunkedArray
    model: Bools

    @classmethod
    def of(cls, table: pa.Table) -> "_LabelColumns":
        return cls(
            sample=table["sample_id"].to_numpy(), row=table["row"].to_numpy(), codes=table["codes"],
            looked=table["looked"],
            code=table["code"].fill_null(0).to_numpy(), number=table["number"].fill_null(0.0).to_numpy(),
            model=pc.equal(table["source"], "model").to_numpy(),
        )  # fmt: skip


def group_by_code(codes: npt.NDArray[np.integer], size: int) -> tuple[Int32s, Int32s]:
    """Indices into `codes` [n], sorted by code and then ascending, and the start of each code [size + 1].

    A counting sort: several times faster than a sort by comparison. Codes are from 0 to `size` - 1.

    >>> order, starts = group_by_code(np.array([1, 0, 1]), 2)
    >>> order.tolist(), starts.tolist()
    ([1, 0, 2], [0, 1, 3])
    """
    from scipy.sparse import csr_array

    indices = np.arange(len(codes), dtype=np.int32)
    counted = csr_array((indices, codes.astype(np.int32), np.array([0, len(codes)])), shape=(1, size)).tocsc()
    return counted.data, counted.indptr


def _labels_of(now: Snapshot, task: Task, policy: TaskPolicy, found: _LabelColumns, mine: Int32s) -> TaskLabels:
    if not policy.model_labels:
        mine = mine[~found.model[mine]]
    if not len(mine):
        raise BadInput(f"policy: task {task.name} has no label to train on; give it share 0, or request labels")
    labels = TaskLabels(
        task=task, samples=found.sample[mine], rows=found.row[mine].astype(np.int32),
        values=(found.number if task.kind == "regression" else found.code)[mine].astype(np.float64),
        lists=_lists(now, task, found, mine), looked=_looked(task, found, mine),
    )  # fmt: skip
    return labels if labels.lists is None else replace(labels, values=_rarest_class(labels).astype(np.float64))


def _lists(now: Snapshot, task: Task, found: _LabelColumns, mine: Int32s) -> pa.ListArray | None:
    if task.kind == "multilabel":
        return pa.concat_arrays(found.codes.take(pa.array(mine)).chunks)
    if task.kind != "detection":
        return None
    boxes = now.labels(task.name).select(["sample_id", "boxes"]).combine_chunks()
    rows = pc.index_in(pa.array(found.sample[mine]), value_set=boxes["sample_id"].combine_chunks())
    return pa.concat_arrays(boxes["boxes"].take(rows).chunks)


def _looked(task: Task, found: _LabelColumns, mine: Int32s) -> pa.ListArray | None:
    """The classes that somebody looked for; None where every label looked for all of them."""
    if task.kind != "multilabel":
        return None
    looked = pa.concat_arrays(found.looked.take(pa.array(mine)).chunks)
    return None if looked.null_count == len(looked) else looked


def _rarest_class(labels: TaskLabels) -> Ints:
    """The rarest class on each image [L]; the lower code of two equally rare ones, C for an image without a class."""
    classes = len(labels.task.classes)
    image, code = labels.present_classes()
    by_rarity = np.argsort(np.bincount(code, minlength=classes), kind="stable")
    rarity = np.argsort(by_rarity)
    rarest = np.full(len(labels.rows), classes, np.int64)
    np.minimum.at(rarest, image, rarity[code])
    return np.append(by_rarity, classes)[rarest]


def _refuse_unpacked(now: Snapshot, tasks: Sequence[str], table: pa.Table) -> None:
    """BadInput naming the first labelled training sample that the pack lacks."""
    sample, train = now.labels.known(tasks)["sample_id"].to_numpy(), now.training_ids()
    trained = np.zeros(int(max(sample.max(initial=0), train.max(initial=0))) + 1, np.bool_)
    trained[train] = True
    mine = trained[sample]
    if int(mine.sum()) == len(table):
        return
    missing = np.setdiff1d(sample[mine], table["sample_id"].to_numpy())
    samples = now.samples()
    keys = samples["key"].filter(pc.is_in(samples["sample_id"], value_set=pa.array(missing)))
    raise BadInput(f"{keys[0]}: labelled, but not in the pack ({len(keys):,} such images); pack again, then plan")
