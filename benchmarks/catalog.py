"""`make bench-catalog`: the cost of the catalog, and of FiftyOne, pandas, SQLite and bare Parquet on the same data.

Every figure is the median of rounds in which ours and the peers take turns. Ours are whole units of work of a program
that keeps nothing between two queries, so the time includes opening the file. The table also shows the query only, the
same query again in the unit, and the unit while labels are in the delta. Peers hold their data open, except bare
Parquet, which reads its file.
`deliveries.py` describes the data. SCALE=small has 100k samples, the default 1M too, SCALE=large also 10M.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks.class_counts import class_counts
from benchmarks.deliveries import BATCH, TASKS, Delivery, build, labels_of, make_peers_data
from benchmarks.table import Row, finish, small
from curation.analysis.colabelling import colabelled
from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot

SIZES: Final = {"small": (100_000,), "": (100_000, 1_000_000), "large": (100_000, 1_000_000, 10_000_000)}
ROUNDS: Final = int(os.environ.get("ROUNDS", "3" if small() else "7"))
PEERS_PYTHON: Final = Path(".venv-peers/bin/python")
BESIDE: Final = ("pandas", "SQLite", "Parquet")
BESIDE_UP_TO: Final = 1_000_000
FIFTYONE_AT: Final = 100_000
TASK: Final = TASKS[3].name
ELIGIBLE: Final = [task.name for task in TASKS[:20]]
FIELDS: Final = 6
MEMORY: Final = 16 << 30

ASKED: Final = {
    "count_one": ("class counts, one task", {1: 10, 10: 50}),
    "count_all": ("class counts, all tasks", {1: 100, 10: 1000}),
    "slice": ("slice of 3 predicates", {1: 50, 10: 300}),
    "overlap": ("co-occurrence of all pairs of tasks", {1: 1000}),
    "eligible": ("eligible rows of 20 tasks, joined with the pack", {1: 500, 10: 6000}),
    "count_then": ("class counts of all tasks as of an older commit", {1: 300, 10: 2500}),
    "append": ("append 10k labels as one commit", {1: 50, 10: 50}),
}
"""What is measured, and at most how many milliseconds were asked for, by millions of samples."""

BYTES: Final = 12
RATE: Final = 1_000_000
RATIO: Final = 50
LINEAR: Final = 1.3


Ask = Callable[[str, str], float | None]
"""Has a peer do a work and tells its milliseconds, None where it does not take part."""


@dataclass(frozen=True, kw_only=True)
class Took:
    """Milliseconds of one unit of work: wall time, CPU time, its query, and the same query a second time."""

    wall: float
    cpu: float
    query: float
    again: float


class Ours:
    """The units of work on one catalog."""

    def __init__(self, folder: Path, samples: int) -> None:
        self.catalog = Catalog.create(folder / "home")
        self.samples = samples
        self.index = folder / "index.parquet"
        self.middle = build(self.catalog, samples)
        self._turn = 0

    def read(self, query: Callable[[Snapshot], object], commit: int | None = None) -> Took:
        """One unit that runs `query` twice."""
        started, cpu = time.perf_counter(), time.process_time()
        with self.catalog.read(commit) as now:
            opened = time.perf_counter()
            query(now)
            asked = time.perf_counter()
            cpu = time.process_time() - cpu
            query(now)
            again = time.perf_counter()
        closed = time.perf_counter()
        wall = closed - started - (again - asked)
        return Took(wall=1e3 * wall, cpu=1e3 * cpu, query=1e3 * (asked - opened), again=1e3 * (again - asked))

    def write(self, labels: pa.Table, source: str = "human") -> Took:
        """One commit of these labels."""
        started, cpu = time.perf_counter(), time.process_time()
        with self.catalog.commit(author="bench", message="more") as change:
            change.add_labels(labels, source=source)
        wall, cpu = (1e3 * (time.perf_counter() - started), 1e3 * (time.process_time() - cpu))
        return Took(wall=wall, cpu=cpu, query=wall, again=wall)

    def count_one(self) -> Took:
        return self.read(lambda now: class_counts(now, [TASK]))

    def count_all(self) -> Took:
        return self.read(class_counts)

    def slice(self) -> Took:
        return self.read(lambda now: now.members(now.slices()["rain_at_night"].predicate))

    def overlap(self) -> Took:
        return self.read(colabelled)

    def eligible(self) -> Took:
        return self.read(lambda now: now.labels.eligible(ELIGIBLE, self.index))

    def count_then(self) -> Took:
        return self.read(class_counts, self.middle)

    def append(self) -> Took:
        return self.write(self.fresh([self._turn % len(TASKS)], min(BATCH, self.samples // 2)))

    def fresh(self, tasks: list[int], each: int) -> pa.Table:
        """New labels by a new annotator: so many for each task, on samples spread over the catalog."""
        self._turn += 1
        parts = []
        for task in tasks:
            generator = np.random.default_rng((3, self._turn, task))
            ids = np.sort(generator.choice(self.samples, each, replace=False))
            codes = generator.integers(0, len(TASKS[task].classes), each)
            parts.append(Delivery(task=task, source="human", annotator=f"a{self._turn}", ids=ids, codes=codes))
        return pa.concat_tables([labels_of(part) for part in parts])


def main() -> None:
    """Measure every size, the smallest first, and print the figures."""
    rows, costs, completed = [], {}, {}
    with tempfile.TemporaryDirectory(prefix="bench-catalog-") as name:
        for samples in SIZES[os.environ.get("SCALE", "")]:
            folder = Path(name) / str(samples)
            folder.mkdir()
            make_peers_data(folder, samples)
            ours = Ours(folder, samples)
            rows += _bytes_rows(ours)
            completed[samples] = _counts_within(ours.catalog, MEMORY)
            with _peers(folder, samples) as ask:
                costs[samples], more = _measure(ours, ask)
            rows += more
            rows += _ingest_rows(ours)
    finish("catalog", [*rows, *_scale_rows(costs), _memory_row(completed)], rounds=ROUNDS, costs=costs)


def _measure(ours: Ours, ask: Ask) -> tuple[dict[str, float], list[Row]]:
    """Medians of our milliseconds by work, and the rows of this size: reads, appends, and reads beside a delta."""
    works = [work for work in ASKED if work != "append"]
    took, peers = _rounds(ours, ask, works)
    more = _fiftyone_counts(ours, ask) if ours.samples == FIFTYONE_AT else []
    appended, appended_peers = _rounds(ours, ask, ["append"])
    delta, _ = _rounds(ours, lambda peer, work: None, works)
    if ours.samples == FIFTYONE_AT:
        more.append(_fiftyone_bulk(ours, ask))
    took, peers = took | appended, peers | appended_peers
    for work in works:
        peers[work] = {"beside a delta": median(part.wall for part in delta[work])} | peers[work]
    rows = [_row(ours.samples, work, took[work], peers[work]) for work in ASKED]
    return {work: median(part.wall for part in took[work]) for work in ASKED}, [*rows, *more]


def _rounds(ours: Ours, ask: Ask, works: list[str]) -> tuple[dict[str, list[Took]], dict[str, dict[str, float]]]:
    """Our times in each round, and the medians of the peers, by work."""
    took: dict[str, list[Took]] = {work: [] for work in works}
    beside: dict[str, dict[str, list[float]]] = {work: {} for work in works}
    for work in works * ROUNDS:
        took[work].append(getattr(ours, work)())
        for peer in BESIDE:
            if (wall := ask(peer, work)) is not None:
                beside[work].setdefault(peer, []).append(wall)
    return took, {work: {peer: median(walls) for peer, walls in found.items()} for work, found in beside.items()}


def _row(samples: int, work: str, took: list[Took], peers: dict[str, float]) -> Row:
    what, limits = ASKED[work]
    bound = limits.get(samples // 1_000_000)
    wall, cpu, query, again = (
        median(getattr(part, name) for part in took) for name in ("wall", "cpu", "query", "again")
    )
    own = {"CPU": cpu} if work == "append" else {"query alone": query, "again": again, "CPU": cpu}
    return Row(
        what=f"{_size(samples)}: {what}", value=wall, unit=" ms", asked=f"<= {bound} ms" if bound else "",
        met=bound is None or wall <= bound, peers=own | peers,
    )  # fmt: skip


def _fiftyone_counts(ours: Ours, ask: Ask) -> list[Row]:
    """Counts of one field and of six in FiftyOne, over the cost of ours, which counts all fifty tasks."""
    pairs = {
        "counts of one field": [(ours.count_one(), ask("FiftyOne", "count_one")) for _ in range(ROUNDS)],
        f"counts of {FIELDS} fields (ours: of all {len(TASKS)})": [
            (ours.count_all(), ask("FiftyOne", "count_fields")) for _ in range(ROUNDS)
        ],
    }
    return [
        _ratio(what, median(took.wall for took, _ in both), median(wall or 0.0 for _, wall in both),
               {"query alone": median(took.query for took, _ in both), "again": median(took.again for took, _ in both)})
        for what, both in pairs.items()
    ]  # fmt: skip


def _fiftyone_bulk(ours: Ours, ask: Ask) -> Row:
    """Writing all labels of six fields, ours as one commit."""
    each = ours.samples // 10
    bulk = [
        (ours.write(ours.fresh(list(range(FIELDS)), each)).wall, ask("FiftyOne", "bulk"))
        for _ in range(1 if small() else 3)
    ]
    mine, theirs = (median(wall or 0.0 for wall in side) for side in zip(*bulk, strict=True))
    return _ratio(f"bulk write of {FIELDS * each} labels", mine, theirs, {})


def _ratio(what: str, ours: float, theirs: float, more: dict[str, float]) -> Row:
    return Row(
        what=f"{_size(FIFTYONE_AT)}: {what}, FiftyOne / ours", value=theirs / ours, unit="x", asked=f">= {RATIO}",
        met=theirs >= RATIO * ours, peers={"ours ms": ours, "FiftyOne ms": theirs, **more},
    )  # fmt: skip


def _ingest_rows(ours: Ours) -> list[Row]:
    """Labels a second of a commit of as many labels as samples, at most 1M; `compact` does the fold later."""
    each = min(ours.samples, 1_000_000) // 20
    seconds, by_key, folds = [], [], []
    for _ in range(1 if small() else 3):
        labels = ours.fresh(list(range(20)), each)
        seconds.append(ours.write(labels).wall / 1e3)
        keyed = _keyed(ours.catalog, ours.fresh(list(range(20)), each))
        by_key.append(ours.write(keyed).wall / 1e3)
        started = time.perf_counter()
        ours.catalog.compact()
        folds.append(time.perf_counter() - started)
    rate = 20 * each / median(seconds)
    return [
        Row(
            what=f"{_size(ours.samples)}: labels a second from Arrow, one commit of {20 * each}", value=rate,
            asked=f">= {RATE:,}", met=rate >= RATE,
            peers={"samples named by key": 20 * each / median(by_key), "compact() of two, s": median(folds)},
        )
    ]  # fmt: skip


def _keyed(catalog: Catalog, labels: pa.Table) -> pa.Table:
    with catalog.read() as now:
        samples = now.samples().select(["sample_id", "key"])
    keys = samples["key"].take(pa.array(np.argsort(samples["sample_id"].to_numpy()))).take(labels["sample_id"])
    return labels.drop_columns(["sample_id"]).append_column("key", keys)


def _bytes_rows(ours: Ours) -> list[Row]:
    """Bytes of the compacted file per label event and per event of any kind, and bytes of the label tables."""
    size = ours.catalog.file.stat().st_size
    with ours.catalog.read() as now:
        counts = now.counts()
    events, every = counts["label_event"], sum(counts.values())
    with duckdb.connect(str(ours.catalog.file), read_only=True) as connection:
        parts = {
            table: 262_144 * len(connection.execute(
                f"SELECT DISTINCT block_id FROM pragma_storage_info('{table}') WHERE block_id >= 0"
            ).fetchall()) / events
            for table in ("label_event", "label_interval")
        }  # fmt: skip
    beside = {"of any kind": size / every, **parts, "file MB": size / 1e6}
    return [
        Row(
            what=f"{_size(ours.samples)}: bytes a label event, whole compacted file", value=size / events,
            asked=f"<= {BYTES}", met=size <= BYTES * events, peers=beside,
        )
    ]  # fmt: skip


COUNTING: Final = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
from curation.catalog.catalog import Catalog
from benchmarks.class_counts import class_counts
with Catalog.open(sys.argv[1]).read() as now:
    class_counts(now)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def _counts_within(catalog: Catalog, memory: int) -> float | None:
    """Peak memory in GB of a separate process that counts; None if `memory` bytes are too few."""
    words = [sys.executable, "-c", COUNTING, str(catalog.home), str(memory)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else None


def _memory_row(completed: dict[int, float | None]) -> Row:
    largest = max((samples for samples, peak in completed.items() if peak is not None), default=0)
    return Row(
        what="samples whose counts complete under 16 GB (the largest that was built)", value=largest,
        met=largest == max(completed),
        peers={f"{_size(samples)}, peak GB": peak for samples, peak in completed.items() if peak is not None},
    )  # fmt: skip


def _scale_rows(costs: dict[int, dict[str, float]]) -> list[Row]:
    """The cost at ten times the samples over ten times the cost; for appends over the same cost."""
    rows = []
    for fewer, more in zip(list(costs), list(costs)[1:], strict=False):
        ratios = {
            work: costs[more][work] / costs[fewer][work] / (1 if work == "append" else more / fewer) for work in ASKED
        }
        worst = max(ratios.values())
        rows.append(
            Row(
                what=f"cost from {_size(fewer)} to {_size(more)} / linear, the worst (append: / the same)", value=worst,
                unit="x", asked=f"<= {LINEAR}", met=worst <= LINEAR, peers=ratios,
            )
        )  # fmt: skip
    return rows


@contextmanager
def _peers(folder: Path, samples: int) -> Iterator[Ask]:
    """A function that runs a work on a peer and returns its milliseconds; None where the peer does not take part."""
    names = (*BESIDE, *(["FiftyOne"] if samples == FIFTYONE_AT else []))
    if samples > BESIDE_UP_TO:
        yield lambda peer, work: None
        return
    words = [str(PEERS_PYTHON), str(Path(__file__).with_name("catalog_peers.py")), str(folder)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for name in names:
            _answer(process, name, "start")
        yield lambda peer, work: _answer(process, peer, work) if peer in names else None
        process.stdin.close()


def _answer(process: "subprocess.Popen[str]", peer: str, work: str) -> float | None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{peer} {work}\n")
    process.stdin.flush()
    answer = json.loads(process.stdout.readline())
    return answer and answer.get("wall")


def _size(samples: int) -> str:
    return f"{samples // 1_000_000}M" if samples >= 1_000_000 else f"{samples // 1000}k"


if __name__ == "__main__":
    main()
