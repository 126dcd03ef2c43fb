"""`make bench-labeling`: the cost of pushing to and pulling from a real Label Studio, what the loop finds with
annotators who err, and how fast images are served.

Pull is measured twice, on a project of a tenth of the items and on one of all items, with the same number of changes:
its cost should depend on the changes. Both wait a minute after the push, because newer items are read again. The table
also shows CPU seconds of our process and of the server, which other work on the machine hardly affects.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pyarrow as pa

from benchmarks.people import people
from benchmarks.table import Row, finish, small
from benchmarks.thumbnails import processor, thumbnails
from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import REQUESTS
from curation.catalog.tasks import Task
from curation.labelstudio.annotations import encode_answer
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.item_cache import OVERLAP
from curation.labelstudio.local_server import Local, start, stop
from curation.labelstudio.pull import pull
from curation.labelstudio.push import Asking, push

ITEMS, CHANGES = (1_000, 100) if small() else (10_000, 1_000)
TASK = Task(name="color", kind="categorical", classes=("red", "yellow", "green"), owner="bench")


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        local = start(home / "studio")
        try:
            rows = [*_labels(home, local), *people(home, local), *thumbnails(home)]
        finally:
            stop(home / "studio")
    finish("labeling", rows)


def _labels(home: Path, local: Local) -> list[Row]:
    found: dict[tuple[str, int], tuple[float, float]] = {}
    with LabelStudioClient(local.url, local.token) as server:
        for count in (ITEMS // 10, ITEMS):
            catalog = _catalog(home / f"home-{count}", count)
            place = {"url_for": lambda sample: sample["location"]}
            found["push", count] = _timed(local, push, catalog, server, Asking(), **place)
            pull(catalog, server)
            time.sleep(OVERLAP.total_seconds() + 1)
            pull(catalog, server)
            _answer(local, server, min(CHANGES, count))
            found["pull", count] = _timed(local, pull, catalog, server)
            found["idle", count] = _timed(local, pull, catalog, server)
    pushed, taken = found["push", ITEMS], found["pull", ITEMS]
    return [
        Row(what=f"push {ITEMS:,} items", value=pushed[0], unit=" s", asked="at most 60 s", met=pushed[0] <= 60,
            peers={"processor": pushed[1]}),
        Row(what=f"pull {CHANGES:,} changed of {ITEMS:,}", value=taken[0], unit=" s", asked="at most 10 s",
            met=taken[0] <= 10, peers={"processor": taken[1], "nothing new": found["idle", ITEMS][0]}),
        Row(what=f"pull {CHANGES:,} changed of {ITEMS // 10:,}", value=found["pull", ITEMS // 10][0], unit=" s",
            peers={"processor": found["pull", ITEMS // 10][1]}),
    ]  # fmt: skip


def _catalog(home: Path, count: int) -> Catalog:
    """Samples without a label, each with an open request."""
    catalog = Catalog.create(home)
    keys = [f"s{number:06d}" for number in range(count)]
    samples = pa.table(
        {
            "key": keys, "location": [f"http://127.0.0.1:1/{key}.jpg" for key in keys], "sha256": keys,
            "phash": pa.array(range(count), pa.uint64()), "format": ["JPEG"] * count,
            "width": pa.array([128] * count, pa.int32()), "height": pa.array([80] * count, pa.int32()),
            "bytes": pa.array([1] * count, pa.int64()),
        }
    )  # fmt: skip
    with catalog.commit(author="bench", message="samples") as change:
        change.add_tasks([TASK])
        change.add_samples(samples, dataset="bench")
        change.add_attributes(pa.table({"key": keys, "split": ["train"] * count}))
    with catalog.commit(author="bench", message="requests") as change:
        rows = [
            {"sample_id": number, "task_id": 0, "arm": "random", "slice": "", "reason": "", "run": "",
             "priority": number, "propensity": 1.0, "cost": 1.0} for number in range(count)
        ]  # fmt: skip
        change.add_requests(pa.Table.from_pylist(rows, REQUESTS))
    return catalog


def _answer(local: Local, server: LabelStudioClient, count: int) -> None:
    """Answer the first items of the newest project."""
    project = server.projects()[-1]["id"]
    results = encode_answer(TASK, "red", (128, 80))
    with httpx.Client(base_url=local.url, headers={"Authorization": f"Token {local.token}"}, timeout=60) as http:
        for item in sorted(server.keys(project, "amber"))[:count]:
            body = {"result": results, "lead_time": 2.0}
            http.post(f"/api/tasks/{item}/annotations/", json=body).raise_for_status()


def _timed(local: Local, call: Callable[..., object], *given: object, **named: object) -> tuple[float, float]:
    """Wall seconds of a call, and CPU seconds of our process and of the server."""
    began, spent = time.perf_counter(), time.process_time() + processor(local.pid)
    call(*given, **named)
    return time.perf_counter() - began, time.process_time() + processor(local.pid) - spent


if __name__ == "__main__":
    main()
