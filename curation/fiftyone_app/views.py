"""Saved views: findings, where a run fails, slices, unknown and disputed labels, near-duplicates, groups."""

from collections.abc import Iterator
from typing import Any, Final

from curation.analysis.colabelling import Hole, holes
from curation.catalog.snapshot import Snapshot
from curation.fiftyone_app.columns import FOUND, KNOWN_TASKS, NEAR, Overlay
from curation.fiftyone_app.mongod import fiftyone
from curation.requests.manual_requests import TAG

__all__ = ["arrange", "arrange_holes"]

SURE: Final = 0.9
"""A label is suspect when a prediction contradicts it with at least this confidence."""
WORST, HOLES = 12, 6
"""How many of the worst slices, and of the worst co-labelling holes, get a view."""
ORDERED: Final = 1_000
"""A view names at most so many samples in their order; one of more holds them in any order."""
RED: Final = "#EE0000"
"""The colour of views of bad slices with enough data."""


def arrange(dataset: Any, now: Snapshot, scene: Overlay, *, remote: bool) -> None:
    """Save the views, and arrange the sidebar: a group for each task, then the attributes.

    With `remote` the App shows images by URL.
    """
    _save_findings(dataset, scene)
    _save_worst(dataset, scene)
    for name, (view, description) in _views(dataset, now, scene):
        dataset.save_view(name, view, description=description)
    arrange_holes(dataset, now)
    fo = fiftyone()
    config = dataset.app_config
    config.sidebar_groups = [
        fo.SidebarGroupDocument(name=name, paths=paths) for name, paths in _groups(now, scene).items()
    ]
    config.active_fields = fo.ActiveFields(paths=_shown(now))
    if remote:
        config.media_fields, config.grid_media_field, config.modal_media_field = ["filepath", "url"], "url", "url"
    dataset.save()


def arrange_holes(dataset: Any, now: Snapshot) -> None:
    """Save a view of each of the worst co-labelling holes, and delete the views of closed ones."""
    found = {f"hole {hole.one} + {hole.other}": hole for hole in holes(now, HOLES)}
    for name in (name for name in dataset.list_saved_views() if name.startswith("hole ") and name not in found):
        dataset.delete_saved_view(name)
    for name, hole in found.items():
        counts = f"known together on {hole.both:,} samples, by chance on {hole.expected:,.0f}"
        description = f"{counts}; here one of the two is known: those with the most known tasks first"
        dataset.save_view(name, _half_known(dataset, hole), description=description, overwrite=True)


def _half_known(dataset: Any, hole: Hole) -> Any:
    """Samples of the hole's split with one of the two labels: one more makes both known. Excluded ones are left out."""
    field = fiftyone().ViewField
    one, other = (field(f"label_{name}").exists() for name in (hole.one, hole.other))
    pool = (field("attr_split") == hole.split) & (field("attr_excluded") != True)  # noqa: E712  a MongoDB condition
    half = pool & (one != other)
    return dataset.match(half).sort_by([(KNOWN_TASKS, -1), ("key", 1)])


def _save_findings(dataset: Any, scene: Overlay) -> None:
    """Save a view of each finding: its samples, the most telling first."""
    for finding in scene.findings:
        dataset.save_view(
            finding.name, dataset.select_by("key", list(finding.keys[:ORDERED]), ordered=True)
            if len(finding.keys) <= ORDERED else dataset.match(fiftyone().ViewField(FOUND).contains(finding.name)),
            description=finding.told, color=RED if finding.bad else None,
        )  # fmt: skip


def _save_worst(dataset: Any, scene: Overlay) -> None:
    """Save a view of each of the worst slices, the worst first: the App lists views in the order of saving.

    A view has the evaluated samples of the slice, wrong ones first, by falling confidence (numbers: by falling error).
    """
    field = fiftyone().ViewField
    for rank, part in enumerate(scene.worst[:WORST], 1):
        error = f"error_{part.task}"
        evaluated = dataset.match(field("attr_split") == "test").match_tags(part.slice).exists(error)
        dataset.save_view(
            f"worst {rank}: {part.slice} of {part.task}, error {part.error:.2f}",
            evaluated.sort_by([(error, -1), (f"pred_{part.task}.confidence", -1)]),
            description=part.told, color=RED if part.sure else None,
        )  # fmt: skip


def _views(dataset: Any, now: Snapshot, scene: Overlay) -> Iterator[tuple[str, tuple[Any, str]]]:
    field = fiftyone().ViewField
    for name, part in now.slices().items():
        if scene.predictions or not part.reads_predictions:
            yield f"slice {name}", (dataset.match_tags(name), part.predicate)
    for name in (attribute for attribute in now.attributes() if attribute.startswith(TAG)):
        yield f"tagged {name.removeprefix(TAG)}", (dataset.match_tags(name.removeprefix(TAG)), f"attr.{name} is true")
    tasks = now.tasks().values()
    yield "unsure", (dataset.exists("unsure"), "somebody looked and could not tell, or people disagree")
    yield "inapplicable", (dataset.exists("inapplicable"), "a task does not apply to the sample")
    yield "disputed", (dataset.exists("disputed"), "people's labels differ")
    yield "label requests", (dataset.exists("requests"), "samples with open or past label requests")
    yield "near-duplicates", (dataset.exists(NEAR).sort_by(NEAR), "images that are nearly the same, side by side")
    yield (
        "groups",
        (
            dataset.group_by("attr_group", order_by="attr_captured_at"),
            "one sample of each group; the others of the group in order of time",
        ),
    )
    for task in tasks:
        yield f"unknown {task.name}", (dataset.exists(f"label_{task.name}", False), "no known label")
    if not scene.predictions:
        return
    for task in (task for task in tasks if task.outputs):
        error, predicted = f"error_{task.name}", f"pred_{task.name}.confidence"
        if task.kind == "regression":
            yield f"errors {task.name}", (dataset.exists(error).sort_by(error, reverse=True), "the largest first")
            continue
        if task.kind == "multilabel":
            some = dataset.match(field(error) > 0).sort_by(error, reverse=True)
            yield f"errors {task.name}", (some, "the largest share of classes predicted wrong first")
            continue
        if scene.before:
            yield f"flips {task.name}", (dataset.exists(f"flip_{task.name}"), "fixed, broken or changed by the run")
        wrong = dataset.match(field(error) == True)  # noqa: E712  a MongoDB condition
        yield f"errors {task.name}", (wrong.sort_by(predicted, reverse=True), "the most confident first")
        yield (
            f"suspected labels {task.name}",
            (
                wrong.match(field(predicted) >= SURE).sort_by(predicted, reverse=True),
                f"labels that the run contradicts with a confidence of at least {SURE}",
            ),
        )


def _shown(now: Snapshot) -> list[str]:
    """The labels drawn on the grid's images by default; binary and regression labels would cover them."""
    return [f"label_{task.name}" for task in now.tasks().values() if task.kind not in ("binary", "regression")]


def _groups(now: Snapshot, scene: Overlay) -> dict[str, list[str]]:
    found = [FOUND] if scene.findings else []
    groups = {
        "tags": ["tags", *found],
        "asked and unsure": ["requests", "unsure", "inapplicable", "disputed", KNOWN_TASKS],
    }
    for task in now.tasks().values():
        paths = [f"label_{task.name}"]
        if scene.predicts(task):
            paths += [f"pred_{task.name}", *([f"error_{task.name}"] if task.outputs else [])]
            if scene.before and task.kind in ("binary", "categorical"):
                paths.append(f"flip_{task.name}")
        groups[task.name] = paths
    own = sorted(f"attr_{name}" for name in {*now.attributes(), "split", "group", "captured_at"} - {"excluded"})
    groups["attributes"] = own
    if scene.numbers:
        groups["plan"] = scene.numbers
    groups["metadata"] = ["key", NEAR, "dataset", "url", "filepath", "metadata", "id", "created_at", "last_modified_at"]
    return groups
