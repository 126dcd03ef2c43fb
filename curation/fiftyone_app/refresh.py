"""Refresh: show a button's effect on its samples at once, before the next `amber browse`, from the service's answer.

These samples then show a newer commit than the mirror. Which samples, and which commit, is stored beside the data set,
so that an import can tell people's edits from changes of the catalog.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

import numpy as np

from curation.catalog.snapshot import Snapshot
from curation.fiftyone_app.columns import KNOWN_TASKS, Overlay, columns_of
from curation.fiftyone_app.documents import named
from curation.fiftyone_app.mongod import companion
from curation.requests.manual_requests import TAG

__all__ = [
    "Fields", "clear_newer_commits", "comparable", "documents_of", "edited_keys", "fields_of", "newer_commits",
    "update_documents",
]  # fmt: skip

Fields = dict[str, Any]
"""The fields of a sample that labels, tags and requests change, by name; None if empty."""

OURS: Final = "amber"
"""The name of FiftyOne's store, beside the data set, with the samples that show a newer commit."""
PLAIN: Final = ("tags", "unsure", "inapplicable", "disputed", "requests", KNOWN_TASKS)
PREFIXES: Final = ("label_", "error_", "flip_", f"attr_{TAG}")


def fields_of(now: Snapshot, keys: Sequence[str], scene: Overlay) -> dict[str, Fields]:
    """The fields that a mirror of `now` has for the samples `keys`, by key; keys not in the catalog are left out."""
    wanted = set(keys)
    rows = now.samples().select(["key", "sample_id"]).to_pylist()
    ids = np.asarray(sorted(row["sample_id"] for row in rows if row["key"] in wanted), np.int64)
    columns = columns_of(now, scene, lambda key, location: None, ids)
    names = [name for name in columns if _changes(name)]
    return {key: {name: columns[name][row] for name in names} for row, key in enumerate(columns["key"])}


def documents_of(dataset: Any, keys: Sequence[str]) -> dict[str, Fields]:
    """The mirror's documents of these samples, by key."""
    found = dataset._sample_collection.find({"key": {"$in": list(keys)}})
    return {document["key"]: document for document in found}


def edited_keys(dataset: Any, keys: Sequence[str]) -> list[str]:
    """The samples among `keys` that may have been edited since the mirror was written or edits were imported."""
    since = {"$gt": dataset.info["amber"]["at"]}
    found = dataset._sample_collection.find({"key": {"$in": list(keys)}, "last_modified_at": since}, {"key": 1})
    return [document["key"] for document in found]


def update_documents(
    dataset: Any, documents: Mapping[str, Fields], commit: int, rows: Mapping[str, Fields], was: Mapping[str, Fields]
) -> None:
    """Update documents to the fields in `rows`, which show `commit`.

    `documents` must be read before `rows` are requested. `was` has the unedited fields of samples that may have been
    edited: a field that differs from it keeps its edit. A document that changed since it was read is skipped; whoever
    changed it had the same rows, or updates it again.
    """
    update = companion("pymongo").UpdateOne
    schema = {name for name in dataset.get_field_schema() if _changes(name)}
    work = []
    for key in documents.keys() & rows.keys():
        document, base = documents[key], was.get(key, documents[key])
        changed = {
            name: rows[key].get(name) for name in schema
            if comparable(document.get(name)) == comparable(base.get(name)) != comparable(rows[key].get(name))
        }  # fmt: skip
        if changed:
            same = {"_id": document["_id"], "last_modified_at": document["last_modified_at"]}
            work.append(update(same, _operations(changed)))
    _store(dataset).set(f"{commit} {uuid4().hex}", sorted(rows))
    if work:
        dataset._sample_collection.bulk_write(work, ordered=False)


def newer_commits(dataset: Any) -> dict[str, int]:
    """The commits of the samples that show a newer commit than the mirror, by key."""
    store = _store(dataset)
    presses = sorted((int(name.split()[0]), name) for name in store.list_keys())
    return {key: commit for commit, name in presses for key in store.get(name)}


def clear_newer_commits(dataset: Any) -> None:
    """Clear the list of newer samples, once the mirror itself is updated."""
    _store(dataset).clear()


def comparable(label: Any) -> Any:
    """A label, or any other value, without the fields that FiftyOne adds (ids, tags) and without empty ones."""
    if isinstance(label, list):
        return [comparable(each) for each in label]
    if not isinstance(label, dict):
        return label
    own = ("_id", "tags", "index", "attributes", "confidence")
    return {name: comparable(value) for name, value in label.items() if name not in own and value is not None}


def _changes(name: str) -> bool:
    return name in PLAIN or name.startswith(PREFIXES)


def _operations(changed: Fields) -> dict[str, Fields]:
    """The MongoDB update operators that set fields and remove empty ones."""
    new_id = companion("bson").ObjectId
    set_ = {name: named(value, new_id) for name, value in changed.items() if value is not None}
    unset = {name: "" for name, value in changed.items() if value is None}
    return {name: fields for name, fields in (("$set", set_), ("$unset", unset)) if fields}


def _store(dataset: Any) -> Any:
    return companion("fiftyone.operators.store").ExecutionStore.create(OURS, dataset._doc.id)
