"""Batches from materialized shards (`amber plan materialize`), read by webdataset: for training where the pack is not.

The shards hold each draw once, in plan order, with labels and weights. With at most one worker the batches are those
of the stream, bit for bit. More workers take whole shards in turn: each draw is still read once, but in another
order, so the run has an id of its own. Given up against the stream: resuming inside the shards, other ranks, and
replacing bad images.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation.arrays import Bools, Float32s, Int8s, Pixels
from curation.catalog.event_tables import BOX
from curation.catalog.presence import ABSENT, PRESENT, UNSEEN
from curation.errors import BadInput, Damaged
from curation.files.read_back import read_json
from curation.images.decoding import BadImage
from samplers.plan.boxes import SIDES, DrawBoxes
from samplers.plan.plan import Plan, PlanTask
from samplers.plan.presence import class_spans
from samplers.streaming.batches import Batch
from samplers.streaming.decode import decode_into

__all__ = ["Shards"]

CHUNK = 16
"""Draws that a worker sends at once."""

CODED = pa.struct([("code", pa.int32()), *list(BOX)[1:]])
"""A box with the code of its class."""

AGAIN = "write it again with `amber plan materialize`"

Draw = tuple[str, int, str, Pixels]
"""The key of a draw, its position, its note as JSON, and its pixels [H, W, 3]."""


@dataclass(frozen=True, kw_only=True)
class Shards:
    """The `folder` of a materialized plan, and in how many processes to read and decode it (0: in this one)."""

    folder: Path
    workers: int = 0

    @property
    def order(self) -> str:
        """What the order of draws depends on besides the plan; empty where it is the plan's own."""
        return f"{len(self._files())} shards, {self.workers} workers" if self.workers > 1 else ""

    def check(self, plan: Plan) -> None:
        """BadInput unless these are all shards of `plan`, and no worker is without one."""
        path = self.folder / "plan.json"
        if not path.is_file():
            raise BadInput(f"{self.folder}: holds no materialized plan; {AGAIN}")
        header, found = read_json(path, AGAIN, dict[str, Any]), len(self._files())
        if header.get("plan") != plan.hash:
            raise BadInput(f"{self.folder}: is of plan {header.get('plan')}, not of {plan.hash}; {AGAIN}")
        if found != header.get("shards"):
            raise Damaged(f"{self.folder}: has {found} of {header.get('shards')} shards; {AGAIN}")
        if not 0 <= self.workers <= found:
            raise BadInput(
                f"workers {self.workers}: from 0 to {found}, the number of shards; materialize with smaller shards"
            )

    def batches(self, plan: Plan, global_batch: int, size: tuple[int, int]) -> Iterator[Batch]:
        """All whole batches of the plan, with images of `size` (height, width).

        Damaged, naming folder or key, where a shard or image cannot be read, or the draws are not the plan's.
        """
        self.check(plan)
        labels, index = _Labels(plan.tasks), 0
        waiting: list[Draw] = []
        seen = np.zeros(len(plan.draws), np.bool_)
        for draw in self._draws(size):
            if isinstance(draw, str):
                raise Damaged(draw)
            key, at = draw[:2]
            if not 0 <= at < len(seen) or seen[at] or plan.keys[int(plan.draws[at])].as_py() != key:
                raise Damaged(f"{self.folder}: draw {at} ({key}) is not the plan's; {AGAIN}")
            seen[at] = True
            waiting.append(draw)
            if len(waiting) == global_batch:
                yield labels.batch(plan, index, waiting)
                waiting, index = [], index + 1
        if not seen.all():
            raise Damaged(f"{self.folder}: has {int(seen.sum())} of {len(seen)} draws; {AGAIN}")

    def _files(self) -> list[str]:
        return sorted(map(str, self.folder.glob("*.tar")))

    def _draws(self, size: tuple[int, int]) -> Iterator[Draw | str]:
        """The draws; for one whose image is damaged a line that says so, since workers garble exceptions."""
        import webdataset

        dataset = webdataset.WebDataset(self._files(), shardshuffle=False).map(partial(_decoded, size=size))
        choice = {"multiprocessing_context": "spawn"} if self.workers else {}
        loader = webdataset.WebLoader(
            dataset.batched(CHUNK, collation_fn=None), batch_size=None, num_workers=self.workers, collate_fn=_same,
            **choice,
        )  # fmt: skip
        try:
            for chunk in loader:
                yield from chunk
        except Exception as error:  # webdataset, tarfile and a worker raise errors of their own
            reason = str(error).strip().rpartition("\n")[2] or type(error).__name__
            raise Damaged(f"{self.folder}: a shard cannot be read ({reason[:160]}); {AGAIN}") from error


def _same(chunk: list[Draw | str]) -> list[Draw | str]:
    return chunk


def _decoded(sample: dict[str, Any], size: tuple[int, int]) -> Draw | str:
    note = sample["json"].decode()
    fields = json.loads(note)
    image = next(data for name, data in sample.items() if name != "json" and not name.startswith("__"))
    pixels = np.empty((*size, 3), np.uint8)
    try:
        decode_into(memoryview(image), pixels)
    except BadImage as error:
        return f"{sample['__url__']}: {fields['key']} {error}"
    return fields["key"], fields["position"], note, pixels


class _Labels:
    """Reads the notes of draws into arrays, for T tasks."""

    def __init__(self, tasks: tuple[PlanTask, ...]) -> None:
        self._spans = class_spans([task.task for task in tasks])
        self._tasks = {task.name: column for column, task in enumerate(tasks)}
        self._codes = [{name: code for code, name in enumerate(task.task.classes)} for task in tasks]
        self._attributes = [task.attributes for task in tasks]
        self._boxed = [column for column, task in enumerate(tasks) if task.task.kind == "detection"]

    def batch(self, plan: Plan, index: int, draws: list[Draw]) -> Batch:
        """The draws as a batch."""
        keys, places, notes, images = zip(*draws, strict=True)
        positions = np.asarray(places, np.int64)
        fields = [json.loads(note) for note in notes]
        values, known, weights = self._arrays(fields)
        return Batch(
            index=index, positions=positions, rows=np.asarray(plan.draws[positions], np.int32), keys=list(keys),
            images=np.stack(images).transpose(0, 3, 1, 2), values=values, known=known, weights=weights,
            presence=self._presence(fields), boxes=self._boxes(fields) if self._boxed else None,
        )  # fmt: skip

    def _presence(self, notes: Sequence[Mapping[str, Any]]) -> Int8s:
        """The states [B, M] of the classes of all multilabel tasks; `looked` names those that somebody looked for."""
        found = np.full((len(notes), max((span.stop for span in self._spans.values()), default=0)), UNSEEN, np.int8)
        for row, fields in enumerate(notes):
            for name, value in fields["labels"].items():
                span = self._spans.get(self._tasks[name])
                if span is None:
                    continue
                codes = self._codes[self._tasks[name]]
                looked = fields.get("looked", {}).get(name, codes)
                found[row, [span.start + codes[each] for each in looked]] = ABSENT
                found[row, [span.start + codes[each] for each in value]] = PRESENT
        return found

    def _arrays(self, notes: Sequence[Mapping[str, Any]]) -> tuple[Float32s, Bools, Float32s]:
        """Values (0 for a list of classes), known and weights, each [B, T]."""
        shape = len(notes), len(self._tasks)
        values, known, weights = np.zeros(shape, np.float32), np.zeros(shape, np.bool_), np.zeros(shape, np.float32)
        for row, fields in enumerate(notes):
            for name, value in fields["labels"].items():
                column = self._tasks[name]
                if not isinstance(value, list):
                    values[row, column] = self._codes[column][value] if isinstance(value, str) else value
                known[row, column], weights[row, column] = True, fields["weights"][name]
        return values, known, weights

    def _boxes(self, draws: Sequence[dict[str, Any]]) -> DrawBoxes:
        names = list(self._tasks)
        found = [
            (row, column, box) for row, fields in enumerate(draws) for column in self._boxed
            for box in fields["labels"].get(names[column], [])
        ]  # fmt: skip
        rows, tasks = np.array([each[:2] for each in found], np.int64).reshape(-1, 2).T
        structs = [
            {"code": self._codes[column][box["class"]], **{side: box[side] for side in SIDES},
             "attributes": list(box.get("attributes", {}).items())}
            for _, column, box in found
        ]  # fmt: skip
        return DrawBoxes.of_struct(rows, tasks, pa.array(structs, CODED), self._attributes)
