"""Classes that test asks for and training never saw; without torch."""

from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc

from curation.arrays import Floats
from curation.catalog.schema import KNOWN
from curation.catalog.snapshot import Snapshot
from samplers.plan.plan import Plan, PlanTask

__all__ = ["unseen_classes", "unseen_in_test"]


def unseen_in_test(now: Snapshot, plan: Plan) -> list[str]:
    """A line for each class that has a known label in test now and has none among the labels that `plan` draws.

    And one for each declared attribute of boxes of which no box in training is known: nothing learns it."""
    samples = now.samples("sample_id", "split")
    test = samples["sample_id"].filter(pc.equal(samples["split"], "test")).combine_chunks()
    found: list[str] = []
    for task in plan.tasks:
        if task.task.classes:
            labels = now.labels(task.name)
            known = pc.and_(pc.equal(labels["state"], KNOWN), pc.is_in(labels["sample_id"], value_set=test))
            if task.task.kind == "detection":
                codes = pc.struct_field(pc.list_flatten(labels["boxes"].filter(known)), "code")
            else:
                codes = labels["code"].filter(known)
            found += unseen_classes(task, codes.to_numpy().astype(np.float64))
            learned = {each.name for each in task.attributes}
            found += [
                f"{task.name}: attribute {name} is known of no box in training, so it is not learned; label some"
                for name, _ in task.task.attributes if name not in learned
            ]  # fmt: skip
    return found


def unseen_classes(task: PlanTask, truth: Floats | Sequence[float]) -> list[str]:
    """A line for each class among the codes `truth` [n] of test labels, or boxes, that training has none of."""
    codes, counts = np.unique(np.asarray(truth, np.int64), return_counts=True)
    return [
        f"{task.name}: class {task.task.classes[code]!r} has {count:,} {_counted(task, count)} in test and none in "
        "training, so its recall is 0 by construction; label some of it for training"
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True)
        if code < len(task.labelled) and not task.labelled[code]
    ]


def _counted(task: PlanTask, count: int) -> str:
    if task.task.kind == "detection":
        return "box" if count == 1 else "boxes"
    return "label" if count == 1 else "labels"
