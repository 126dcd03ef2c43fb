"""Content of the App's own panels: a map of our embeddings, and evaluations of a run on known labels."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from curation.catalog.snapshot import Snapshot
from curation.fiftyone_app.columns import Overlay
from curation.fiftyone_app.mongod import companion, fiftyone
from curation.images.embeddings import Embeddings

__all__ = ["draw_map", "evaluate"]

PANEL: Final = "model_evaluation_panel_builtin"
"""FiftyOne's name of its Model Evaluation panel, and of the store of the panel's scenarios."""


def evaluate(dataset: Any, now: Snapshot, scene: Overlay) -> None:
    """Evaluate the run on the test samples with a known label, each task alone, for the Model Evaluation panel.

    On other samples FiftyOne would count the unknown label as an error.
    """
    if not scene.predictions:
        return
    field, seen = fiftyone().ViewField, set[str]()
    for task in now.tasks().values():
        if task.kind not in ("binary", "categorical") and task.name not in scene.boxed:
            continue
        label, predicted, key = (f"{kind}_{task.name}" for kind in ("label", "pred", "eval"))
        judged = dataset.match(field("attr_split") == "test").exists(label).exists(predicted)
        if key in dataset.list_evaluations():
            dataset.delete_evaluation(key)
        if len(judged):
            if task.kind == "detection":
                judged.evaluate_detections(predicted, gt_field=label, eval_key=key, iou=0.5, progress=False)
            else:
                judged.evaluate_classifications(
                    predicted, gt_field=label, eval_key=key, method="simple", classes=list(task.classes), progress=False
                )
            seen.update(judged.distinct("tags"))
    _offer_scenarios(dataset, [name for name in now.slices() if name in seen])
    dataset.save_workspace(
        "evaluation", _beside_the_samples(PANEL, {}),
        description="each task, on samples with a known label", overwrite=True,
    )  # fmt: skip


def _offer_scenarios(dataset: Any, slices: list[str]) -> None:
    """Give the Model Evaluation panel a scenario for each slice with evaluated samples, and one with all slices.

    They are written to the panel's own store, because FiftyOne has no public call for it.
    """
    offered = {"all slices": slices, **{name: [name] for name in slices}} if slices else {}
    scenarios = {}
    for name, subsets in offered.items():
        id_ = str(companion("bson").ObjectId())
        scenarios[id_] = {"id": id_, "name": name, "type": "sample_field", "field": "tags", "subsets": subsets}
    stores = companion("fiftyone.operators.store").ExecutionStore
    stores.create(PANEL, dataset._doc.id).set("scenarios", scenarios)


def draw_map(dataset: Any, home: Path, model: str) -> int:
    """Project the embeddings of `model` on a plane for the Embeddings panel; returns how many samples have one."""
    found = Embeddings.open(home, model)
    ids = dict(zip(*dataset.values(["key", "id"]), strict=True))
    rows = [row for row, key in enumerate(found.keys) if key in ids]
    if not rows:
        return 0
    points = _principal_plane(np.asarray(found.vectors[rows], np.float32))
    key = f"embeddings_{''.join(each if each.isalnum() else '_' for each in model)}"
    if key in dataset.list_brain_runs():
        dataset.delete_brain_run(key)
    companion("fiftyone.brain").compute_visualization(
        dataset, points={ids[found.keys[row]]: point for row, point in zip(rows, points, strict=True)},
        method="manual", brain_key=key, num_dims=2,
    )  # fmt: skip
    dataset.save_workspace(
        f"map {model}", _beside_the_samples("Embeddings", {"brainResult": key}), description=f"embeddings of {model}",
        overwrite=True,
    )  # fmt: skip
    return len(rows)


def _beside_the_samples(panel: str, state: dict[str, Any]) -> Any:
    """A workspace of the App: the samples on the left, a panel on the right."""
    fo = fiftyone()
    panels = [fo.Panel(type="Samples", pinned=True), fo.Panel(type=panel, state=state)]
    sides = [fo.Space(children=[each], active_child=each.component_id) for each in panels]
    return fo.Space(children=sides, orientation="horizontal")


def _principal_plane(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The two principal components of `vectors` [N, D], as [N, 2], from the D x D covariance."""
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    return np.asarray(centred @ axes[:, ::-1][:, :2], np.float32)
