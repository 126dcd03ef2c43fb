"""`make bench-heads`: what heads learn from frozen features, beside scikit-learn, alone and on a shared layer.

By default on `traffic_lights` and on the frozen trunk of `streets`; `DATA=FOLDER` takes any declared data set whose
labels are known. Every arm gets the same vectors, labels and weights (balanced over classes). Differences are in points
of a hundred (balanced accuracy, or the mean absolute error over that of the best constant) and are paired by seed. The
rules (ridge, checkpoints, comparison by held-out score) were chosen on seeds 0 to 2 of the playing cards and of the
traffic lights, and the ridge on seeds 100 to 105 of cinta crops too; seeds from 10 on judge, and streets chose nothing.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats

from benchmarks.heads_data import DATASETS, AllLabels, class_points, declared, number_points, score, streets
from benchmarks.table import Row, finish, small
from curation.catalog.tasks import Task
from samplers.plan.build import draft_plan
from samplers.plan.plan import PlanTask
from samplers.policy.policy import Policy
from training.loop.exact_heads import ExactHead, Start, exact_head
from training.loop.shared_layer import SharedLayer, table_of, train_shared
from training.loop.solved_heads import solve_heads
from training.loop.task_labels import TaskLabels, groups_of, task_labels
from training.network.losses import Layout
from training.recipe import Recipe

Floats = npt.NDArray[np.float64]

DATA = os.environ.get("DATA", "")
SEEDS = int(os.environ.get("SEEDS", "1" if small() else "5"))
FIRST_SEED = int(os.environ.get("FIRST_SEED", "10"))
FRACTIONS = tuple(map(float, os.environ.get("FRACTIONS", ".12" if small() else ".02,.05,.12,.25,.5").split(",")))
MIDDLE = 0.12
"""Part of the labels at which scikit-learn and the shared layer are compared."""
TASKS, CLASSES, WIDTH, LABELS = (3 if small() else 50), 20, 2_648, 400
IMAGES, DRAWS = (600, 2_000) if small() else (8_000, 48_000)
THREADS = int(os.environ.get("THREADS", "2"))
PEER = Path(".venv-heads-peers/bin/python")


def main() -> None:
    """Every comparison on every data set, then the speed and the bits."""
    torch.set_num_threads(THREADS)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-heads-") as name:
        folder = Path(name)
        for data in data_sets(folder):
            rows += compare(data, folder)
            if len(data.tasks) > 1:
                rows.append(bits_row(data))
    if not DATA:
        rows += speed_rows()
    finish("heads", rows, seeds=SEEDS, first_seed=FIRST_SEED, threads=THREADS)


def data_sets(folder: Path) -> list[AllLabels]:
    """The data sets of this call, embedded."""
    if DATA:
        return [declared(Path(DATA), folder / "data")]
    return [declared(DATASETS / "traffic_lights", folder / "lights"), streets(folder / "streets", IMAGES, DRAWS)]


@dataclass(frozen=True, kw_only=True)
class Points:
    """Points of each arm for one task, known part and seed."""

    exact: float
    chosen: float
    shared: float = np.nan
    alone: float = np.nan
    peer: float = np.nan
    seconds: float = 0.0
    peer_seconds: float = np.nan


def compare(data: AllLabels, folder: Path) -> list[Row]:
    """Rows of one data set."""
    found: dict[tuple[float, str], list[Points]] = {}
    for fraction in FRACTIONS:
        for seed in range(FIRST_SEED, FIRST_SEED + SEEDS):
            for task, points in one(data, fraction, seed, folder).items():
                found.setdefault((fraction, task), []).append(points)
                note = {"data": data.name, "known": fraction, "seed": seed, "task": task, **asdict(points)}
                sys.stderr.write(json.dumps(note) + "\n")
                sys.stderr.flush()
    rows = []
    if MIDDLE in FRACTIONS:
        middle = {task: points for (fraction, task), points in found.items() if fraction == MIDDLE}
        rows += peer_rows(data.name, middle)
        rows += shared_rows(data.name, middle) if len(data.tasks) > 1 else []
    return rows + (choice_rows(data.name, found) if len(data.tasks) > 1 else [])


def one(data: AllLabels, fraction: float, seed: int, folder: Path) -> dict[str, Points]:
    """The points of every arm, by task."""
    labels = data.known(fraction, seed)
    recipe = Recipe(heads="exact", seed=seed, threads=THREADS)
    several, middle = len(labels) > 1, fraction == MIDDLE
    started = time.monotonic()
    exact = solve_heads(recipe, labels, data.features) if middle or not several else None
    seconds = (time.monotonic() - started) / len(labels)
    chosen = solve_heads(replace(recipe, heads="auto"), labels, data.features) if several else exact
    layer = last_layer(recipe, labels, data.features) if several else None
    points = {}
    for code, part in enumerate(labels):
        alone = last_layer(recipe, [part], data.features) if several and middle else None
        peer, took = ask_peer(data, part, folder) if middle else (np.nan, np.nan)
        own = partial(head_points, data, part, chosen.exact[part.task.name])
        points[part.task.name] = Points(
            exact=own(), seconds=seconds, peer=peer, peer_seconds=took,
            chosen=layer_points(data, labels, code, chosen.shared[part.task.name])
            if part.task.name in chosen.shared else own(),
            shared=layer_points(data, labels, code, layer) if layer else np.nan,
            alone=layer_points(data, [part], 0, alone) if alone else np.nan,
        )  # fmt: skip
    return points


def last_layer(recipe: Recipe, labels: Sequence[TaskLabels], features: torch.Tensor) -> SharedLayer:
    """A shared layer for these tasks after all its epochs."""
    table = table_of(labels)
    own = features[torch.from_numpy(table.rows)]
    return train_shared(recipe, [part.task for part in labels], table, own)[-1]


def head_points(data: AllLabels, part: TaskLabels, head: ExactHead) -> float:
    """Points on test of an exact head."""
    rows, truth = data.test(part.task.name)
    seen = data.features[torch.from_numpy(rows)].double()
    return score(part, (seen @ head.weights.T + head.biases).numpy(), truth)


def layer_points(data: AllLabels, labels: Sequence[TaskLabels], code: int, layer: SharedLayer) -> float:
    """Points on test of one task's head on a shared layer."""
    part = labels[code]
    rows, truth = data.test(part.task.name)
    columns = Layout([other.task for other in labels]).columns[code]
    return score(part, layer.outputs(data.features[torch.from_numpy(rows)])[:, columns].double().numpy(), truth)


def ask_peer(data: AllLabels, part: TaskLabels, folder: Path) -> tuple[float, float]:
    """scikit-learn's points and seconds on the same vectors; NaN without its environment, or where it refuses."""
    if not PEER.exists():
        return np.nan, np.nan
    rows, truth = data.test(part.task.name)
    given, out = folder / "given.npz", folder / "out.npz"
    np.savez(
        given, features=data.features[torch.from_numpy(part.rows)].double().numpy(), targets=part.values,
        weights=part.weights, groups=part.groups, numeric=part.numeric,
        test=data.features[torch.from_numpy(rows)].double().numpy(),
    )  # fmt: skip
    threads = {name: str(THREADS) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    done = subprocess.run(
        [PEER, "benchmarks/heads_peers.py"], input=f"{given} {out}\n", text=True, check=True, stdout=subprocess.PIPE,
        env={**os.environ, **threads},
    )  # fmt: skip
    if done.stdout.startswith("refused"):
        return np.nan, np.nan
    answer: Mapping[str, Any] = np.load(out)
    predicted = answer["predicted"]
    if part.numeric:
        return number_points(predicted * part.task.deviation + part.task.mean, truth), float(answer["seconds"])
    return class_points(predicted.astype(np.int64), truth), float(answer["seconds"])


def peer_rows(name: str, found: Mapping[str, Sequence[Points]]) -> list[Row]:
    """Exact heads beside scikit-learn's best C: points, and seconds of the whole path.

    Only where scikit-learn answers; a task that it never answers is not met.
    """
    rows, answered = [], {task: [p for p in points if np.isfinite(p.peer)] for task, points in found.items()}
    for task, points in answered.items():
        value, low, high = mean_of([point.exact - point.peer for point in points])
        rows.append(
            Row(what=f"{name} {task}, {MIDDLE:.0%} known: exact minus scikit-learn", value=value, unit=" points",
                low=low, high=high, asked=">= -1", met=value >= -1, peers=means(points, "exact", "peer"))
        )  # fmt: skip
    every = [point for points in answered.values() for point in points]
    seconds, theirs = (sum(getattr(point, field) for point in every) for field in ("seconds", "peer_seconds"))
    took = {"ours": seconds, "scikit-learn": theirs}
    what = f"{name}: seconds of the path, over scikit-learn's"
    return [
        *rows,
        Row(
            what=what,
            value=seconds / theirs if theirs else np.nan,
            unit="x",
            asked="<= 1",
            met=seconds < theirs,
            peers=took,
        ),
    ]


def shared_rows(name: str, found: Mapping[str, Sequence[Points]]) -> list[Row]:
    """The shared layer beside the better of exact heads and the same layer for each task alone."""
    rows = []
    for task, points in found.items():
        better = "exact" if np.mean([p.exact for p in points]) >= np.mean([p.alone for p in points]) else "alone"
        value, low, high = mean_of([p.shared - getattr(p, better) for p in points])
        first = task == "card"
        rows.append(
            Row(what=f"{name} {task}, {MIDDLE:.0%} known: shared layer minus the better of exact and alone",
                value=value, unit=" points", low=low, high=high, asked=">= 4, low > 0" if first else "high >= 0",
                met=value >= 4 and low > 0 if first else high >= 0, peers=means(points, "shared", "exact", "alone"))
        )  # fmt: skip
    return rows


def choice_rows(name: str, found: Mapping[tuple[float, str], Sequence[Points]]) -> list[Row]:
    """The choice beside the better of the two kinds, at each known part; and where the shared layer begins to win."""
    rows, crossing = [], np.nan
    for fraction in FRACTIONS:
        tasks = {task: points for (part, task), points in found.items() if part == fraction}
        mean = {arm: np.mean([getattr(p, arm) for points in tasks.values() for p in points]) for arm in POINTS}
        regrets = {
            task: float(max(np.mean([p.exact for p in points]), np.mean([p.shared for p in points]))
                        - np.mean([p.chosen for p in points]))
            for task, points in tasks.items()
        }  # fmt: skip
        regret = float(max(mean["exact"], mean["shared"]) - mean["chosen"])
        if np.isnan(crossing) and mean["shared"] > mean["exact"]:
            crossing = fraction
        rows.append(
            Row(what=f"{name}, {fraction:.0%} known: the choice, behind the better of exact and shared", value=regret,
                unit=" points", asked="<= 1", met=regret <= 1,
                peers={arm: float(value) for arm, value in mean.items()} | regrets)
        )  # fmt: skip
    if np.isnan(crossing):
        return [*rows, Row(what=f"{name}: known parts at which the shared layer wins in the mean", value=0)]
    what = f"{name}: known part from which the shared layer wins in the mean"
    return [*rows, Row(what=what, value=100 * crossing, unit=" %", asked="printed")]


POINTS = ("exact", "shared", "chosen")


def bits_row(data: AllLabels) -> Row:
    """Bits of one task's head that move when another task's share, importance and rule change: through real plans."""
    with data.catalog.read() as now:
        plain = Policy.for_labelled(now)
    first, other = sorted(plain.task, key=lambda task: data.tasks[task].outputs)[:2]
    changed = plain.model_dump()
    count = len(plain.task)
    for task, asked in changed["task"].items():
        asked["share"] = 0.5 if task == other else 0.5 / (count - 1)
        asked["importance"] = 0.7 if task == other else 0.3 / (count - 1)
    changed["task"][other]["rule"] = "natural"
    heads = []
    for policy in (plain, Policy.model_validate(changed)):
        plan = draft_plan(data.catalog, policy, data.pack, draws=6_400).save()
        with data.catalog.read(plan.commit) as then:
            part = next(p for p in task_labels(plan, groups_of(then, plan)) if p.task.name == first)
            keys = {key: row for row, key in enumerate(then.samples()["key"].to_pylist())}
        rows = torch.tensor([keys[key] for key in plan.keys.take(part.rows.tolist()).to_pylist()])
        heads.append(exact_head(part, data.features[rows].double()))
    moved = int((heads[0].weights != heads[1].weights).sum() + (heads[0].biases != heads[1].biases).sum())
    return Row(
        what=f"{data.name}: numbers of head {first} that another task moves", value=moved, asked="0", met=not moved
    )


def speed_rows() -> list[Row]:
    """Many tasks on wide features: the whole path from nothing, then one round more."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(CLASSES, WIDTH)) * 0.002
    cold, warm, starts = 0.0, 0.0, list[Start]()
    asked = []
    for number in range(TASKS):
        codes = generator.integers(0, CLASSES, LABELS + LABELS // 10)
        features = torch.from_numpy(centres[codes] + generator.normal(size=(len(codes), WIDTH)) / WIDTH**0.5)
        asked.append((speed_labels(number, codes[:LABELS]), speed_labels(number, codes), features))
    for before, _, features in asked:
        started = time.monotonic()
        head = exact_head(before, features[:LABELS])
        cold += time.monotonic() - started
        starts.append(Start(weights=head.weights, biases=head.biases, record=head.record))
    for (_, after, features), start in zip(asked, starts, strict=True):
        started = time.monotonic()
        exact_head(after, features, start=start)
        warm += time.monotonic() - started
    what = f"{TASKS} tasks of {CLASSES} classes on {WIDTH:,} features, {LABELS} labels each"
    scale = TASKS / 50
    return [
        Row(what=f"{what}, from nothing", value=cold, unit=" s", asked=f"<= {60 * scale:.0f}", met=cold <= 60 * scale),
        Row(
            what=f"{what}, one round more", value=warm, unit=" s", asked=f"<= {15 * scale:.1f}", met=warm <= 15 * scale
        ),
    ]


def speed_labels(number: int, codes: npt.NDArray[np.int64]) -> TaskLabels:
    """A balanced task with these labels."""
    task = Task.model_validate(
        {
            "name": f"task{number}",
            "kind": "categorical",
            "classes": [f"c{code}" for code in range(CLASSES)],
            "owner": "o",
        }
    )
    planned = PlanTask(
        task=task, owner="o", share=1, importance=1 / TASKS, rule="balanced", constant_loss=float(np.log(CLASSES)),
        mean=0.0, deviation=1.0, labelled=(), class_factor=None, strata=(),
    )  # fmt: skip
    weights = 1 / (len(np.unique(codes)) * np.bincount(codes, minlength=CLASSES)[codes])
    rows = np.arange(len(codes))
    return TaskLabels(task=planned, rows=rows, values=codes.astype(float), weights=weights, names=rows.astype(str))


def means(points: Sequence[Points], *arms: str) -> dict[str, float]:
    """The mean of each arm over the seeds; NaN without a seed."""
    return {arm: float(np.mean([getattr(point, arm) for point in points])) if points else np.nan for arm in arms}


def mean_of(differences: Sequence[float]) -> tuple[float, float, float]:
    """Mean with its 95% interval over seeds (t); without width where there is one seed, NaN where there is none."""
    values = np.asarray(differences)
    if not len(values):
        return np.nan, np.nan, np.nan
    error = float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
    reach = float(stats.t.ppf(0.975, max(1, len(values) - 1))) * error
    return float(values.mean()), float(values.mean()) - reach, float(values.mean()) + reach


if __name__ == "__main__":
    main()
