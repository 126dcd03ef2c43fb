"""`make bench-cold`: how often 100 labels find a class at 1% of which none is known, beside three simple rules.

For each class and seed, the pool is a random 65% of the images with the class thinned to 1%. Requests are those of
`curation.requests`: the mix of a cold start, with one example (`--like`), and with other tasks labelled on 12% of the
pool. Nothing is trained. `DATA` is a folder with a dataset.toml and full labels (default: `datasets/traffic_lights`);
`TASK` defaults to its task with the most classes, `CLASSES` to 8 of its classes chosen by hash, or to all of fewer;
`TUNE=1` takes the next classes by hash and other seeds, for choosing settings. `FEATURES` names a workspace whose
embeddings are used in place of new ones.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.seeds import for_each
from benchmarks.table import Row, finish, small
from curation.catalog.catalog import Catalog
from curation.catalog.slices import Slice
from curation.catalog.tasks import Task
from curation.images.embeddings import farthest_first
from curation.ingestion.dataset import Dataset
from curation.ingestion.ingest import ingest
from curation.requests.candidates import Candidates
from curation.requests.clusters import one_of_each_cluster
from curation.requests.cold_start import cold_start
from samplers.pack.pack_writer import make_pack
from training.evaluation.features import embed
from training.recipe import Recipe

Ids = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

DATA = Path(os.environ.get("DATA") or Path(__file__).resolve().parent.parent / "datasets" / "traffic_lights")
SEEDS = int(os.environ.get("SEEDS") or (3 if small() else 20))
FIRST_SEED = 1000 if os.environ.get("TUNE") else 0
CLASSES, LABELS, POOL, RARE, KNOWN_SHARE = 8, 100, 0.65, 0.01, 0.12
ARMS = ("random", "farthest-first", "one of each cluster", "cold start", "--like", "other tasks")
ASKED = {"cold start": 0.75, "--like": 0.95, "other tasks": 0.95}
AUTHOR = "bench"


def main() -> None:
    """Embed once, run every class and seed, print the share of seeds with at least one found."""
    with tempfile.TemporaryDirectory(prefix="bench-cold-") as name:
        home = Path(name) / "home"
        task, classes = _prepare(home)
        found = for_each(one_seed, {seed: (home, task, classes, seed + FIRST_SEED) for seed in range(SEEDS)})
    arms = [arm for arm in ARMS if all(arm in part for seed in found.values() for part in seed.values())]
    shares = {
        arm: {label: float(np.mean([found[seed][label][arm] > 0 for seed in found])) for label in classes}
        for arm in arms
    }
    finish("cold", [_row(arm, shares) for arm in arms], shares=shares, seeds=SEEDS, task=task)


def one_seed(home: Path, task: str, classes: Sequence[str], seed: int) -> dict[str, dict[str, int]]:
    """By class and arm: how many of the class are among the 100 requests."""
    with tempfile.TemporaryDirectory(prefix="bench-cold-") as name:
        copied = Path(name) / "home"
        shutil.copytree(home, copied, ignore=shutil.ignore_patterns("shards", "embeddings"))
        (copied / "embeddings").symlink_to(home / "embeddings")
        catalog = Catalog.open(copied)
        model = next((home / "embeddings").iterdir()).name
        with catalog.read() as now:
            truth = _truth(catalog, task)
            bare = Candidates(now, copied, embeddings=model)
            bare.principal()
            pools = {label: _pool(bare, truth, label, seed) for label in classes}
            found = {label: _plain(bare, pools[label], now.task(task), label, seed) for label in classes}
        _reveal_other_tasks(catalog, task, seed)
        with catalog.read() as now:
            if len(now.tasks()) > 1:
                helped = Candidates(now, copied, embeddings=model)
                helped.principal()
                for label in classes:
                    pool, wanted, _ = pools[label]
                    picks = cold_start(helped.restricted(pool), now.task(task), _slice(task, label), LABELS, [seed])
                    found[label]["other tasks"] = int(wanted[[pick.row for pick in picks]].sum())
    return found


def _prepare(home: Path) -> tuple[str, list[str]]:
    """Ingest the data set with all labels held back, and embed it; the task and the classes to find."""
    dataset = Dataset.load(DATA).with_reader({"held_back": True})
    dataset = dataset.model_copy(update={"split": dataset.split.model_copy(update={"test": 0.0, "validation": 0.0})})
    catalog = Catalog.create(home)
    ingest(catalog, dataset, author=AUTHOR)
    if given := os.environ.get("FEATURES"):
        shutil.copytree(Path(given) / "embeddings", home / "embeddings")
    else:
        embed(home, make_pack(catalog), Recipe.of("efficientnet_lite0"))
    with catalog.read() as now:
        tasks = now.tasks()
    name = os.environ.get("TASK") or max(tasks, key=lambda name: len(tasks[name].classes))
    by_hash = sorted(tasks[name].classes, key=lambda label: hashlib.sha256(label.encode()).hexdigest())
    start = CLASSES if os.environ.get("TUNE") else 0
    named = [label for label in os.environ.get("ONLY", "").split(",") if label]
    return name, named or by_hash[start : start + (2 if small() else CLASSES // 2 if start else CLASSES)]


def _truth(catalog: Catalog, task: str) -> dict[str, str]:

    held = pq.read_table(catalog.home / "oracle.parquet").to_pylist()
    return {row["key"]: row["text"] for row in held if row["task"] == task}


def _pool(candidates: Candidates, truth: Mapping[str, str], label: str, seed: int) -> tuple[Ids, Bools, Ids]:
    """Rows of the pool, which of them are of the class, and the rows of the class that thinning left out."""
    labels = np.array([truth.get(key, "") for key in candidates.keys.to_pylist()])
    generator = np.random.default_rng([seed, int(hashlib.sha256(label.encode()).hexdigest()[:8], 16)])
    drawn = generator.permutation(len(labels))[: round(POOL * len(labels))]
    mine, rest = drawn[labels[drawn] == label], drawn[labels[drawn] != label]
    keep = max(1, round(len(rest) * RARE / (1 - RARE)))
    pool = np.sort(np.concatenate([rest, mine[:keep]]))
    return pool, labels[pool] == label, np.setdiff1d(np.flatnonzero(labels == label), pool)


def _plain(bare: Candidates, pools: tuple[Ids, Bools, Ids], task: Task, label: str, seed: int) -> dict[str, int]:
    """Hits of the rules that know nothing, of the mix, and of the mix with an example from outside the pool."""
    pool, wanted, others = pools
    part = bare.restricted(pool)
    generator = np.random.default_rng([seed, 1])
    vectors, nothing = part.principal(), np.zeros(len(pool), np.bool_)
    rules: dict[str, Callable[[], Ids]] = {
        "random": lambda: generator.permutation(len(pool))[:LABELS],
        "farthest-first": lambda: farthest_first(vectors, np.empty(0, np.int64), LABELS),
        "one of each cluster": lambda: one_of_each_cluster(vectors, nothing, LABELS, generator),
        "cold start": lambda: _mix(part, task, label, seed),
    }
    found = {arm: int(wanted[rule()].sum()) for arm, rule in rules.items()}
    if len(others):
        liked = bare.restricted(pool)
        liked.example = bare.vectors(others[generator.integers(len(others))][None])[0]
        found["--like"] = int(wanted[_mix(liked, task, label, seed)].sum())
    return found


def _mix(part: Candidates, task: Task, label: str, seed: int) -> Ids:
    return np.array([pick.row for pick in cold_start(part, task, _slice(task.name, label), LABELS, [seed])], np.int64)


def _slice(task: str, label: str) -> Slice:
    quoted = label.replace("'", "''")
    return Slice(name="wanted", predicate=f"(label.{task} = '{quoted}')", task=task, rare=True)


def _reveal_other_tasks(catalog: Catalog, task: str, seed: int) -> None:
    """Labels of two other tasks, those with the most classes, on the same 12% of the images."""

    with catalog.read() as now:
        others = [name for name in now.tasks() if name != task and now.task(name).classes]
        others = sorted(others, key=lambda name: -len(now.task(name).classes))[:2]
        keys = now.samples()["key"].to_pylist()
    chosen = np.random.default_rng([seed, 2]).permutation(len(keys))[: round(KNOWN_SHARE * len(keys))]
    held = pq.read_table(catalog.home / "oracle.parquet")
    mine = pc.and_(
        pc.is_in(held["task"], value_set=pa.array(others, pa.string())),
        pc.is_in(held["key"], value_set=pa.array([keys[row] for row in chosen.tolist()], pa.string())),
    )
    with catalog.commit(author=AUTHOR, message="other tasks") as change:
        change.add_labels(held.filter(mine), source="import")


def _row(arm: str, shares: Mapping[str, Mapping[str, float]]) -> Row:
    values = np.array(list(shares[arm].values()))
    mean = float(values.mean())
    spread = float(np.sqrt((values * (1 - values) / SEEDS).sum()) / len(values))
    asked = ASKED.get(arm)
    return Row(
        what=f"{arm}: at least one found, mean of classes", value=mean, low=mean - 1.96 * spread,
        high=mean + 1.96 * spread, asked=f">= {asked}" if asked else "", met=asked is None or mean >= asked,
        peers=dict(shares[arm]),
    )  # fmt: skip


if __name__ == "__main__":
    main()
