"""`make bench-labels`: how many labels it takes to find the rare class of `traffic_lights`, mined against random.

Each seed is a fresh workspace with its own grouped split. Both arms run the one loop of `amber/loop.py` with the same
features, classifier and training; only their requests differ. In two more settings green, then red, is thinned to
3% of the training pool and takes yellow's place. Images are embedded once and the vectors are copied, because they
depend only on the images.
"""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from amber.loop import Loop, Round, run_loop
from benchmarks.seeds import for_each
from benchmarks.table import Row, finish, small
from curation.catalog.catalog import Catalog
from curation.ingestion.dataset import Dataset
from curation.ingestion.ingest import ingest
from samplers.pack.pack_writer import make_pack
from training.evaluation.features import embed
from training.judging.paired_runs import PairedPredictions, PairedRuns
from training.recipe import Recipe
from training.report.run_results import confusion_of

Floats = npt.NDArray[np.float64]

DATASET = Path(__file__).resolve().parent.parent / "datasets" / "traffic_lights"
SEEDS = int(os.environ.get("SEEDS", "2" if small() else "20"))
WANTED = ("yellow",) if small() else ("yellow", "green", "red")
ROUNDS = 3
RANDOM_START, RANDOM_STEP, RANDOM_ROUNDS = 100, 100, 3 if small() else 9
THINNED = 0.03
TARGET = 0.90
AUTHOR = "bench"

Curve = list[tuple[int, float, float, float]]
"""Labels bought; recall of the wanted class, mean recall of the others, F1 of the wanted class; on test."""


def main() -> None:
    """Run every setting and seed on two processes and print the figures."""
    with tempfile.TemporaryDirectory(prefix="bench-labels-") as name:
        folder = Path(name)
        embed_once(folder)
        jobs = {(wanted, seed): (folder, wanted, seed) for wanted in WANTED for seed in range(SEEDS)}
        found = for_each(one_seed, jobs)
    curves = {wanted: [found[wanted, seed] for seed in range(SEEDS)] for wanted in WANTED}
    finish("labels", _rows(curves), curves=curves, seeds=SEEDS)


def one_seed(folder: Path, wanted: str, seed: int) -> tuple[Curve, Curve]:
    """The learning curves of both arms for one seed, each in its own workspace."""
    curves = []
    for arm in ("mined", "random"):
        home = folder / f"{wanted}-{seed}-{arm}"
        catalog = fresh(home, wanted, seed, folder / "features" / "embeddings")
        recipe = Recipe.of("efficientnet_lite0", seed=seed, threads=1)
        if arm == "mined":
            loop = Loop(rounds=ROUNDS, seed=seed, recipe=recipe)
        else:
            loop = Loop(
                rounds=RANDOM_ROUNDS, start=RANDOM_START, budget=RANDOM_STEP, random_share=1.0, seed=seed, recipe=recipe
            )
        curves.append([_point(catalog, step, wanted) for step in run_loop(catalog, loop, author=AUTHOR)])
        shutil.rmtree(home)
    return curves[0], curves[1]


def embed_once(folder: Path) -> None:
    """Fetch the data set, and embed its images in `folder`/features."""
    catalog = Catalog.create(folder / "features")
    ingest(catalog, Dataset.load(DATASET), author=AUTHOR)
    embed(catalog.home, make_pack(catalog), Recipe.of("efficientnet_lite0"))


def fresh(home: Path, wanted: str, seed: int, embeddings: Path) -> Catalog:
    """A workspace with the data set, split by `seed`, and these embeddings; `wanted` is the rare class."""
    catalog = Catalog.create(home)
    ingest(catalog, Dataset.load(DATASET), author=AUTHOR, seed=seed)
    shutil.copytree(embeddings, home / "embeddings")
    if wanted != "yellow":
        _thin(catalog, wanted, seed)
    return catalog


def _thin(catalog: Catalog, wanted: str, seed: int) -> None:
    """Exclude training samples of one class until it is 3% of the pool, and mine it instead of yellow."""
    with catalog.read() as now:
        train = [row for row in now.samples().to_pylist() if row["split"] == "train"]
    mine = [row["key"] for row in train if Path(row["location"]).parent.name == wanted]
    keep = round((len(train) - len(mine)) * THINNED / (1 - THINNED))
    out = np.random.default_rng(seed).permutation(mine)[keep:].tolist()
    with catalog.commit(author=AUTHOR, message=f"thin {wanted}") as change:
        change.add_attributes(pa.table({"key": pa.array(out, pa.string()), "excluded": [True] * len(out)}))
        for name in ("yellow", "green", "red"):
            change.add_slice(name, f"label.light_color = '{name}'", task="light_color", rare=name == wanted)


def _point(catalog: Catalog, step: Round, wanted: str) -> tuple[int, float, float, float]:
    recalls = {name: step.figure("light_color", name)["value"] for name in ("red", "yellow", "green")}
    others = [recall for name, recall in recalls.items() if name != wanted]
    return step.labels, recalls[wanted], float(np.mean(others)), _f1(catalog, step.run, wanted)


def _f1(catalog: Catalog, run: str, wanted: str) -> float:
    """F1 of a class of `light_color` on the labelled images of test, as a run predicts it."""
    with catalog.read() as now:
        runs = PairedRuns.alone(now, catalog.home, run, tasks=["light_color"])
    pair = runs.tasks["light_color"]
    assert isinstance(pair, PairedPredictions)
    found = confusion_of(pair.task, pair.second, runs.samples).f1(pair.task.classes.index(wanted)).value
    return 0.0 if found is None else found


def _rows(curves: dict[str, list[tuple[Curve, Curve]]]) -> list[Row]:
    rows = []
    pairs = curves["yellow"]
    mined = np.array([_at(curve, 100)[1] for curve, _ in pairs])
    f1, f1_drawn = (np.array([_at(pair[arm], 100)[3] for pair in pairs]) for arm in (0, 1))
    others = np.array([_at(curve, 100)[2] for curve, _ in pairs])
    drawn = np.array([_at(curve, 100)[1] for _, curve in pairs])
    others_drawn = np.array([_at(curve, 100)[2] for _, curve in pairs])
    for what, values, bound, beside in (
        ("yellow recall at 100 labels, mean of seeds", mined, 0.95, drawn),
        ("yellow F1 at 100 labels, mean of seeds", f1, 0.95, f1_drawn),
        ("recall of the other classes, mean of seeds", others, 0.99, others_drawn),
        ("yellow recall minus random's, paired", mined - drawn, 0.35, None),
    ):
        low, high = _bootstrap(values)
        peers = {} if beside is None else {"random": float(beside.mean())}
        value = float(values.mean())
        rows.append(
            Row(what=what, value=value, low=low, high=high, asked=f">= {bound:.2f}", met=value >= bound, peers=peers)
        )
    worst = float(mined.min())
    rows.insert(1, Row(what="yellow recall at 100 labels, worst seed", value=worst, asked=">= 0.70", met=worst >= 0.70,
                       peers={"random": float(drawn.min())}))  # fmt: skip
    for wanted, seeds in curves.items():
        rows.append(_ratio_row(wanted, seeds))
    return rows


def _ratio_row(wanted: str, seeds: list[tuple[Curve, Curve]]) -> Row:
    """Labels to reach the target on the mean curve of the seeds; the interval resamples seeds."""
    generator = np.random.default_rng(0)
    ours, theirs = (_needed(seeds, arm, np.arange(len(seeds))) for arm in (0, 1))
    ratios = []
    for _ in range(2000):
        chosen = generator.integers(0, len(seeds), len(seeds))
        ratios.append(_needed(seeds, 1, chosen) / _needed(seeds, 0, chosen))
    low, high = (float(edge) for edge in np.quantile(ratios, [0.025, 0.975]))
    bound, lowest = (5, 4) if wanted == "yellow" else (4, 0)
    return Row(
        what=f"labels for {wanted} recall {TARGET:.2f}: random / mined", value=theirs / ours, unit="x", low=low,
        high=high, asked=f">= {bound}" + (f", interval from {lowest}" if lowest else ""),
        met=bool(theirs / ours >= bound and low >= lowest), peers={"mined": ours, "random": theirs},
    )  # fmt: skip


def _needed(seeds: list[tuple[Curve, Curve]], arm: int, chosen: npt.NDArray[np.int64]) -> float:
    """Labels at which the mean recall of the chosen seeds reaches the target, interpolated linearly between rounds.

    A curve that never reaches the target counts with its last round; the true number is larger.
    """
    picked = [seeds[seed][arm] for seed in chosen]
    steps = min(len(curve) for curve in picked)
    labels = np.mean([[point[0] for point in curve[:steps]] for curve in picked], axis=0)
    recall = np.maximum.accumulate(np.mean([[point[1] for point in curve[:steps]] for curve in picked], axis=0))
    if recall[-1] < TARGET:
        return float(labels[-1])
    after = int(np.argmax(recall >= TARGET))
    if after == 0:
        return float(labels[0])
    part = (TARGET - recall[after - 1]) / (recall[after] - recall[after - 1])
    return float(labels[after - 1] + part * (labels[after] - labels[after - 1]))


def _at(curve: Curve, labels: int) -> tuple[int, float, float, float]:
    return next(point for point in curve if point[0] == labels)


def _bootstrap(values: Floats) -> tuple[float, float]:
    """The 95% interval of the mean, by resampling seeds."""
    draws = np.random.default_rng(0).integers(0, len(values), (10_000, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    main()
