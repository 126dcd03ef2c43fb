"""The queue on frozen features of streets: 500 new labels of one task, 500 that say nothing, and nothing new."""

import os
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from amber.queue import queue
from benchmarks.heads_data import frozen_streets
from benchmarks.table import Row, cases_row, small
from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import LABELS, REQUESTS
from curation.requests import oracle
from curation.requests.evaluation_labels import request_rows
from samplers.plan.build import make_plan
from samplers.policy.policy import Policy
from training.evaluation.evaluation import evaluate
from training.judging.queue import QueueRow
from training.loop.trainer import train

__all__ = ["label_task", "make_template", "queue_rows"]

AUTHOR = "bench"

IMAGES = 1_500 if small() else 5_000
LABELLED = 500
RUNS = int(os.environ.get("RUNS", "1" if small() else "4"))
FIRST = int(os.environ.get("FIRST_SEED", "1000"))
TASKS = ("light_color", "pedestrian", "car", "speed")


def queue_rows() -> list[Row]:
    """What is recommended where one task got labels, where they are noise, and where nothing is new; and the time."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="bench-ask-") as name:
        home = Path(name) / "template"
        make_template(home)
        still = _rows(home)
        real, others, seconds = [], [], []
        noise = []
        for seed in range(FIRST, FIRST + RUNS):
            for task in TASKS:
                copy = Path(name) / f"{task}-{seed}"
                shutil.copytree(home, copy)
                label_task(copy, task, seed)
                begun = time.perf_counter()
                rows = _rows(copy)
                seconds.append(time.perf_counter() - begun)
                real.append(rows[task])
                others += [row for name, row in rows.items() if name != task]
                shutil.rmtree(copy)
                shutil.copytree(home, copy)
                label_task(copy, task, seed, noisy=True)
                noise.append(_rows(copy)[task])
                shutil.rmtree(copy)
    return [
        _refits(f"{LABELLED} new labels of one task: head refit", real, "at least 80%"),
        *(_refits(f"- {task}", real[at :: len(TASKS)], "") for at, task in enumerate(TASKS)),
        _share("the other tasks meanwhile: nothing", [row.action == "nothing" for row in others], "all", 1.0, {}),
        _share(f"{LABELLED} labels at random classes: no head refit", [row.action != "head" for row in noise],
               "at least 95%", 0.95, {}),
        _share("nothing new: nothing", [row.action == "nothing" for row in still.values()], "all", 1.0, {}),
        Row(what="time of a queue with one task to measure", value=float(np.median(seconds)), unit=" s",
            asked="seconds", met=float(np.median(seconds)) < 60),
    ]  # fmt: skip


def make_template(home: Path, *, heads: str = "exact") -> None:
    """A workspace of streets with a run of such heads on frozen features, on the imported labels."""
    catalog, pack, recipe = frozen_streets(home, IMAGES)
    recipe = replace(recipe, heads=heads)
    with catalog.read() as now:
        policy = Policy.for_labelled(now)
    run = train(recipe, make_plan(catalog, policy, pack, draws=1_000), catalog)
    evaluate(run, catalog, author=AUTHOR)


def label_task(home: Path, task: str, seed: int, *, noisy: bool = False) -> None:
    """Have 500 random training images answered for a task; `noisy`, with the answers of other images."""
    catalog, generator = Catalog.open(home), np.random.default_rng(seed)
    with catalog.commit(author=AUTHOR, message=f"ask for {task}") as change:
        known = change.now.labels(task)["sample_id"].to_numpy()
        open_ = np.setdiff1d(change.now.training_ids(), known)
        chosen = np.sort(generator.permutation(open_)[:LABELLED])
        rows = request_rows(
            chosen, np.full(len(chosen), len(chosen) / len(open_)), task_id=change.now.task_ids()[task], arm="random",
            run="", reason="bench",
        )  # fmt: skip
        change.add_requests(pa.Table.from_pylist(rows, REQUESTS))
    oracle.answer(catalog, batch=f"bench:{task}:{seed}")
    if noisy:
        _shuffle(catalog, task, chosen, generator)


def _shuffle(catalog: Catalog, task_name: str, chosen: "np.ndarray[tuple[int], np.dtype[np.int64]]",
             generator: np.random.Generator) -> None:  # fmt: skip
    """Give the new labels of a task to each other's images, as a person whose label counts more."""
    with catalog.commit(author=AUTHOR, message="noise") as change:
        task, labels = change.now.task(task_name), change.now.labels(task_name)
        keys = dict(zip(change.now.samples()["sample_id"].to_pylist(), change.now.samples()["key"].to_pylist(),
                        strict=True))  # fmt: skip
        mine = [row for row in labels.to_pylist() if row["sample_id"] in set(chosen.tolist()) and row["state"] == 1]
        order = generator.permutation(len(mine)).tolist()
        rows = [
            {"key": keys[row["sample_id"]], "task": task_name, "state": "known", "annotator": "oracle",
             "text": None if task.kind == "regression" else str(task.classes[mine[other]["code"]]),
             "number": mine[other]["number"]}
            for row, other in zip(mine, order, strict=True)
        ]  # fmt: skip
        change.add_labels(pa.Table.from_pylist(rows, LABELS), source="oracle")


def _rows(home: Path) -> dict[str, QueueRow]:
    catalog = Catalog.open(home)
    with catalog.read() as now:
        return {row.change.task: row for row in queue(catalog, now)[0] if row.change.run}


def _refits(what: str, rows: list[QueueRow], asked: str) -> Row:
    gains = [row.gain for row in rows if row.gain]
    peers = {"mean measured gain": float(np.mean([gain.gain for gain in gains]))}
    return _share(what, [row.action == "head" for row in rows], asked, 0.8, peers)


def _share(what: str, right: list[bool], asked: str, limit: float, peers: dict[str, float]) -> Row:
    met = not asked or sum(right) / len(right) >= limit
    return cases_row(f"{what} ({len(right)})", sum(right), len(right), asked=asked, met=met, peers=peers)
