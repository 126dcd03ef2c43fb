"""Whether tasks that stop by themselves do better than one common stop: planted families of tasks of any size."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from scipy import stats

from benchmarks.max_t import max_t
from benchmarks.table import Row, small
from curation import Catalog, Task
from curation.arrays import Floats
from curation.catalog.event_tables import LABELS
from curation.images import embeddings
from curation.images.decoding import ImageFacts, inspect
from samplers import Plan, Policy, make_pack, make_plan
from training.loop.drawing import Drawing
from training.loop.validation import Validation
from training.recipe import Recipe

__all__ = ["data_rows", "make_catalog", "one_image_samples", "planned", "stopping_rows", "words"]

SEEDS = int(os.environ.get("SEEDS", "2" if small() else "12"))
FIRST_SEED = int(os.environ.get("FIRST_SEED", "0"))
SIZES = np.geomspace(60, 1_500, 12).round().astype(int).tolist()
WIDTH, FAMILIES, CLASSES = 48, 3, 4
HELD_OUT = 1_200
STEPS = int(os.environ.get("STEPS", "600" if small() else "1500"))
POINTS = 30
"""Evaluations of a run, of both arms."""


@dataclass(frozen=True, kw_only=True)
class Arms:
    """The test loss of each task [T] over the best constant's: with states, and without them in three ways."""

    states: Floats
    common: Floats
    """At the step with the smallest mean validation loss."""
    own: Floats
    """Each task at its own such step: a snapshot for every task."""
    last: Floats


def make_catalog(folder: Path, seed: int, sizes: Sequence[int] = tuple(SIZES), image: Path | None = None) -> Catalog:
    """Images whose vectors decide a task for each of `sizes`, its number of labels, by three unrelated functions."""
    generator = np.random.default_rng(seed)
    catalog = Catalog.create(folder / "home")
    path = image or folder / "one.png"
    if image is None:
        Image.fromarray(generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)
    fact, first = inspect(path), max(sizes)
    count = first + 2 * HELD_OUT
    keys = [f"made/{number:05d}" for number in range(count)]
    vectors = generator.normal(size=(count, WIDTH)).astype(np.float32)
    tasks = [
        Task(name=f"t{number:02d}", kind="categorical", classes=tuple("abcd"), owner="o")
        for number in range(len(sizes))
    ]
    rows, maps = [], [generator.normal(size=(WIDTH, 12)) / WIDTH**0.5 for _ in range(FAMILIES)]
    for number, (task, size) in enumerate(zip(tasks, sizes, strict=True)):
        seen = np.tanh(1.5 * vectors @ maps[number % FAMILIES])
        logits = seen @ generator.normal(size=(12, CLASSES)) + generator.gumbel(size=(count, CLASSES)) * 0.5
        codes = logits.argmax(axis=1)
        train = generator.permutation(first)[:size]
        for row in [*train.tolist(), *range(first, count)]:
            rows.append({"key": keys[row], "task": task.name, "state": "known", "text": task.classes[codes[row]],
                         "annotator": "made"})  # fmt: skip
    splits = ["train"] * first + ["validation"] * HELD_OUT + ["test"] * HELD_OUT
    with catalog.commit(author="o", message="made", batch="made") as change:
        change.add_tasks(tasks)
        change.add_samples(one_image_samples(keys, path, fact), dataset="made")
        change.add_attributes(pa.table({"key": keys, "group": keys, "split": splits}))
        change.add_labels(pa.Table.from_pylist(rows, LABELS), source="import")
    packed = make_pack(catalog).keys.to_pylist()
    with embeddings.writing(catalog.home, Recipe.parse(words(seed)).embeddings, packed, [("made", WIDTH)]) as written:
        written[:] = vectors[[int(key.split("/")[1]) for key in packed]].astype(np.float16)
    return catalog


def one_image_samples(keys: Sequence[str], path: Path, fact: ImageFacts) -> pa.Table:
    """Samples of these keys that all show one image."""
    n = len(keys)
    return pa.table(
        {
            "key": keys, "location": [str(path)] * n, "sha256": [fact.sha256] * n,
            "phash": pa.array([fact.phash] * n, pa.uint64()), "format": [fact.format] * n,
            "width": pa.array([fact.width] * n, pa.int32()), "height": pa.array([fact.height] * n, pa.int32()),
            "bytes": pa.array([fact.size] * n, pa.int64()),
        }
    )  # fmt: skip


def words(seed: int, **changed: object) -> dict[str, object]:
    """The recipe of both arms."""
    return {
        "heads": "drawn", "size": (32, 32), "tree": "shared", "hidden": 128, "global_batch": 64, "seed": seed,
        "learning_rate": 3e-3, "schedule": "constant", "weight_decay": 0.01, "threads": 1, **changed,
    }  # fmt: skip


def planned(catalog: Catalog, steps: int = STEPS) -> Plan:
    """Even shares, natural rules."""
    with catalog.read() as now:
        policy = Policy.even(now.tasks().values(), rule="natural")
    return make_plan(catalog, policy, make_pack(catalog), draws=64 * steps)


def run_arms(catalog: Catalog, plan: Plan, chosen: dict[str, object], folder: Path) -> Arms:
    """Both arms of one seed, with the recipe of these words."""
    validation, test = (Validation.of(catalog, plan, split) for split in ("validation", "test"))

    def means(of: Validation, drawing: Drawing) -> Floats:
        losses = of.losses(drawing.learner, drawing.inputs)
        return np.array([of.mean(losses[:, t], t)[0] for t in range(len(plan.tasks))])

    plain = Drawing(Recipe.parse(chosen), plan, catalog, folder / "plain")
    found: list[tuple[Floats, Floats]] = []
    plain.run(lambda done, total, loss: found.append((means(validation, plain), means(test, plain))))
    held, tested = (np.array(part) for part in zip(*found, strict=True))
    rules = {"every": len(plan.draws) // 64 // POINTS, "patience": 3}
    stopped = Drawing(Recipe.parse({**chosen, "stopping": rules}), plan, catalog, folder / "states")
    stopped.run()
    return Arms(
        states=means(test, stopped), common=tested[held.mean(axis=1).argmin()],
        own=tested[held.argmin(axis=0), np.arange(len(plan.tasks))], last=tested[-1],
    )  # fmt: skip


def stopping_rows(folder: Path) -> list[Row]:
    """The rows of planted tasks."""

    def one(seed: int) -> tuple[Arms, list[str]]:
        (folder / str(seed)).mkdir()
        catalog = make_catalog(folder / str(seed), seed)
        plan = planned(catalog)
        return run_arms(catalog, plan, words(seed), folder / str(seed)), [task.name for task in plan.tasks]

    arms, _ = _of_seeds("planted", one)
    each = np.array([arm.states - arm.common for arm in arms])
    differences, gain = each.mean(axis=1), np.array([(arm.common - arm.own).mean() for arm in arms])
    worst, part = float(each.mean(axis=0).max()), float(-differences.mean() / gain.mean())
    what = f"{len(SIZES)} planted tasks, {len(arms)} seeds"
    return [
        _mean_row(what, arms),
        Row(what=f"{what}: the task that loses most by states", value=worst, asked="<= 0.02", met=worst <= 0.02),
        Row(what=f"{what}: part of the gain of a snapshot per task", value=part, asked=">= 0.5", met=part >= 0.5),
    ]  # fmt: skip


def data_rows(name: str, make: Callable[[int], tuple[Catalog, Plan, dict[str, object]]], folder: Path) -> list[Row]:
    """The rows of a data set, of which `make` gives catalog, plan and words of the recipe for a seed."""

    def one(seed: int) -> tuple[Arms, list[str]]:
        catalog, plan, chosen = make(seed)
        return run_arms(catalog, plan, chosen, folder / str(seed)), [task.name for task in plan.tasks]

    arms, tasks = _of_seeds(name, one)
    each = np.array([arm.states - arm.common for arm in arms])
    worst = tasks[int(each.mean(axis=0).argmax())]
    chance = max_t(each)
    peers = {task: float(value) for task, value in zip(tasks, each.mean(axis=0), strict=True)}
    return [
        _mean_row(f"{name}, {len(arms)} seeds", arms),
        Row(what=f"{name}: chance of so large a loss of any task by states (max-T; worst: {worst})", value=chance,
            asked="> 0.05", met=chance > 0.05, peers=peers),
    ]  # fmt: skip


def _of_seeds(name: str, one: Callable[[int], tuple[Arms, list[str]]]) -> tuple[list[Arms], list[str]]:
    """The arms of each seed, which are printed as they come, and the names of the tasks."""
    arms, tasks = [], list[str]()
    for seed in range(FIRST_SEED, FIRST_SEED + SEEDS):
        found, tasks = one(seed)
        arms.append(found)
        means = ", ".join(f"{arm} {getattr(found, arm).mean():.4f}" for arm in ("states", "common", "own", "last"))
        apart = ", ".join(f"{t} {d:+.4f}" for t, d in zip(tasks, found.states - found.common, strict=True))
        sys.stderr.write(f"stopping, {name}, seed {seed}: {means}; states minus common: {apart}\n")
        sys.stderr.flush()
    return arms, tasks


def _mean_row(what: str, arms: Sequence[Arms]) -> Row:
    """States minus the best common stop, in the mean over tasks, with its one-sided bounds over seeds."""
    differences = np.array([(arm.states - arm.common).mean() for arm in arms])
    error = differences.std(ddof=1) / len(arms) ** 0.5
    low, high = (float(differences.mean() + stats.t.ppf(point, len(arms) - 1) * error) for point in (0.05, 0.95))
    peers = {name: float(np.mean([getattr(arm, name) for arm in arms])) for name in ("states", "common", "own", "last")}
    return Row(
        what=f"{what}: test loss with states minus the best common stop (one-sided 95%)", peers=peers,
        value=float(differences.mean()), low=low, high=high, asked="mean and bound < 0",
        met=bool(differences.mean() < 0 and high < 0),
    )  # fmt: skip
