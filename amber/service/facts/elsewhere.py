"""Where else a slice can be looked at: the FiftyOne App, and its open items in Label Studio."""

import fcntl
import hashlib
import re
import shlex
import socket
from collections.abc import Collection
from pathlib import Path
from typing import Final

import numpy as np

from amber.service.facts.label_items import item_address, item_caches
from amber.service.models.slices import ItemRow
from curation.catalog.slices import Slice
from curation.catalog.snapshot import Snapshot
from curation.labelstudio.item_cache import Item

__all__ = ["app_address", "app_command", "dataset_name", "items_of", "open_items"]

PORT: Final = 5151
"""The port on which `amber browse` opens the App by default."""


def dataset_name(home: Path) -> str:
    """The name of the FiftyOne data set of a workspace, made unique by a hash of its path."""
    return f"amber-{home.name}-{hashlib.sha256(str(home).encode()).hexdigest()[:6]}"


def app_command(home: Path, part: Slice, run: str) -> str:
    """The command that opens a slice in the App, with the predictions of a run ("": none)."""
    return shlex.join(["amber", "browse", part.name, *(["--run", run] if run else []), "--home", str(home)])


def app_address(home: Path, part: Slice) -> str:
    """The address of the saved view of a slice, on the machine of the service; "" unless `amber browse` shows this
    workspace there, on its default port."""
    if not _is_held(home / "browse" / "users.lock"):
        return ""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        if probe.connect_ex(("127.0.0.1", PORT)):
            return ""
    return f"http://127.0.0.1:{PORT}/datasets/{_slug(dataset_name(home))}?view={_slug(f'slice {part.name}')}"


def open_items(home: Path, now: Snapshot, part: Slice, predictions: str | None) -> list[ItemRow]:
    """Items of Label Studio, of samples in a slice, that ask somebody; as of the last push or pull, by sample.

    A slice over predictions without any has none.
    """
    found = [(url, item) for url, items in item_caches(home) for item in items if item.unfinished and not item.gone]
    if not found or (part.reads_predictions and predictions is None):
        return []
    samples = now.samples_of([item.sample for _, item in found]).select(["key", "sample_id"]).to_pydict()
    ids = np.asarray(samples["sample_id"], np.int64)
    inside = set(now.members(part.predicate, predictions=predictions, among=ids).tolist())
    kept = {key for key, id_ in zip(samples["key"], samples["sample_id"], strict=True) if id_ in inside}
    return _rows(found, kept)


def items_of(home: Path, key: str) -> list[ItemRow]:
    """Items of Label Studio that ask somebody about one sample; as of the last push or pull."""
    found = [(url, item) for url, items in item_caches(home) for item in items if item.unfinished and not item.gone]
    return _rows(found, {key})


def _rows(found: list[tuple[str, Item]], keys: Collection[str]) -> list[ItemRow]:
    rows = [
        ItemRow(
            key=item.sample, tasks=sorted(item.tasks),
            url=item_address(url, item),
        ) for url, item in found if item.sample in keys
    ]  # fmt: skip
    return sorted(rows, key=lambda row: row.key)


def _is_held(path: Path) -> bool:
    """Whether a process holds a lock on a file; `amber browse` does for as long as it runs."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _slug(name: str) -> str:
    """A name as FiftyOne writes it in addresses.

    >>> _slug("slice yellow_at_night")
    'slice-yellow-at-night'
    """
    return re.sub("-+", "-", re.sub(r"[\s+_.-]", "-", re.sub(r"[^A-Za-z0-9\s+_.-]", "", name))).strip("-").lower()
