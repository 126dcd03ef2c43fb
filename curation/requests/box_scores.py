"""What a run says about the classes of a task of boxes on each image, and which class is the rarest so far."""

import numpy as np
import pyarrow.compute as pc

from curation.arrays import Floats
from curation.catalog.ignored_boxes import ignored_boxes
from curation.catalog.tasks import Task
from curation.requests.candidates import Candidates

__all__ = ["best_scores", "rarest_class"]


def best_scores(candidates: Candidates, task: Task) -> Floats:
    """The highest score [N, C] of a predicted box of each class on each sample; 0 without one."""
    places, boxes = candidates.predicted_boxes(task)
    codes, scores = (pc.struct_field(boxes, name).to_numpy() for name in ("code", "score"))
    found = np.zeros((len(candidates.ids), len(task.classes)))
    kept = codes < len(task.classes)
    np.maximum.at(found, (places[kept], codes[kept]), scores[kept])
    return found


def rarest_class(candidates: Candidates, task: Task) -> int:
    """The code of the class with the fewest known boxes, the first of several; ignored regions do not count."""
    known = pc.list_flatten(candidates.known(task.name)["boxes"]).combine_chunks()
    codes = pc.struct_field(known, "code").to_numpy(zero_copy_only=False)[~ignored_boxes(known)]
    return int(np.bincount(codes, minlength=len(task.classes))[: len(task.classes)].argmin())
