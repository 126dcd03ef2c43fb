"""How long 1,000 label requests take among 1M unlabelled candidates, by strategy: the time of `amber request`.

The workspace is made of drives of 40 images with vectors of 256 numbers: a task of five classes whose rarest makes a
rare slice, and a task of numbers; 20,000 labels of each are known. Each strategy runs in a process of its own, from
opening the workspace to the commit.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.table import Row, small
from curation.arrays import Ints
from curation.catalog.catalog import Catalog
from curation.catalog.tasks import Task
from curation.files.read_back import sha256_of
from curation.images.embeddings import CHUNK, writing
from curation.requests.ranking import STRATEGIES
from training.evaluation.predictions import class_table, number_table, write_predictions
from training.imported import Imported

__all__ = ["request_rows"]

SAMPLES = 50_000 if small() else 1_000_000
KNOWN, REQUESTS, WIDTH, GROUP = 20_000, 1_000, 256, 40
SECONDS = 10.0
FREQUENCIES = np.array([0.5, 0.3, 0.15, 0.045, 0.005])
TASKS = [
    Task(name="kind", kind="categorical", classes=tuple("abcde"), owner="fleet"),
    Task(name="speed", kind="regression", unit="km/h", metric="mae", owner="fleet"),
]


def request_rows() -> list[Row]:
    """Seconds of `amber request --budget 1000` by strategy; asked of ours, for the class, the number, and both."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-requests-") as name:
        fill(Catalog.create(Path(name) / "home"), SAMPLES)
        for strategy, tasks in _arms():
            found = _alone(Path(name), strategy, tasks)
            seconds = found.pop("seconds")
            sys.stderr.write(f"{strategy} {tasks} {seconds:.1f} s\n")
            rows.append(
                Row(
                    what=f"{REQUESTS:,} requests of {SAMPLES:,}, {strategy}, {' and '.join(tasks)}", value=seconds,
                    unit=" s", asked=f"<= {SECONDS:.0f} s" if strategy == "mined" else "",
                    met=strategy != "mined" or seconds <= SECONDS, peers=found,
                )
            )  # fmt: skip
    return rows


def fill(catalog: Catalog, samples: int) -> None:
    """Samples, labels, predictions and vectors, all drawn from one seed."""
    generator = np.random.default_rng(0)
    codes = generator.choice(len(FREQUENCIES), samples, p=FREQUENCIES)
    keys = _add_samples(catalog, samples)
    known = np.sort(generator.choice(samples, min(KNOWN, samples // 4), replace=False))
    speeds = generator.normal(50, 20, samples)
    with catalog.commit(author="bench", message="labels") as change:
        change.add_labels(
            _said("kind", known, text=pa.array(list("abcde")).take(pa.array(codes[known]))), source="import"
        )
        change.add_labels(_said("speed", known, number=pa.array(speeds[known])), source="import")
    _add_vectors(catalog.home, keys, codes, generator)
    logits = generator.normal(size=(samples, len(FREQUENCIES))) + np.log(FREQUENCIES)
    logits[np.arange(samples), codes] += 3
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    path = catalog.home / "runs" / "newest" / "predictions.parquet"
    names = pa.array(keys, pa.string())
    write_predictions(
        path,
        [
            class_table(TASKS[0], names, chances, FREQUENCIES),
            number_table("speed", names, speeds + generator.normal(0, 5, samples)),
        ],
    )
    Imported(
        id="newest",
        model="newest",
        file="planted",
        sha256="0" * 64,
        commit=1,
        tasks={"kind": samples, "speed": samples},
    ).save(catalog.home)
    with catalog.commit(author="bench", message="run") as change:
        change.add_run("newest", plan="", predictions=str(path.relative_to(catalog.home)), sha256=sha256_of(path))


def _add_samples(catalog: Catalog, samples: int) -> list[str]:
    numbers = np.arange(samples)
    keys = [f"fleet/{number:07d}" for number in numbers.tolist()]
    table = pa.table(
        {
            "key": keys, "location": keys, "sha256": keys, "phash": pa.array(numbers, pa.uint64()),
            "format": pa.repeat("JPEG", samples), "width": pa.array(numbers * 0 + 64, pa.int32()),
            "height": pa.array(numbers * 0 + 64, pa.int32()), "bytes": pa.array(numbers * 0 + 1, pa.int64()),
        }
    )  # fmt: skip
    groups = [f"drive-{drive:06d}" for drive in (numbers // GROUP).tolist()]
    with catalog.commit(author="bench", message="samples") as change:
        change.add_tasks(TASKS)
        change.add_samples(table, dataset="fleet")
        change.add_attributes(pa.table({"key": keys, "group": groups, "split": pa.repeat("train", samples)}))
        change.add_slice("rarest", "label.kind = 'e'", task="kind", rare=True)
    return keys


def _add_vectors(home: Path, keys: list[str], codes: Ints, generator: "np.random.Generator") -> None:
    """Vectors whose classes lie apart."""
    middles = generator.normal(size=(len(FREQUENCIES), WIDTH)).astype(np.float32)
    with writing(home, "planted", keys, [("planted", WIDTH)]) as vectors:
        for at in range(0, len(keys), CHUNK):
            part = codes[at : at + CHUNK]
            vectors[at : at + CHUNK] = middles[part] + generator.normal(size=(len(part), WIDTH)).astype(np.float32) * 2


def _said(task: str, samples: Ints, **values: pa.Array) -> pa.Table:
    rows = len(samples)
    return pa.table(
        {
            "sample_id": samples, "task": pa.repeat(task, rows), "state": pa.repeat("known", rows), **values,
            "annotator": pa.repeat("vendor", rows),
        }
    )  # fmt: skip


def _arms() -> list[tuple[str, tuple[str, ...]]]:
    """Ours for every set of tasks, then the others for the task of classes."""
    ours = [("mined", ("kind", "speed")), ("mined", ("kind",)), ("mined", ("speed",))]
    return ours + [(strategy, ("kind",)) for strategy in STRATEGIES if strategy != "mined"]


def _alone(folder: Path, strategy: str, tasks: tuple[str, ...]) -> dict[str, float]:
    """Seconds, seconds of processor, and peak gigabytes of one verb on a copy of the catalog, in its own process."""
    home, copied = folder / "home", folder / "copy"
    shutil.rmtree(copied, ignore_errors=True)
    shutil.copytree(home, copied, ignore=shutil.ignore_patterns("embeddings"))
    (copied / "embeddings").symlink_to(home / "embeddings")
    sections = (
        f'[task.{task}]\nowner = "fleet"\nshare = {1 / len(tasks)}\nimportance = {1 / len(tasks)}\n' for task in tasks
    )
    (folder / "policy.toml").write_text("".join(sections))
    words = [sys.executable, "-m", "benchmarks.ask_requests", str(copied), strategy, str(folder / "policy.toml")]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _verb(home: str, strategy: str, policy: str) -> None:
    """The measured process."""
    import resource

    from amber.cli import run

    words = ["request", "--budget", str(REQUESTS), "--strategy", strategy, "--policy", policy, "--author", "bench"]
    began, busy = time.perf_counter(), time.process_time()
    code = run([*words, "--home", home, "--json"])
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    if code:
        sys.exit(code)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write("\n" + json.dumps({"seconds": seconds, "CPU s": busy, "GB": peak / (1 << 30)}) + "\n")


if __name__ == "__main__":
    _verb(*sys.argv[1:])
