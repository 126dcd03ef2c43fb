"""Where label requests are on Label Studio, by the item caches of a workspace: as of the last push or pull."""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from curation.errors import AmberError
from curation.files.read_back import json_value
from curation.labelstudio.item_cache import Item, ItemCache
from curation.labelstudio.local_server import running

__all__ = ["addresses", "cached_items", "item_address", "item_caches", "people_by_id"]

LOCAL = "local"
"""The name of the server that `amber label start` started."""


def addresses(home: Path, requests: Iterable[int]) -> dict[int, str]:
    """The address of the item that asks for each request, where it was sent; a local server must run."""
    wanted = set(requests)
    return {
        request: item_address(server, item)
        for server, items in item_caches(home) if server for item in items
        for request in item.requests.values() if request in wanted
    }  # fmt: skip


def cached_items(home: Path) -> list[Item]:
    """All items that exist on servers, each once."""
    return [item for _, items in item_caches(home) for item in items]


def item_address(server: str, item: Item) -> str:
    """The address of an item on the server with this address; "" for a server without one."""
    return f"{server}/projects/{item.project}/data?task={item.item}" if server else ""


def item_caches(home: Path) -> list[tuple[str, tuple[Item, ...]]]:
    """The address of each server that a workspace pushed to ("" while its own does not run), and its items."""
    found = []
    for path in sorted((home / "labeling").glob("[0-9a-f]" * 12 + ".json")):
        try:
            state = path.stat()
            server, items = _items(path, state.st_mtime_ns, state.st_size, state.st_ino)
        except (OSError, ValueError, KeyError, TypeError, AmberError):
            continue  # an unreadable cache is read again by the next pull
        local = running(home) if server == LOCAL else None
        address = local.url if local else server
        found.append((address.rstrip("/") if address.startswith(("http://", "https://")) else "", items))
    return found


def people_by_id(items: Iterable[Item], answers: pa.Table) -> dict[int, str]:
    """The names of the users who answered items, by their ids on the server: from the answers in the catalog."""
    names = dict(zip(answers["annotation"].to_pylist(), answers["annotator"].to_pylist(), strict=True))
    return {
        int(each["completed_by"]): names[each["id"]]
        for item in items for each in item.annotations if each.get("id") in names and each.get("completed_by")
    }  # fmt: skip


@lru_cache(maxsize=8)
def _items(path: Path, *state: int) -> tuple[str, tuple[Item, ...]]:
    """The server and the items of one version of a cache file."""
    server = str(json_value(path.read_text())["server"])
    return server, tuple(ItemCache.open(path, server).items())
