"""Prevalence after rounds of mining, and drift between sets that do not differ, simulated."""

import os

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import stats

from benchmarks.table import Row, small
from curation.analysis.missingness import compare
from training.evaluation.drawn_labels import Batch
from training.judging.drift import RATE, Column, ImageSets, feature_columns, tested
from training.judging.prevalence import shares

__all__ = ["drift_rows", "prevalence_rows"]

LOOPS = int(os.environ.get("LOOPS", "200" if small() else "1000"))
PAIRS = int(os.environ.get("PAIRS", "50" if small() else "200"))
FIRST = int(os.environ.get("FIRST_SEED", "1000"))
SETTINGS = {
    "3% of 5,000, 5 rounds of 100": (5_000, 0.03, 5, 100, 0.3, 0),
    "10% of 20,000, 3 rounds of 200": (20_000, 0.1, 3, 200, 0.15, 0),
    "30% of 2,000, 4 rounds of 100": (2_000, 0.3, 4, 100, 0.15, 0),
    "2% of 10,000, 10 rounds of 200": (10_000, 0.02, 10, 200, 0.15, 0),
    "5% of 3,000, 300 known, 2 rounds of 500": (3_000, 0.05, 2, 500, 0.3, 300),
}
"""Images, share of the class, rounds, labels of each, share of the random arm, and labels known before."""

Floats = npt.NDArray[np.float64]


def prevalence_rows() -> list[Row]:
    """How often the interval of a class's share covers it, after rounds that mine the class."""
    rows = []
    for place, (what, setting) in enumerate(SETTINGS.items()):
        found = np.array([_mined(np.random.default_rng([FIRST + loop, place]), *setting) for loop in range(LOOPS)])
        true, low, high = found[:, 0], found[:, 2], found[:, 3]
        covered = float(((low <= true) & (true <= high)).mean())
        rows.append(
            Row(
                what=f"prevalence, {what}: coverage", value=100 * covered, unit="%", asked="93-97%",
                met=0.93 <= covered <= 0.97,
                peers={
                    "true %": 100 * float(true.mean()), "estimated %": 100 * float(found[:, 1].mean()),
                    "all labels pooled %": 100 * float(found[:, 4].mean()),
                    "width, points": 100 * float((high - low).mean()),
                },
            )
        )  # fmt: skip
    return rows


def drift_rows() -> list[Row]:
    """How often something is found between sets of groups that do not differ, and between sets that do."""
    rows = []
    for first, second in ((100, 100), (300, 30), (20, 20)):
        ours, score = [], []
        for pair in range(PAIRS):
            columns, sets, values = _sets(np.random.default_rng([FIRST + pair, first, second]), first, second)
            ours.append(any(row.q <= RATE for row in tested(columns, pair)))
            groups = pa.chunked_array([[str(code) for code in sets.groups.tolist()]])
            score.append(any(row.q <= RATE for row in compare({"second": sets.second}, values, groups)))
        share = float(np.mean(ours))
        rows.append(
            Row(
                what=f"drift on null data, {first} and {second} groups, {len(columns)} values: something found",
                value=100 * share, unit="%", **_ends(sum(ours), PAIRS), asked="at most 10%", met=share <= 0.1,
                peers={"score test over groups": 100 * float(np.mean(score))},
            )
        )  # fmt: skip
    shown = []
    for pair in range(PAIRS):
        columns, _, _ = _sets(np.random.default_rng([FIRST + pair, 1]), 100, 60, 0.25)
        shown.append(any(row.q <= RATE and row.name == "weather" for row in tested(columns, pair)))
    what = "drift: rain from 20% to 45% of 100 and 60 groups is found"
    rows.append(Row(what=what, value=100 * float(np.mean(shown)), unit="%", **_ends(sum(shown), PAIRS)))
    return rows


def _mined(
    generator: np.random.Generator, images: int, rate: float, rounds: int, budget: int, random: float, known: int
) -> tuple[float, float, float, float, float]:
    """True share, estimate, low, high, and the share among all labels, after rounds that mine the likeliest images."""
    truth = generator.random(images) < rate
    score, taken = 2 * truth + generator.normal(size=images), np.zeros(images, np.bool_)
    taken[generator.choice(images, known, replace=False)] = True
    batches, every, drawn = list[Batch](), np.ones(images, np.bool_), round(budget * random)
    for opened in range(1, rounds + 1):
        open_ = np.flatnonzero(~taken)
        rows = generator.choice(open_, drawn, replace=False)
        taken[rows] = True
        rest = np.flatnonzero(~taken)
        mined = rest[np.argsort(-score[rest])[: budget - drawn]]
        taken[mined] = True
        chance = np.full(drawn, drawn / len(open_))
        batches += [
            Batch(opened=opened, pool=every, rows=rows, propensity=chance),
            Batch(opened=opened, pool=None, rows=mined, propensity=np.ones(len(mined))),
        ]
    rows = np.flatnonzero(taken)
    value, low, high = shares(truth[rows][:, None], rows, images, batches)[0]
    return float(truth.mean()), value, low, high, float(truth[rows].mean())


def _sets(
    generator: np.random.Generator, first: int, second: int, more_rain: float = 0.0
) -> tuple[list[Column], ImageSets, dict[str, pa.ChunkedArray]]:
    """Two sets of bursts of uneven length: attributes of bursts and of images, predictions, and features in bursts."""
    count = first + second
    groups = np.repeat(np.arange(count), generator.geometric(0.2, count))
    inside = np.isin(groups, generator.choice(count, second, replace=False))
    images = len(groups)
    draw = generator.random(count)[groups]
    rain = 0.2 + more_rain * inside
    values = {
        "weather": np.select([draw < rain, draw < rain + 0.1], ["rain", "fog"], "clear"),
        "time of day": np.array(["day", "dusk", "night"])[generator.choice(3, count, p=[0.6, 0.1, 0.3])[groups]],
        "camera": np.array([f"camera {code}" for code in range(6)])[generator.choice(6, count)[groups]],
        "blurred": (generator.random(images) < 0.1).astype(str),
    }
    for task in range(6):
        hard = generator.normal(size=count)[groups]
        code = (hard + generator.normal(size=images) > 0.8).astype(np.int64) + (hard > 1.6)
        values[f"task {task}"] = np.array(["none", "one", "many"])[code]
    columns: dict[str, pa.ChunkedArray] = {name: pa.chunked_array([part.tolist()]) for name, part in values.items()}
    numbers = {f"confidence {task}": generator.beta(5, 1, count)[groups] for task in range(6)}
    numbers |= {"speed": 20 + 8 * generator.gamma(3, 1, count)[groups] + generator.normal(size=images)}
    columns |= {name: pa.chunked_array([part]) for name, part in numbers.items()}
    sets = ImageSets(
        ids=np.arange(images), keys=pa.array([f"k{row}" for row in range(images)]), groups=groups, second=inside
    )
    made = [column for name, value in columns.items() for column in Column.of("attribute", name, value, sets)]
    features = generator.normal(size=(count, 16))[groups] + 0.5 * generator.normal(size=(images, 16))
    made += feature_columns(features.astype(np.float32), sets, np.random.default_rng(0))
    return made, sets, columns


def _ends(found: int, runs: int) -> dict[str, float]:
    """The 95% interval of a share of runs, in percent (Clopper & Pearson 1934)."""
    interval = stats.binomtest(found, runs).proportion_ci()
    return {"low": 100 * float(interval.low), "high": 100 * float(interval.high)}
