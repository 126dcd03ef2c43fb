"""What few labels of test decide, beside uniform ones: where two runs disagree, and where one run is unsure.

The pools are the test images of `streets` of a finished `make demo` (DEMO=FOLDER, default demo-out), with its parent
and child run, and planted runs of the same rates beside them.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.table import Row, small
from curation.catalog.catalog import Catalog
from curation.files.read_back import read_parquet
from curation.requests.evaluation_labels import drawn, propensities
from training.evaluation.drawn_labels import Batch
from training.evaluation.predictions import Samples, known_labels, predictions_of
from training.judging import estimated_error
from training.judging.disagreement import PairedImages, difference_where_labelled, gains
from training.judging.estimated_error import PoolPredictions

__all__ = ["difference_rows", "error_rows"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DEMO = Path(os.environ.get("DEMO", "demo-out"))
LOOPS = int(os.environ.get("LOOPS", "300" if small() else "1000"))
FIRST = int(os.environ.get("FIRST_SEED", "1000"))
BOUGHT = 50
TASKS = ("pedestrian", "bicycle", "light_color", "car")
Z = 1.959963984540054
PLANTED = {"pedestrian": (0.09, 2), "bicycle": (0.053, 2), "light_color": (0.032, 4), "car": (0.016, 2)}
"""Share of images on which the demo's runs disagreed when the rules were chosen, and number of classes."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Test images of one task: groups and true classes [P], and two runs' predictions."""

    groups: Ints
    truth: Floats
    pair: PairedImages


def difference_rows() -> list[Row]:
    """Labels for an equally wide interval of a run difference, and how often the interval covers."""
    rows = []
    for where, name, pool in _pools():
        value, truth = gains(pool.pair, pool.truth), pool.truth
        share, true, images = float(pool.pair.differs.mean()), float(value.mean()), len(truth)
        count = min(BOUGHT, int(pool.pair.differs.sum()))
        differs = np.flatnonzero(pool.pair.differs)
        chance = propensities(pool.pair.sizes()[differs], count)
        found = np.array([_difference(pool, differs, chance, drawn(chance, [FIRST, seed])) for seed in range(LOOPS)])
        uniform = 2 * Z * float(value.std(ddof=1)) * ((1 - count / images) / count) ** 0.5
        fewer = uniform**2 / float((found[:, 1] - found[:, 0]).mean() ** 2)
        covered = float(((found[:, 0] <= true) & (true <= found[:, 1])).mean())
        rows += [
            Row(
                what=f"{where}, {name}: uniform labels that {count} where the runs disagree are worth, each",
                value=fewer, unit="x", asked="at least 10x", met=fewer >= 10,
                peers={"1 / disagreement rate": 1 / share, "images where they disagree": len(differs)},
            ),
            Row(
                what=f"{where}, {name}: coverage", value=100 * covered, unit="%", asked="93-97%",
                met=0.93 <= covered <= 0.97,
            ),
        ]  # fmt: skip
    return rows


def error_rows() -> list[Row]:
    """What labels by predicted error are worth in uniform ones, and how often the interval covers, in every cell."""
    rows = []
    for where, name, pool in _pools(errors=True):
        images, codes = len(pool.truth), pool.pair.run.astype(np.int64)
        chances = pool.pair.run_chances
        run = PoolPredictions(predicted=codes, chances=chances, inside=np.ones(chances.shape, np.bool_))
        wrong = (codes != pool.truth).astype(np.float64)
        for count in (100, 300):
            chance = propensities(run.sizes(np.ones(images)), count)
            found = np.array([_error(pool, run, chance, drawn(chance, [FIRST, seed])) for seed in range(LOOPS)])
            true = float(wrong.mean())
            uniform = true * (1 - true) / count * (1 - count / images)
            worth = uniform / float(((found[:, 0] - true) ** 2).mean())
            covered = float(((found[:, 1] <= true) & (true <= found[:, 2])).mean())
            rows.append(
                Row(
                    what=f"{where}, {name}, {count} labels: worth in uniform labels", value=worth, unit="x",
                    asked="at least 1.3x, coverage at least 92%", met=worth >= 1.3 and covered >= 0.92,
                    peers={
                        "coverage %": 100 * covered, "error %": 100 * true, "shown %": 100 * float(found[:, 3].mean()),
                        "correlation": float(np.corrcoef(wrong, run.expected()[0])[0, 1]),
                    },
                )
            )  # fmt: skip
    return rows


def _difference(pool: Pool, differs: Ints, chance: Floats, rows: Ints) -> tuple[float, float]:
    truth = np.full(len(pool.truth), np.nan)
    truth[differs[rows]] = pool.truth[differs[rows]]
    batch = Batch(opened=1, pool=pool.pair.differs, rows=differs[rows], propensity=chance[rows])
    figure = difference_where_labelled(pool.pair, truth, np.ones(len(truth)), pool.groups, [batch])
    assert figure.low is not None
    assert figure.high is not None
    return figure.low, figure.high


def _error(pool: Pool, run: PoolPredictions, chance: Floats, rows: Ints) -> tuple[float, float, float, bool]:
    """Value, low, high, whatever is refused; and whether it would be shown."""
    truth = np.full(len(pool.truth), np.nan)
    truth[rows] = pool.truth[rows]
    batch = Batch(opened=1, pool=np.ones(len(truth), np.bool_), rows=rows, propensity=chance[rows])
    found = estimated_error.estimated_error(run, truth, np.ones(len(truth)), pool.groups, [batch], fewest=(0, 0))
    value, low, high = found.figure.value, found.figure.low, found.figure.high
    assert value is not None
    assert low is not None
    assert high is not None
    enough = found.errors >= estimated_error.FEWEST_ERRORS and found.figure.groups >= estimated_error.FEWEST_GROUPS
    return value, low, high, enough


def _pools(*, errors: bool = False) -> Iterator[tuple[str, str, Pool]]:
    """The pools of both sources, by source and task; with `errors`, planted ones of larger errors."""
    if (DEMO / "streets" / "catalog.duckdb").is_file():
        yield from (("streets", name, pool) for name, pool in _streets(DEMO / "streets"))
    for place, (name, (share, classes)) in enumerate(PLANTED.items()):
        generator = np.random.default_rng([FIRST, place])
        error = 0.05 + 0.05 * place if errors else 0.05 + share
        yield "planted", name, planted(generator, classes=classes, error=error, share=share)


def _streets(home: Path) -> Iterator[tuple[str, Pool]]:
    """The test images of the demo, whose labels are all known, with its newest run and the run before."""
    with Catalog.open(home).read() as now:
        base, run = now.runs()["run"].to_pylist()[-2:]
        samples, test = Samples.at(now), None
        tables = [read_parquet(now.runs.predictions_file(home, id_), "make demo again") for id_ in (run, base)]
        for name in TASKS:
            task = now.task(name)
            truth = known_labels(now, task, samples)
            test = np.asarray((samples.splits == "test") & np.isfinite(truth), np.bool_)
            sides = [predictions_of(task, samples, table, test) for table in tables]
            rows = sides[0][0]
            pair = PairedImages(run=sides[0][1], base=sides[1][1], run_chances=sides[0][3], base_chances=sides[1][3])
            yield name, Pool(groups=samples.groups[rows], truth=truth[rows], pair=pair)


def planted(
    generator: np.random.Generator, *, classes: int, error: float, share: float, groups: int = 4_000, burst: int = 5
) -> Pool:
    """Two runs that err in bursts, in `error` of the images, and disagree on a `share` of them, where it is hard.

    The predicted error correlates with the errors at about 0.4.
    """
    images = groups * burst
    group = np.repeat(np.arange(groups), burst)
    hard = 0.7 * generator.normal(size=groups)[group] + 0.7 * generator.normal(size=images)
    edge = np.quantile(hard, 1 - error)
    truth = generator.integers(0, classes, images)
    other = (truth + generator.integers(1, classes, images)) % classes
    wrong = hard + 0.5 * generator.normal(size=images) > edge
    run = np.where(wrong, other, truth)
    nearly = np.argsort(-np.abs(hard + generator.normal(size=images)))[: round(share * images)]
    base = run.copy()
    base[nearly] = np.where(wrong[nearly] & (generator.random(len(nearly)) < 0.6), truth[nearly], other[nearly])
    alike = base[nearly] == run[nearly]
    base[nearly[alike]] = (run[nearly[alike]] + 1) % classes
    sides = []
    for code in (run, base):
        logit = 2 * (hard - edge) + 1.5 * generator.normal(size=images)
        doubt = np.clip(1 / (1 + np.exp(-logit)), 0.001, 0.5)
        chances = np.repeat((doubt / (classes - 1))[:, None], classes, axis=1)
        chances[np.arange(images), code] = 1 - doubt
        sides.append(chances)
    pair = PairedImages(run=run * 1.0, base=base * 1.0, run_chances=sides[0], base_chances=sides[1])
    return Pool(groups=group, truth=truth * 1.0, pair=pair)
