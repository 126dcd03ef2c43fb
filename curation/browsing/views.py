"""Views that answer questions: each slice, what a run gets wrong, what nobody has looked at, bursts in their order."""

from collections.abc import Iterator
from typing import Any

from curation.browsing.columns import NEAR, Scene
from curation.browsing.mongod import fiftyone
from curation.ledger.snapshot import Snapshot

__all__ = ["arrange"]

SURE = 0.9
"""A prediction that contradicts a label with this confidence makes one suspect the label."""


def arrange(dataset: Any, now: Snapshot, scene: Scene, *, remote: bool) -> None:
    """Save the views and sort the sidebar: a group for each task, then the attributes; images by URL where `remote`."""
    for name, (view, description) in _views(dataset, now, scene):
        dataset.save_view(name, view, description=description)
    fo = fiftyone()
    config = dataset.app_config
    config.sidebar_groups = [
        fo.SidebarGroupDocument(name=name, paths=paths) for name, paths in _groups(now, scene).items()
    ]
    config.active_fields = fo.ActiveFields(paths=_shown(now))
    if remote:
        config.media_fields, config.grid_media_field, config.modal_media_field = ["filepath", "url"], "url", "url"
    dataset.save()


def _views(dataset: Any, now: Snapshot, scene: Scene) -> Iterator[tuple[str, tuple[Any, str]]]:
    field = fiftyone().ViewField
    for name, part in now.slices().items():
        if scene.predictions or not part.reads_predictions:
            yield f"slice {name}", (dataset.match_tags(name), part.predicate)
    tasks = now.tasks().values()
    yield "unsure", (dataset.exists("unsure"), "somebody looked and could not tell")
    yield "disputed", (dataset.exists("disputed"), "people say different things")
    yield "label requests", (dataset.exists("requests"), "what people are, or were, asked to label")
    yield "near-duplicates", (dataset.exists(NEAR).sort_by(NEAR), "images that are nearly the same, side by side")
    yield (
        "groups",
        (
            dataset.group_by("attr_group", order_by="attr_captured_at"),
            "one sample of each group; its others in the order in which they were taken",
        ),
    )
    for task in tasks:
        yield f"unknown {task.name}", (dataset.exists(f"label_{task.name}", False), "nobody has looked, or could tell")
    if not scene.predictions:
        return
    for task in (task for task in tasks if task.outputs):
        error, predicted = f"error_{task.name}", f"pred_{task.name}.confidence"
        if task.kind == "regression":
            yield f"errors {task.name}", (dataset.exists(error).sort_by(error, reverse=True), "the largest first")
            continue
        if scene.before:
            yield f"flips {task.name}", (dataset.exists(f"flip_{task.name}"), "mended, broken or changed by the run")
        wrong = dataset.match(field(error) == True)  # noqa: E712  a condition of MongoDB's
        yield f"errors {task.name}", (wrong.sort_by(predicted, reverse=True), "the surest first")
        yield (
            f"suspected labels {task.name}",
            (
                wrong.match(field(predicted) >= SURE).sort_by(predicted, reverse=True),
                f"labels that the run contradicts with a confidence of {SURE} or more",
            ),
        )


def _shown(now: Snapshot) -> list[str]:
    """What the grid writes on the images until others are ticked: true, false and numbers would cover them."""
    return [f"label_{task.name}" for task in now.tasks().values() if task.kind not in ("binary", "regression")]


def _groups(now: Snapshot, scene: Scene) -> dict[str, list[str]]:
    groups = {"tags": ["tags"], "asked and unsure": ["requests", "unsure", "disputed"]}
    for task in now.tasks().values():
        paths = [f"label_{task.name}"]
        if scene.predictions and task.outputs:
            paths += [f"pred_{task.name}", f"error_{task.name}"]
            if scene.before and task.kind != "regression":
                paths.append(f"flip_{task.name}")
        groups[task.name] = paths
    own = sorted(f"attr_{name}" for name in {*now.attributes(), "split", "group", "captured_at"} - {"excluded"})
    groups["attributes"] = own
    if scene.numbers:
        groups["plan"] = scene.numbers
    groups["metadata"] = ["key", NEAR, "dataset", "url", "filepath", "metadata", "id", "created_at", "last_modified_at"]
    return groups
