"""`make bench-pages`: one page of 100 rows of every long list of the service, wherever it begins.

The service runs as a process of its own; each figure is the median of rounds over HTTP, with the spread, and the CPU
time that the service took, which other work on the machine hardly affects. Memory is what the service's peak rises by
from the first page to the last. The catalog has ten tasks, each known for a tenth of the samples, 200,000 open requests
and, for the task t05, 100,000 labels that are not folded yet. CATALOG=FOLDER keeps the
catalog and uses it again.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa

from amber.service.client import Client
from amber.service.images.signed_urls import Signer
from amber.service.routes.paging import seal_position
from amber.service.tokens import Tokens
from benchmarks.deliveries import TASKS, Delivery, build, labels_of
from benchmarks.table import Row, finish
from benchmarks.thumbnails import await_service, processor
from curation.catalog.catalog import Catalog
from curation.errors import NotFound

ROUNDS, LIMIT, PORT = 15, 100, 8462
MOST_MS, MOST_MB = 50, 50
REQUESTS, DELTA, BATCH = 200_000, 100_000, 1_000_000


def main() -> None:
    """Build the catalog, or open that of CATALOG, and print the figures."""
    samples = int(os.environ.get("SAMPLES", "1000000"))
    with tempfile.TemporaryDirectory(prefix="bench-pages-") as folder:
        home = Path(os.environ.get("CATALOG") or folder)
        catalog = opened(home, samples)
        name = f"bench-{os.getpid()}"
        secret = Tokens(home).add(name, "read")
        try:
            finish("pages", measure(catalog, secret, samples), samples=samples, rounds=ROUNDS)
        finally:
            Tokens(home).remove(name)


def opened(home: Path, samples: int) -> Catalog:
    """The catalog in `home`, filled where it is not."""
    try:
        return Catalog.open(home)
    except NotFound:
        catalog = Catalog.create(home)
    build(catalog, samples, tasks=10, batch=BATCH)
    generator = np.random.default_rng(7)
    requests = min(REQUESTS, samples // 5)
    with catalog.commit(author="bench", message="requests") as change:
        change.add_requests(asked_for(np.sort(generator.choice(samples, requests, replace=False)), generator))
    ids = np.sort(generator.choice(samples, min(DELTA, samples // 10), replace=False))
    codes = generator.integers(0, len(TASKS[5].classes), len(ids))
    with catalog.commit(author="bench", message="labels that are not folded") as change:
        late = Delivery(task=5, source="human", annotator="late", ids=ids, codes=codes)
        change.add_labels(labels_of(late), source="human")
    return catalog


def asked_for(ids: Any, generator: np.random.Generator) -> pa.Table:
    """Open requests for the samples `ids`."""
    rows = len(ids)
    return pa.table(
        {
            "sample_id": ids, "task_id": pa.array(np.full(rows, 3, np.int32)), "arm": pa.repeat("random", rows),
            "slice": pa.repeat("", rows), "reason": pa.repeat("bench", rows), "run": pa.repeat("", rows),
            "priority": pa.array(generator.permutation(rows).astype(np.int32)),
            "propensity": np.full(rows, 0.5), "cost": np.ones(rows),
        }
    )  # fmt: skip


def measure(catalog: Catalog, secret: str, samples: int) -> list[Row]:
    """The figures of each list, and of memory."""
    signer = Signer.of(catalog.home)
    with catalog.read() as now:
        commit = now.commit
    middle = seal_position(signer, "/api/samples", {}, commit, (samples // 2,))
    later, folded = (
        seal_position(signer, f"/api/labels/{task}", {}, commit, (samples // 2,)) for task in ("t05", "t04")
    )
    within = seal_position(signer, "/api/samples", {"slice": "rain_at_night"}, commit, (samples // 2,))
    lists: dict[str, tuple[str, dict[str, str]]] = {
        "samples, the first page": ("/api/samples", {}),
        "samples, from the middle": ("/api/samples", {"after": middle}),
        "labels, the first page": ("/api/labels/t04", {}),
        "labels, from the middle": ("/api/labels/t04", {"after": folded}),
        "labels not folded, from the middle": ("/api/labels/t05", {"after": later}),
        "a slice of 3 conditions, the first page": ("/api/samples", {"slice": "rain_at_night"}),
        "a slice of 3 conditions, from the middle": ("/api/samples", {"slice": "rain_at_night", "after": within}),
        "open requests, the first page": ("/api/requests", {}),
    }
    words = [sys.executable, "-m", "amber", "serve", "--port", str(PORT), "--home", str(catalog.home)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            await_service(f"http://127.0.0.1:{PORT}/health")
            with Client(f"http://127.0.0.1:{PORT}", secret) as client:
                client.tasks()
                before = peak(process.pid)
                rows = [page_row(client, process.pid, what, *asked) for what, asked in lists.items()]
            grown = peak(process.pid) - before
        finally:
            process.terminate()
    within_memory = Row(
        what="memory of all pages", value=grown, unit=" MB", asked=f"{MOST_MB} MB", met=grown <= MOST_MB
    )
    return [*rows, within_memory]


def page_row(client: Client, pid: int, what: str, path: str, asked: dict[str, str]) -> Row:
    """The milliseconds of a page: median, lowest and highest, and the service's CPU time."""
    took, rows = [], 0
    client.page(path, limit=LIMIT, **asked)
    spent = processor(pid)
    for _ in range(ROUNDS):
        began = time.perf_counter()
        rows = len(client.page(path, limit=LIMIT, **asked))
        took.append(1e3 * (time.perf_counter() - began))
    spent = 1e3 * (processor(pid) - spent) / ROUNDS
    return Row(
        what=f"{what} ({rows} rows)", value=median(took), unit=" ms", low=min(took), high=max(took),
        limit="lowest and highest", asked=f"{MOST_MS} ms", met=median(took) <= MOST_MS, peers={"CPU ms": spent},
    )  # fmt: skip


def peak(pid: int) -> float:
    """The most resident megabytes that a process ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3


if __name__ == "__main__":
    main()
