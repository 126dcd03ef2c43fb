"""Samples that a button acted on, shown anew at once: before the next `amber browse`, and from what the service says.

Which samples are ahead of the mirror's commit, and at which one they are, is kept beside the data set, so that edits
made in them are told from what the catalog itself said.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

import numpy as np

from curation.catalog.snapshot import Snapshot
from curation.fiftyone_app.columns import KNOWN_TASKS, Scene, columns_of
from curation.fiftyone_app.documents import named
from curation.fiftyone_app.mongod import companion
from curation.requests.manual_requests import TAG

__all__ = ["Fields", "ahead", "bring_in", "documents_of", "edited", "fields_of", "forget_ahead", "plain"]

Fields = dict[str, Any]
"""Fields of a sample that change with what is known of it, by name; None where empty."""

OURS: Final = "amber"
"""Name of the store of FiftyOne's, beside the data set, that keeps which samples are ahead."""
PLAIN: Final = ("tags", "unsure", "disputed", "requests", KNOWN_TASKS)
PREFIXES: Final = ("label_", "error_", "flip_", f"attr_{TAG}")


def fields_of(now: Snapshot, keys: Sequence[str], scene: Scene) -> dict[str, Fields]:
    """What a mirror of `now` would hold of the samples `keys`, by key; those that the catalog has not are left out."""
    wanted = set(keys)
    rows = now.samples().select(["key", "sample_id"]).to_pylist()
    ids = np.asarray(sorted(row["sample_id"] for row in rows if row["key"] in wanted), np.int64)
    columns = columns_of(now, scene, lambda key, location: None, ids)
    names = [name for name in columns if _changes(name)]
    return {key: {name: columns[name][row] for name in names} for row, key in enumerate(columns["key"])}


def documents_of(dataset: Any, keys: Sequence[str]) -> dict[str, Fields]:
    """What the mirror holds of these samples, by key."""
    found = dataset._sample_collection.find({"key": {"$in": list(keys)}})
    return {document["key"]: document for document in found}


def edited(dataset: Any, keys: Sequence[str]) -> list[str]:
    """Which of these samples somebody may have edited since the mirror was written, or edits were fetched."""
    since = {"$gt": dataset.info["amber"]["at"]}
    found = dataset._sample_collection.find({"key": {"$in": list(keys)}, "last_modified_at": since}, {"key": 1})
    return [document["key"] for document in found]


def bring_in(
    dataset: Any, documents: Mapping[str, Fields], commit: int, rows: Mapping[str, Fields], was: Mapping[str, Fields]
) -> None:
    """Bring `documents`, read before `rows` were asked for, to what `rows` hold at a commit.

    A field that somebody edited, and so is not what it `was`, keeps its edit; samples that are not in `was` have none.
    A document that changed meanwhile is left alone: whoever changed it knew as much, or comes to it again.
    """
    update = companion("pymongo").UpdateOne
    schema = {name for name in dataset.get_field_schema() if _changes(name)}
    work = []
    for key in documents.keys() & rows.keys():
        document, base = documents[key], was.get(key, documents[key])
        changed = {
            name: rows[key].get(name) for name in schema
            if plain(document.get(name)) == plain(base.get(name)) != plain(rows[key].get(name))
        }  # fmt: skip
        if changed:
            same = {"_id": document["_id"], "last_modified_at": document["last_modified_at"]}
            work.append(update(same, _operations(changed)))
    _store(dataset).set(f"{commit} {uuid4().hex}", sorted(rows))
    if work:
        dataset._sample_collection.bulk_write(work, ordered=False)


def ahead(dataset: Any) -> dict[str, int]:
    """The samples that show a later commit than the mirror does, by key, with that commit."""
    store = _store(dataset)
    presses = sorted((int(name.split()[0]), name) for name in store.list_keys())
    return {key: commit for commit, name in presses for key in store.get(name)}


def forget_ahead(dataset: Any) -> None:
    """Once the mirror itself is brought up."""
    _store(dataset).clear()


def plain(label: Any) -> Any:
    """A label, or any other value, without what FiftyOne adds of its own: ids, tags and what is empty."""
    if isinstance(label, list):
        return [plain(each) for each in label]
    if not isinstance(label, dict):
        return label
    own = ("_id", "tags", "index", "attributes", "confidence")
    return {name: plain(value) for name, value in label.items() if name not in own and value is not None}


def _changes(name: str) -> bool:
    return name in PLAIN or name.startswith(PREFIXES)


def _operations(changed: Fields) -> dict[str, Fields]:
    """The operators of MongoDB that set fields, and take those away that are empty now."""
    new_id = companion("bson").ObjectId
    set_ = {name: named(value, new_id) for name, value in changed.items() if value is not None}
    unset = {name: "" for name, value in changed.items() if value is None}
    return {name: fields for name, fields in (("$set", set_), ("$unset", unset)) if fields}


def _store(dataset: Any) -> Any:
    return companion("fiftyone.operators.store").ExecutionStore.create(OURS, dataset._doc.id)
