"""What a network says of the attributes of boxes that are known: read at their centres, so it need not find them."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

from curation.arrays import Floats, Ints
from curation.catalog.schema import KNOWN
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput
from samplers.pack.pack import Pack
from samplers.plan.boxes import DrawBoxes
from samplers.plan.plan import Plan
from training.evaluation.predicted_boxes import given_boxes, likeliest
from training.network.box_attributes import attribute_answers, attributes_at
from training.network.model import Network
from training.network.objects import Objects
from training.network.tree_network import TreeNetwork

__all__ = ["Given", "known_boxes"]


def known_boxes(now: Snapshot, plan: Plan) -> dict[str, pa.Table]:
    """The known boxes (key, boxes) of each task of boxes of a plan that learns attributes."""
    found = {}
    samples = now.samples()
    for task in plan.tasks:
        if task.attributes:
            labels = now.labels(task.name)
            labels = labels.filter(pc.equal(labels["state"], KNOWN))
            at = pc.index_in(labels["sample_id"], value_set=samples["sample_id"].combine_chunks())
            found[task.name] = pa.table({"key": samples["key"].take(at), "boxes": labels["boxes"]})
    return found


class Given:
    """The known boxes of the images of a pack for one task, and what a network says of their attributes."""

    def __init__(self, plan: Plan, task: int, known: pa.Table, pack: Pack) -> None:
        self._task, self._attributes = task, plan.tasks[task].attributes
        self.name = plan.tasks[task].name
        at = pc.index_in(pack.keys, value_set=known["key"].combine_chunks())
        self._lists = known["boxes"].combine_chunks().take(at)
        self._ends = np.cumsum(pc.fill_null(pc.list_value_length(self._lists), 0).to_numpy())
        self._boxes, self._sizes = self._lists.flatten(), pack.sizes(pack.keys.to_pylist())
        self._likely: list[Floats] = []

    def add(self, network: Network | TreeNetwork, outputs: Tensor, first: int) -> None:
        """Read the outputs [B, O] of the pack's images from the row `first` on; BadInput where one is not finite."""
        rows = np.arange(first, first + len(outputs))
        place = int(self._ends[first - 1]) if first else 0
        counts = np.diff(self._ends[rows], prepend=place)
        draws: Ints = np.repeat(np.arange(len(rows)), counts)
        own = self._boxes.slice(place, len(draws))
        boxes = DrawBoxes.of_struct(draws, np.full(len(draws), self._task), own, ())
        maps = network.losses.attribute_maps(outputs, self._task).float()
        read = attributes_at(maps, Objects.of(boxes, self._sizes[rows]))
        if not bool(read.isfinite().all()):
            raise BadInput(f"task {self.name}: predicts attributes that are no finite numbers; train at a lower rate")
        self._likely.append(likeliest(attribute_answers(read, self._attributes).double().numpy(), self._attributes))

    def column(self) -> pa.Array:
        """`GIVEN` of all images."""
        return given_boxes(self._lists, np.concatenate(self._likely), self._attributes)
