"""`make bench-labels DATA=FOLDER`: the loop beside random, margin and entropy on any declared data set.

`WANTED` (TASK=CLASS, several separated by ";"; default: the rarest class of the task with the most classes, and of many
classes four more, chosen by hash) are each thinned to `SHARE` of the pool, and 5% of the answers are wrong. `KNOWN` of
each task's labels are known at the start; `SEEDS` seeds run, two at a time on one thread each. The arm "logistic" is a
balanced logistic regression, with the best of eight ridges by grouped cross-validation, on the same vectors and the
labels that the mined arm bought. Each point goes to stderr as it comes. `STRATEGIES` names the arms (default: all).
With `KEEP`, a folder, finished seeds are kept there and found again; their time then is not in the last row.
"""

import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from hashlib import sha256
from itertools import repeat
from multiprocessing import get_context
from operator import attrgetter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from amber.loop import Loop
from amber.replayed_data import Simulation, make_template
from amber.simulate import ARMS, Beside, Point, labelled_test_samples, simulate_seed
from amber.simulated_picture import differences_of, draw, paired, simulated_table
from amber.terminal import output
from benchmarks.max_t import max_t
from benchmarks.table import Row, finish, small
from curation.catalog.catalog import Catalog
from curation.catalog.schema import KNOWN
from curation.files.atomic import whole
from curation.images.embeddings import Embeddings
from curation.ingestion.dataset import Dataset
from curation.ingestion.read_dataset import read
from training.recipe import Recipe
from training.run import Run

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

RIDGES = 10.0 ** np.arange(-5, 3)
FOLDS = 4
MANY = 20
"""Classes from which on several are wanted."""
JOBS = int(os.environ.get("JOBS", "2"))
STRATEGIES = tuple(os.environ.get("STRATEGIES", ",".join(ARMS)).split(","))
KEEP = os.environ.get("KEEP", "")


def main() -> None:
    """Simulate, print the table, draw the picture."""
    folder = Path(os.environ["DATA"])
    wanted = [pair.partition("=")[::2] for pair in os.environ.get("WANTED", "").split(";") if pair] or _rarest(folder)
    share = float(os.environ.get("SHARE", "0.01"))
    simulation = Simulation(
        task=wanted[0][0], labels=tuple(label for _, label in wanted), share=share,
        fitted=True,
        known=float(os.environ.get("KNOWN", "0.12")),
        loop=Loop(
            rounds=1 if small() else 5, budget=60,
            recipe=Recipe.of("efficientnet_lite0", threads=1, heads=os.environ.get("HEADS", "auto")),
        ),
    )  # fmt: skip
    first = int(os.environ.get("FIRST_SEED", "0"))
    seeds = range(first, first + int(os.environ.get("SEEDS", "1" if small() else "10")))
    began = time.monotonic()
    points = simulated(folder, simulation, seeds)
    title = f"{folder.name}: {', '.join(simulation.labels)} at {share:.1%}, {len(seeds)} seeds"
    output().print(simulated_table(title, points))
    picture = draw(title, points, Path("bench-out") / f"labels-{folder.name}.png")
    numeric = {task.name for task in Dataset.load(folder).task if task.kind == "regression"}
    minutes = (time.monotonic() - began) / 60
    rows = [*_rows(points, numeric), Row(what="minutes", value=minutes, asked="<= 60", met=minutes <= 60)]
    finish("labels", rows, points=[asdict(point) for point in points], picture=str(picture))


def simulated(folder: Path, simulation: Simulation, seeds: Sequence[int]) -> list[Point]:
    """The points of all seeds, in processes that take one seed at a time."""
    with tempfile.TemporaryDirectory(prefix="bench-labels-") as name:
        home = Path(name)
        _, simulation = make_template(folder, home / "template", simulation, lambda stage, done, total: None)
        jobs = ProcessPoolExecutor(JOBS, mp_context=get_context("spawn"))
        with jobs:
            return [point for points in jobs.map(_of_seed, repeat((home, simulation)), seeds) for point in points]


def _of_seed(job: tuple[Path, Simulation], seed: int) -> list[Point]:
    torch.set_num_threads(1)
    home, simulation = job
    settings = repr((simulation, STRATEGIES, seed)).encode()
    kept = Path(KEEP, f"{seed}-{sha256(settings).hexdigest()[:12]}.json")
    if KEEP and kept.is_file():
        return [Point(**row) for row in json.loads(kept.read_text())]
    points = []
    template = Catalog.open(home / "template")
    beside: dict[str, Beside] = {"logistic": balanced_logistic}
    for point in simulate_seed(template, home, simulation, seed, arms=STRATEGIES, beside=beside):
        sys.stderr.write(json.dumps(asdict(point)) + "\n")
        sys.stderr.flush()
        points.append(point)
    if KEEP:
        with whole(kept) as part:
            part.write_text(json.dumps([asdict(point) for point in points]))
    return points


def balanced_logistic(catalog: Catalog, simulation: Simulation, run: str) -> Floats:
    """Chances [n, C] of the classes for the test samples, by softmax regression in float64 with balanced classes."""
    with catalog.read() as now:
        task, samples, labels = now.task(simulation.task), now.samples(), now.labels(simulation.task)
        train = now.training_ids()
        test, _ = labelled_test_samples(now, simulation)
    known = labels.filter(pc.equal(labels["state"], KNOWN)).filter(pc.is_in(labels["sample_id"], pa.array(train)))
    rows = pc.index_in(known["sample_id"], value_set=samples["sample_id"].combine_chunks())
    groups = samples["group"].take(rows).combine_chunks().dictionary_encode().indices.to_numpy()
    codes = np.asarray(known["code"].to_numpy(), np.int64)
    embeddings = Embeddings.open(catalog.home, Run.open(catalog.home, run).recipe.embeddings)
    seen, y = np.unique(codes, return_inverse=True)
    x = embeddings.standardised(embeddings.rows(samples["key"].take(rows).to_pylist())).astype(np.float64)
    asked = embeddings.standardised(embeddings.rows(test)).astype(np.float64)
    basis = np.linalg.svd(x, full_matrices=False)[2]  # at most as many directions as labels
    x, asked = x @ basis.T, asked @ basis.T
    folds = groups % FOLDS
    losses = [np.mean([_held_out(x, y, folds == fold, ridge, len(seen)) for fold in range(FOLDS)]) for ridge in RIDGES]
    chances = np.zeros((len(test), len(task.classes)))
    chances[:, seen] = softmax(asked @ _solved(x, y, RIDGES[int(np.argmin(losses))], len(seen)), axis=1)
    return chances


def _solved(x: Floats, y: Ids, ridge: float, classes: int) -> Floats:
    """Weights [D, C] of the balanced softmax regression."""
    weights = (len(y) / np.maximum(np.bincount(y, minlength=classes), 1) / classes)[y] / len(y)
    one_hot = np.eye(classes)[y]

    def loss(flat: Floats) -> tuple[float, Floats]:
        w = flat.reshape(x.shape[1], classes)
        logs = log_softmax(x @ w, axis=1)
        value = -(weights * logs[np.arange(len(y)), y]).sum() + ridge / 2 * (w**2).sum()
        return float(value), (x.T @ (weights[:, None] * (np.exp(logs) - one_hot)) + ridge * w).ravel()

    found = minimize(loss, np.zeros(x.shape[1] * classes), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return np.asarray(found.x.reshape(x.shape[1], classes), np.float64)


def _held_out(x: Floats, y: Ids, out: Bools, ridge: float, classes: int) -> float:
    if not out.any() or out.all():
        return 0.0
    logs = log_softmax(x[out] @ _solved(x[~out], y[~out], ridge, classes), axis=1)
    return float(-logs[np.arange(int(out.sum())), y[out]].mean())


def _rarest(folder: Path) -> list[tuple[str, str]]:
    """(task, class): the rarest class of the task with the most classes; of many classes, four more by hash."""
    dataset = Dataset.load(folder).with_reader({"held_back": True})
    task = max((task for task in dataset.task if task.outputs), key=lambda task: len(task.classes))
    held = read(dataset, lambda stage, done, total: None).held_back
    counts = Counter(held.filter(pc.equal(held["task"], task.name))["text"].to_pylist())
    first = min(counts, key=lambda name: (counts[name], name))
    others = sorted((name for name in counts if name != first), key=lambda name: sha256(name.encode()).hexdigest())
    return [(task.name, name) for name in [first, *(others[:4] if len(counts) >= MANY else [])]]


def _rows(points: list[Point], numeric: set[str]) -> list[Row]:
    """Paired differences of the mined arm after the last round, pooled over classes and for each; then other tasks."""
    rows = []

    def add(what: str, arm: str, other: str, of: Callable[[Point], float | None], asked: str = "") -> None:
        found = paired(points, arm, other, of=of)
        if found:
            value, low, high = found
            met = {"low > 0": low > 0, "high >= 0": high >= 0}.get(asked, True)
            rows.append(Row(what=f"{what}: {arm} minus {other}", value=value, low=low, high=high, asked=asked, met=met))

    labels = list(dict.fromkeys(point.label for point in points))
    for other, asked in (("random", "low > 0"), ("margin", "high >= 0"), ("entropy", ""), ("logistic", "")):
        for figure in ("ap", "f1", "precision", "recall"):
            add(f"rare {figure}", "mined", other, attrgetter(figure), asked if figure == "ap" else "")
    for label in labels if len(labels) > 1 else []:
        add(f"{label} ap", "mined", "random", lambda point, label=label: point.ap if point.label == label else None)
    tasks = list(points[0].tasks)
    for task in tasks:
        sign = -1.0 if task in numeric else 1.0
        add(
            f"{task} (higher is better)",
            "mined",
            "random",
            lambda point, t=task, s=sign: s * point.tasks.get(t, np.nan),
        )
    return [*rows, _worse_row(points, {task: -1.0 if task in numeric else 1.0 for task in tasks})]


def _worse_row(points: list[Point], signs: dict[str, float]) -> Row:
    """The smallest p of "mined is worse than random" over all tasks."""
    worse = [
        -differences_of(points, "mined", "random", of=lambda point, t=task, s=sign: s * point.tasks.get(t, np.nan))
        for task, sign in signs.items()
    ]
    p = max_t(np.transpose(worse))
    return Row(what="p of any task being worse than by random (max-T)", value=p, asked=">= 0.05", met=p >= 0.05)


if __name__ == "__main__":
    main()
