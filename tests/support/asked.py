"""What is asked of people in the tests, and what came of it."""

from typing import Any

import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import REQUESTS
from curation.labelstudio.answers import suggest
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.item_cache import Item
from curation.labelstudio.items import UrlFor
from curation.labelstudio.push import Asking, Pushed, push
from curation.labelstudio.session import open_session

__all__ = ["SIZE", "URL", "ask", "color", "items", "said", "sent", "states"]

SIZE = (48, 32)
"""Of every image, in pixels."""


def place(sample: Any) -> str:
    return f"http://127.0.0.1:1/{sample['key']}.jpg"


URL: UrlFor = place


def ask(catalog: Catalog, *wanted: tuple[int, str], first: int = 0) -> None:
    """Open label requests for (sample id, task), the first the most urgent."""
    with catalog.commit(author="ada", message="ask") as change:
        ids = change.now.task_ids()
        rows = [
            {"sample_id": sample, "task_id": ids[task], "arm": "random", "slice": "", "reason": "r", "run": "",
             "priority": first + rank, "propensity": 0.5, "cost": 2.0}
            for rank, (sample, task) in enumerate(wanted)
        ]  # fmt: skip
        change.add_requests(pa.Table.from_pylist(rows, REQUESTS))


def sent(catalog: Catalog, server: LabelStudioClient, **asking: Any) -> Pushed:
    return push(catalog, server, Asking(**asking), url_for=URL)


def items(catalog: Catalog, server: LabelStudioClient) -> list[Item]:
    """What lies on the server, by sample."""
    with open_session(catalog, server) as desk:
        desk.refresh()
        return sorted(desk.mirror.items(), key=lambda item: (item.sample, item.tasks))


def said(catalog: Catalog, task: str) -> list[tuple[int, str, int, Any]]:
    """Statements of people: sample id, annotator, state, and code or number."""
    with catalog.read() as now:
        rows = now.labels.by_annotator(task).to_pylist()
    mine = [row for row in rows if row["source"] == "human" and row["state"]]
    values = [row["number"] if row["code"] is None else row["code"] for row in mine]
    return [
        (row["sample_id"], row["annotator"].partition("@")[0], row["state"], value)
        for row, value in zip(mine, values, strict=True)
    ]


def states(catalog: Catalog) -> list[str]:
    with catalog.read() as now:
        return now.requests()["state"].to_pylist()


def color(catalog: Catalog, value: str) -> list[dict[str, Any]]:
    with catalog.read() as now:
        return suggest(now.task("color"), value, SIZE)
