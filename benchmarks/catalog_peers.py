"""The peers of `benchmarks.catalog`, in a separate environment: `.venv-peers/bin/python catalog_peers.py FOLDER`.

Each line of standard input requests one piece of work, such as `pandas count_one`; the answer is a line of JSON with
its wall and CPU milliseconds. So the rounds of all peers interleave. FOLDER holds what `make_peers_data` wrote. pandas
and SQLite also keep the current labels, as a careful user would; bare Parquet is one file sorted by task
and sample, read again for each query.
"""

import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

TASK = 3
FIELDS = 6
BATCH = 10_000
ELIGIBLE = 20


class Pandas:
    """Two data frames in memory."""

    def __init__(self, folder: Path) -> None:
        self.events = pd.read_parquet(folder / "events.parquet")
        self.current = self.events.drop_duplicates(["task", "sample"], keep="last").drop(columns="commit")
        self.samples = pd.read_parquet(folder / "samples.parquet").set_index("sample")
        self.index = folder / "index.parquet"
        self.middle = self.events["commit"].max() // 2

    def count_one(self) -> None:
        self.current.loc[self.current["task"] == TASK, "code"].value_counts()

    def count_all(self) -> None:
        self.current.groupby(["task", "code"]).size()

    def slice(self) -> None:
        mine = self.current[(self.current["task"] == TASK) & (self.current["code"] == 1)]
        found = self.samples.loc[mine["sample"]]
        found[(found["weather"] == "rain") & found["night"]].index.sort_values()

    def overlap(self) -> None:
        known = np.zeros((self.current["task"].max() + 1, len(self.samples)), np.float32)
        known[self.current["task"], self.current["sample"]] = 1
        known @ known.T

    def eligible(self) -> None:
        index = pd.read_parquet(self.index, columns=["key"]).reset_index(names="row")
        train = self.samples.loc[self.samples["split"] == "train", ["key"]].reset_index()
        rows = train.merge(index, on="key")
        self.current[self.current["task"] < ELIGIBLE].merge(rows[["sample", "row"]], on="sample")

    def count_then(self) -> None:
        then = self.events[self.events["commit"] <= self.middle]
        then.drop_duplicates(["task", "sample"], keep="last").groupby(["task", "code"]).size()

    def append(self) -> None:
        pd.concat([self.events, self.events[-BATCH:]], ignore_index=True)


class SQLite:
    """A file with an index over the current labels by task, in write-ahead mode."""

    def __init__(self, folder: Path) -> None:
        self.file = sqlite3.connect(folder / "peer.sqlite")
        self.file.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA cache_size = -500000; PRAGMA mmap_size = 4000000000;"
        )
        events, samples = (pd.read_parquet(folder / f"{name}.parquet") for name in ("events", "samples"))
        events.to_sql("event", self.file, index=False)
        events.drop_duplicates(["task", "sample"], keep="last").to_sql("current", self.file, index=False)
        samples.to_sql("sample", self.file, index=False)
        self.file.executescript(
            "CREATE INDEX by_task ON current (task, code, sample); CREATE UNIQUE INDEX by_id ON sample (sample);"
            "CREATE UNIQUE INDEX cell ON current (task, sample);"
            "CREATE INDEX by_cell ON event (task, sample, `commit`, code); ANALYZE;"
        )
        self.middle = int(events["commit"].max() // 2)
        self.batch = events[-BATCH:]

    def count_one(self) -> None:
        self._all(f"SELECT code, count(*) FROM current WHERE task = {TASK} GROUP BY code")

    def count_all(self) -> None:
        self._all("SELECT task, code, count(*) FROM current GROUP BY task, code")

    def slice(self) -> None:
        self._all(
            f"SELECT sample FROM current JOIN sample USING (sample) WHERE task = {TASK} AND code = 1 "
            "AND weather = 'rain' AND night ORDER BY sample"
        )

    def count_then(self) -> None:
        self._all(
            f"SELECT task, code, count(*) FROM (SELECT task, code, max(`commit`) FROM event "
            f"WHERE `commit` <= {self.middle} GROUP BY task, sample) GROUP BY task, code"
        )

    def append(self) -> None:
        rows = list(self.batch.itertuples(index=False, name=None))
        with self.file:
            self.file.executemany("INSERT INTO event VALUES (?, ?, ?, ?)", rows)
            self.file.executemany("INSERT OR REPLACE INTO current VALUES (?, ?, ?, ?)", rows)

    def _all(self, query: str) -> None:
        self.file.execute(query).fetchall()


class Parquet:
    """One file of events, sorted by task, sample and commit; the last event of each cell counts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "peer.parquet"
        events = pq.read_table(folder / "events.parquet")
        events = events.sort_by([(name, "ascending") for name in ("task", "sample", "commit")])
        pq.write_table(events, self.file, row_group_size=1 << 17, compression="zstd")
        self.middle = pc.max(events["commit"]).as_py() // 2
        self.batch = events.slice(0, BATCH)

    def count_one(self) -> None:
        self._count(self._current([("task", "=", TASK)]))

    def count_all(self) -> None:
        self._count(self._current())

    def slice(self) -> None:
        mine = self._current([("task", "=", TASK)])
        samples = pq.read_table(
            self.folder / "samples.parquet",
            filters=[("weather", "=", "rain"), ("night", "=", True)],
            columns=["sample"],
        )
        found = mine.filter(pc.equal(mine["code"], 1))["sample"]
        found.filter(pc.is_in(found, value_set=samples["sample"]))

    def eligible(self) -> None:
        index = pq.read_table(self.folder / "index.parquet", columns=["key"])
        index = index.append_column("row", pa.array(np.arange(len(index))))
        train = pq.read_table(
            self.folder / "samples.parquet", filters=[("split", "=", "train")], columns=["sample", "key"]
        )
        rows = train.join(index, "key", join_type="inner").drop_columns(["key"])
        self._current([("task", "<", ELIGIBLE)]).join(rows, "sample", join_type="inner")

    def count_then(self) -> None:
        self._count(self._current([("commit", "<=", self.middle)]))

    def append(self) -> None:
        pq.write_table(self.batch, self.folder / "peer-more.parquet")

    def _current(self, filters: list[tuple[str, str, int]] | None = None) -> pa.Table:
        events = pq.read_table(self.file, filters=filters)
        task, sample = (events[name].to_numpy() for name in ("task", "sample"))
        last = np.append((task[1:] != task[:-1]) | (sample[1:] != sample[:-1]), True)
        return events.filter(pa.array(last))

    def _count(self, events: pa.Table) -> None:
        events.group_by(["task", "code"]).aggregate([([], "count_all")])


class FiftyOne:
    """A dataset of the first tasks as Classification fields, on FiftyOne's own MongoDB, by its public API."""

    def __init__(self, folder: Path) -> None:
        os.environ |= {
            "FIFTYONE_DO_NOT_TRACK": "true", "FIFTYONE_DATABASE_VALIDATION": "false", "HOME": str(folder),
            "FIFTYONE_DATABASE_DIR": str(folder / "mongo"), "FIFTYONE_SHOW_PROGRESS_BARS": "false",
        }  # fmt: skip
        import fiftyone

        self.fiftyone = fiftyone
        self.dataset = fiftyone.Dataset("bench")
        events = pd.read_parquet(folder / "events.parquet")
        current = events.drop_duplicates(["task", "sample"], keep="last")
        samples = pd.read_parquet(folder / "samples.parquet")
        self.fields = [f"t{task:02d}" for task in range(FIELDS)]
        for field in self.fields:
            self.dataset.add_sample_field(field, fiftyone.EmbeddedDocumentField, embedded_doc_type=self._label)
        started = time.perf_counter()
        self.ids = np.array(
            self.dataset.add_samples(
                fiftyone.Sample(filepath=f"/data/{row.key}.jpg", weather=row.weather, night=bool(row.night))
                for row in samples.itertuples()
            )
        )
        self.loading = len(samples) / (time.perf_counter() - started)
        self.labels = [current[current["task"] == task] for task in range(FIELDS)]
        self.bulk()

    def count_one(self) -> None:
        self.dataset.count_values(f"t{TASK:02d}.label")

    def count_fields(self) -> None:
        self.dataset.aggregate([self.fiftyone.CountValues(f"{field}.label") for field in self.fields])

    def append(self) -> None:
        self._set(0, self.labels[0][:BATCH])

    def bulk(self) -> None:
        """All labels of all fields."""
        for task, mine in enumerate(self.labels):
            self._set(task, mine)

    def _set(self, task: int, mine: pd.DataFrame) -> None:
        values = {
            self.ids[sample]: self._label(label=f"c{code}")
            for sample, code in zip(mine["sample"], mine["code"], strict=True)
        }
        self.dataset.set_values(self.fields[task], values, key_field="id")

    @property
    def _label(self) -> type:
        return self.fiftyone.Classification


PEERS: dict[str, Callable[[Path], object]] = {
    "pandas": Pandas, "SQLite": SQLite, "Parquet": Parquet, "FiftyOne": FiftyOne,
}  # fmt: skip


def main() -> None:
    """Answer until standard input ends. `NAME start` sets a peer up; work that a peer lacks is answered with null."""
    folder = Path(sys.argv[1])
    peers: dict[str, object] = {}
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        name, work = line.split()
        if work == "start":
            peers[name] = PEERS[name](folder)
            answer = {"loading": getattr(peers[name], "loading", None)}
        else:
            answer = _timed(getattr(peers[name], work, None))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _timed(work: Callable[[], None] | None) -> dict[str, float] | None:
    if work is None:
        return None
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"wall": 1000 * (time.perf_counter() - wall), "cpu": 1000 * (time.process_time() - cpu)}


if __name__ == "__main__":
    main()
