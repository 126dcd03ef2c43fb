"""Where label requests are on Label Studio, by the item caches of a workspace: as of the last push or pull."""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from curation.files.read_back import json_value
from curation.labelstudio.item_cache import Item, ItemCache
from curation.labelstudio.local_server import running

__all__ = ["addresses", "cached_items", "people_by_id"]

LOCAL = "local"
"""The name of the server that `amber label start` started."""


def addresses(home: Path, requests: Iterable[int]) -> dict[int, str]:
    """The address of the item that asks for each request, where it was sent; a local server must run."""
    wanted, local = set(requests), running(home)
    found: dict[int, str] = {}
    for server, items in _caches(home):
        url = (local.url if local else "") if server == LOCAL else server
        if url.startswith(("http://", "https://")):
            found |= {
                request: f"{url}/projects/{item.project}/data?task={item.item}"
                for request, item in items.items() if request in wanted
            }  # fmt: skip
    return found


def cached_items(home: Path) -> list[Item]:
    """All items that exist on servers, each once."""
    return list({id(item): item for _, items in _caches(home) for item in items.values()}.values())


def people_by_id(items: Iterable[Item], answers: pa.Table) -> dict[int, str]:
    """The names of the users who answered items, by their ids on the server: from the answers in the catalog."""
    names = dict(zip(answers["annotation"].to_pylist(), answers["annotator"].to_pylist(), strict=True))
    return {
        int(each["completed_by"]): names[each["id"]]
        for item in items for each in item.annotations if each.get("id") in names and each.get("completed_by")
    }  # fmt: skip


def _caches(home: Path) -> list[tuple[str, dict[int, Item]]]:
    """Each server with its items by request; gold questions have none, and count by numbers below 0."""
    found = []
    for path in sorted((home / "labeling").glob("[0-9a-f]" * 12 + ".json")):
        try:
            state = path.stat()
            found.append(_items(path, state.st_mtime_ns, state.st_size, state.st_ino))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # the next pull reads an unreadable cache again
    return found


@lru_cache(maxsize=8)
def _items(path: Path, *state: int) -> tuple[str, dict[int, Item]]:
    """The items of one version of a cache file."""
    server = str(json_value(path.read_text())["server"])
    found: dict[int, Item] = {}
    for place, item in enumerate(ItemCache.open(path, server).items()):
        found |= dict.fromkeys(item.requests.values(), item) if item.requests else {-1 - place: item}
    return server, found
