"""Whether an exported network answers as its run did: on images of the run's pack, beside its recorded predictions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from curation.arrays import Floats
from curation.errors import Damaged, Failed
from samplers.pack.pack import Pack
from samplers.plan.plan import PlanTask
from samplers.streaming.frame_pairs import FramePairs
from training.deployment.box_answers import apart, recorded_boxes
from training.deployment.deployed import Deployed
from training.evaluation.features import fitted_images
from training.evaluation.predicted_boxes import BOX

__all__ = ["IMAGES", "TOLERANCE", "Answers", "Differences", "Inputs", "Reference", "compare", "reference"]

IMAGES = 256
"""Images of the run's pack, evenly spaced, on which an exported network is checked."""

TOLERANCE = 1e-4
"""The largest difference: of a probability, or of a number in the deviations by which its task is standardised."""

BOX_DIMENSIONS = 3
"""Dimensions of the answer of a task of boxes; others have fewer."""

Answers = Mapping[str, npt.NDArray[np.floating]]
Inputs = Mapping[str, npt.NDArray[np.generic]]
"""What an exported network takes, by name: `images`, and for tasks of two frames `before` and `has_before`."""

Run = Callable[[Inputs], Answers]


@dataclass(frozen=True, kw_only=True)
class Differences:
    """The largest differences that were found on so many `images`.

    `torch` is that of the network in PyTorch from the run's recorded predictions; `onnx` and `export` are those of the
    two files from the network in PyTorch, `onnx_recorded` that of the ONNX file from the recorded predictions.
    """

    images: int
    torch: float
    onnx: float
    onnx_recorded: float
    export: float
    tolerance: float = TOLERANCE

    @property
    def words(self) -> dict[str, float]:
        """The fields as plain words."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """Batches of images of a run's pack with the answers of its network in PyTorch, and those that it recorded."""

    run: str
    inputs: list[Inputs]
    answers: list[Answers]
    recorded: list[Answers]
    scales: Mapping[str, Floats]
    """What a difference of each task's answers is divided by: one number, or one for each column of a box."""

    def distance(self, one: Sequence[Answers], other: Sequence[Answers]) -> float:
        """The largest difference of any answer over its scale; NaN where one is not finite."""
        found = [
            apart(mine[name] / scale, theirs[name] / scale, TOLERANCE)
            if mine[name].ndim == BOX_DIMENSIONS else float((np.abs(mine[name] - theirs[name]) / scale).max())
            for mine, theirs in zip(one, other, strict=True) for name, scale in self.scales.items()
        ]  # fmt: skip
        return float(np.max(found))


def reference(network: Deployed, pack: Pack, recorded: Path, pairs: FramePairs | None = None) -> Reference:
    """Answers of `network` on images of `pack`, beside those in the predictions file `recorded`.

    Damaged where they differ by more than `TOLERANCE`: the weights are not those that were trained.
    """
    every = np.unique(np.linspace(0, len(pack.keys) - 1, IMAGES).round().astype(np.int32))
    truth = _recorded(recorded, network, pack, pack.keys.take(pa.array(every)))
    place = {int(row): number for number, row in enumerate(every)}
    scales = {task.name: _scale(task) for task in network.tasks}
    found = Reference(run=network.run_id, inputs=[], answers=[], recorded=[], scales=scales)
    for rows, images in fitted_images(pack, network.recipe, every):
        inputs: dict[str, npt.NDArray[Any]] = {"images": images.copy()}
        if network.paired and pairs is not None:
            inputs |= _frames_before(pairs, network, rows)
        found.inputs.append(inputs)
        with torch.inference_mode():
            answers = network(**{name: torch.from_numpy(part) for name, part in inputs.items()})
            found.answers.append({name: part.numpy() for name, part in answers.items()})
        found.recorded.append({name: part[[place[int(row)] for row in rows]] for name, part in truth.items()})
    if not (distance := found.distance(found.answers, found.recorded)) <= TOLERANCE:
        raise Damaged(
            f"run {network.run_id}: its network differs from its recorded predictions by {distance:.2g} (at most "
            f"{TOLERANCE:g} is allowed), so its weights or its trunk have changed; train it again"
        )
    return found


def compare(found: Reference, *, onnx: Run, export: Run) -> Differences:
    """How far two exported networks are from the network in PyTorch and from what was recorded.

    Failed where one is further away than `TOLERANCE`.
    """
    by_onnx, by_export = ([run(inputs) for inputs in found.inputs] for run in (onnx, export))
    distances = {
        "torch": found.distance(found.answers, found.recorded), "onnx": found.distance(by_onnx, found.answers),
        "onnx_recorded": found.distance(by_onnx, found.recorded), "export": found.distance(by_export, found.answers),
    }  # fmt: skip
    for name, distance in distances.items():
        if not distance <= TOLERANCE:
            raise Failed(
                f"run {found.run}: the exported network ({name}) differs by {distance:.2g} (at most {TOLERANCE:g} is "
                "allowed); export it with the pinned releases of torch, onnx and onnxruntime"
            )
    return Differences(images=sum(len(inputs["images"]) for inputs in found.inputs), **distances)


def _scale(task: PlanTask) -> Floats:
    """What differences of a task's answers are divided by: the deviation of a number, 1 of all else."""
    if task.task.kind != "detection":
        return np.array([1.0 if task.task.classes else task.deviation])
    return np.concatenate([np.ones(BOX), *(np.full(each.outputs, each.deviation) for each in task.attributes)])


def _frames_before(pairs: FramePairs, network: Deployed, rows: npt.NDArray[np.int32]) -> dict[str, npt.NDArray[Any]]:
    """The frames before the images `rows` of the pack, uint8 [n, 3, H, W], and which there are."""
    earlier = pairs.before[rows]
    place = {int(row): at for at, row in enumerate(earlier) if row >= 0}
    before = np.zeros((len(rows), 3, *network.recipe.size), np.uint8)
    for found, images in fitted_images(pairs.pack, network.recipe, earlier[earlier >= 0]):
        before[[place[int(row)] for row in found]] = images
    return {"before": before, "has_before": earlier >= 0}


def _recorded(path: Path, network: Deployed, pack: Pack, keys: pa.Array) -> dict[str, npt.NDArray[np.float64]]:
    """The recorded answers of each task for these keys, in their order."""
    table, found = pq.read_table(path), dict[str, npt.NDArray[np.float64]]()
    for task in network.tasks:
        mine = table.filter(pc.equal(table["task"], task.name))
        rows = pc.index_in(keys, value_set=mine["key"].combine_chunks())
        if rows.null_count:
            raise Damaged(f"{path}: lacks predictions of task {task.name}; evaluate run {network.run_id} again")
        if task.task.kind == "detection":
            found[task.name] = recorded_boxes(mine["boxes"].take(rows), pack.sizes(keys.to_pylist()), task.attributes)
        elif task.task.classes:
            chances = mine["probabilities"].take(rows).combine_chunks()
            found[task.name] = np.asarray(chances.flatten()).reshape(len(keys), -1)
        else:
            found[task.name] = np.asarray(mine["number"].take(rows), np.float64)
    return found
