"""Label requests of the tests, their items on the server, and the labels that came back."""

from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import REQUESTS
from curation.files.read_back import sha256_of
from curation.labelstudio.annotations import encode_answer
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.item_cache import Item
from curation.labelstudio.pull import ANSWERS
from curation.labelstudio.push import Asking, PushResult, push
from curation.labelstudio.session import open_session
from curation.labelstudio.shown_images import UrlFor

__all__ = ["SIZE", "URL", "answer", "ask", "color", "human_labels", "items", "mine", "pushed", "states", "unlabelled"]

SIZE = (48, 32)
"""Size of every image, in pixels."""


def url(sample: Any) -> str:
    return f"http://127.0.0.1:1/{sample['key']}.jpg"


URL: UrlFor = url


def ask(catalog: Catalog, *cells: tuple[int, str], first: int = 0) -> None:
    """Open label requests for (sample id, task), most urgent first."""
    with catalog.commit(author="ada", message="ask") as change:
        ids = change.now.task_ids()
        rows = [
            {"sample_id": sample, "task_id": ids[task], "arm": "random", "slice": "", "reason": "r", "run": "",
             "priority": first + rank, "propensity": 0.5, "cost": 2.0}
            for rank, (sample, task) in enumerate(cells)
        ]  # fmt: skip
        change.add_requests(pa.Table.from_pylist(rows, REQUESTS))


def answer(catalog: Catalog, *answers: tuple[int, str, str, str, float, int]) -> None:
    """Answers of sample, task, annotator, outcome, seconds and page, without their labels."""
    with catalog.commit(author="people", message="answers") as change:
        ids = change.now.task_ids()
        rows = [
            {"sample_id": sample, "task_id": ids[task], "annotator": who, "server": "local", "project": 1,
             "item": sample, "annotation": page, "outcome": outcome, "seconds": seconds,
             "answered_at": datetime(2026, 1, 1)}
            for sample, task, who, outcome, seconds, page in answers
        ]  # fmt: skip
        change.add_answers(pa.Table.from_pylist(rows, ANSWERS))


def mine(catalog: Catalog, *predictions: tuple[int, int]) -> None:
    """A run with predictions (sample id, code) of the task color, and a mined request for each."""
    table = {
        "key": [f"pictures/{sample:05d}" for sample, _ in predictions], "task": ["color"] * len(predictions),
        "code": pa.array([code for _, code in predictions], pa.int32()), "number": [None] * len(predictions),
        "confidence": [0.83] * len(predictions),
    }  # fmt: skip
    pq.write_table(pa.table(table), catalog.home / "predictions.parquet")
    with catalog.commit(author="ada", message="run") as change:
        change.add_run(
            "r1", plan="", predictions="predictions.parquet", sha256=sha256_of(catalog.home / "predictions.parquet")
        )
        rows = [
            {"sample_id": sample, "task_id": 0, "arm": "mined", "slice": "", "reason": "", "run": "r1", "priority": 0,
             "propensity": 1.0, "cost": 1.0} for sample, _ in predictions
        ]  # fmt: skip
        change.add_requests(pa.Table.from_pylist(rows, REQUESTS))


def unlabelled(catalog: Catalog) -> list[int]:
    """Two samples without a label of color."""
    with catalog.read() as now:
        known = now.labels("color")["sample_id"].to_pylist()
        return [sample for sample in now.samples()["sample_id"].to_pylist() if sample not in known][:2]


def pushed(catalog: Catalog, server: LabelStudioClient, **asking: Any) -> PushResult:
    return push(catalog, server, Asking(**asking), url_for=URL)


def items(catalog: Catalog, server: LabelStudioClient) -> list[Item]:
    """The items on the server, sorted by sample."""
    with open_session(catalog, server) as session:
        session.refresh()
        return sorted(session.cache.items(), key=lambda item: (item.sample, item.tasks))


def human_labels(catalog: Catalog, task: str) -> list[tuple[int, str, int, Any]]:
    """People's labels: sample id, annotator, state, and code or number."""
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
        return encode_answer(now.task("color"), value, SIZE)
