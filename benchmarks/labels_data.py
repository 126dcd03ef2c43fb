"""`make bench-labels DATA=FOLDER`: the loop beside random, margin and entropy on any declared data set.

`WANTED` (TASK=CLASS; default: the rarest class of the task with the most classes) is thinned to `SHARE` of the pool, 5%
of the answers are wrong, and `SEEDS` seeds run. The arm "logistic" is a balanced logistic regression, with the best of
eight ridges by grouped cross-validation, on the same vectors and the labels that the mined arm bought.
"""

import os
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from amber.loop import Loop
from amber.simulate import Point, Simulation, labelled_test_samples, simulate
from amber.simulated_picture import draw, paired, simulated_table
from amber.terminal import output
from benchmarks.table import Row, finish, small
from curation.catalog.catalog import Catalog
from curation.catalog.schema import KNOWN
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


def main() -> None:
    """Simulate, print the table, draw the picture."""
    folder = Path(os.environ["DATA"])
    task, _, label = (os.environ.get("WANTED") or _rarest(folder)).partition("=")
    loop = Loop(
        rounds=1 if small() else 5, budget=60, start=int(os.environ.get("START", "200")),
        recipe=Recipe.of("efficientnet_lite0"),
    )  # fmt: skip
    share = float(os.environ.get("SHARE", "0.01"))
    simulation = Simulation(task=task, label=label, share=share, loop=loop)
    seeds = range(int(os.environ.get("SEEDS", "1" if small() else "10")))
    with tempfile.TemporaryDirectory(prefix="bench-labels-") as name:
        points = list(simulate(folder, Path(name), simulation, seeds=seeds, beside={"logistic": balanced_logistic}))
    title = f"{folder.name}: {task} = {label} at {share:.1%}, {len(seeds)} seeds"
    output().print(simulated_table(title, points))
    picture = draw(title, points, Path("bench-out") / f"labels-{folder.name}.png")
    finish("labels", list(_rows(points)), points=[asdict(point) for point in points], picture=str(picture))


def balanced_logistic(catalog: Catalog, simulation: Simulation, run: str) -> tuple[Floats, Bools]:
    """Chances of the wanted class on the test samples, and where it is the likeliest class, by softmax regression in
    float64 with balanced classes."""
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
    chances = softmax(asked @ _solved(x, y, RIDGES[int(np.argmin(losses))], len(seen)), axis=1)
    place = np.flatnonzero(seen == task.classes.index(simulation.label))
    if not len(place):
        return np.zeros(len(test)), np.zeros(len(test), np.bool_)
    return chances[:, place[0]], np.asarray(chances.argmax(axis=1) == place[0])


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


def _rarest(folder: Path) -> str:
    """TASK=CLASS: the rarest class of the task with the most classes."""
    dataset = Dataset.load(folder).with_reader({"held_back": True})
    task = max((task for task in dataset.task if task.outputs), key=lambda task: len(task.classes))
    held = read(dataset, lambda stage, done, total: None).held_back
    counts = Counter(held.filter(pc.equal(held["task"], task.name))["text"].to_pylist())
    return f"{task.name}={min(counts, key=lambda name: (counts[name], name))}"


def _rows(points: list[Point]) -> list[Row]:
    rows = []
    for arm in dict.fromkeys(point.arm for point in points):
        found = paired(points, arm)
        if found:
            value, low, high = found
            asked = "interval above 0" if arm == "mined" else ""
            what = f"AP of {arm} minus random's, paired"
            rows.append(Row(what=what, value=value, low=low, high=high, asked=asked, met=not asked or low > 0))
    return rows


if __name__ == "__main__":
    main()
