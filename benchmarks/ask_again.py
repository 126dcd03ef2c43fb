"""What asking again for doubted labels does to a network that is drawn, where no label was wrong.

Scenes of `streets` without bicycles (8% of their labels are wrong); 8 x 8 pixels; all tasks share one layer, which
learns from draws. The labels that held-out heads doubt most are asked again and answered by a person who errs in 5% and
cannot tell in 10%, so what is trained changes. Both runs of a pair have the seed of their workspace in common. Beside
it: the same answers as before, and a training with another seed.
"""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats

from amber.doubts import Doubting, doubted, rows_to_ask
from benchmarks.ask_triggers import JUMP, write_pixel_features
from benchmarks.max_t import max_t
from benchmarks.streets import DATASET
from benchmarks.table import Row, small
from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import LABELS, REQUESTS
from curation.ingestion.dataset import Dataset
from curation.ingestion.ingest import ingest
from curation.requests import oracle
from curation.requests.proposals import Proposal, propose
from samplers.pack.pack_writer import make_pack
from samplers.plan.build import make_plan
from samplers.policy.policy import Policy
from training import Run
from training.evaluation.evaluation import evaluate
from training.judging.comparison import ComparedFigure, compare_slices, measures_of
from training.judging.paired_runs import PairedRuns
from training.loop.trainer import train
from training.recipe import Recipe

__all__ = ["again_rows"]

SEEDS = int(os.environ.get("RUNS", "1" if small() else "6"))
FIRST = int(os.environ.get("FIRST_SEED", "3000"))
IMAGES = 1_000 if small() else 2_000
ASKED, DRAWS, UNITS = 300, 32_000, 64
ERRS, UNSURE = 0.05, 0.1
AUTHOR = "bench"
CLEAN: Final = ("car", "pedestrian", "stop_sign", "light_present", "light_color", "speed")

Answers = Literal["as they were", "by a person", "none"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """How many labels were asked again and how many of these changed, and what differs between two runs on test."""

    asked: int
    changed: int
    figures: list[ComparedFigure]

    @property
    def shown(self) -> int:
        """How many figures differ beyond chance, at 5% for all of them."""
        return sum(part.verdict in ("better", "worse") for part in self.figures)

    @property
    def points(self) -> dict[str, float]:
        """The difference of each task of classes, in points of a hundred."""
        return {part.task: 100 * (part.difference or 0.0) for part in self.figures if part.unit == "points"}


def again_rows() -> list[Row]:
    """How many figures differ after doubted labels were asked again, and their mean difference."""
    pairs = dict[Answers, list[Pair]]()
    for seed in range(FIRST, FIRST + SEEDS):
        with tempfile.TemporaryDirectory(prefix="bench-ask-") as name:
            for answers, pair in _pairs(Path(name), seed).items():
                pairs.setdefault(answers, []).append(pair)
    asked, same, other = pairs["by a person"], pairs["as they were"], pairs["none"]
    labels, changed = sum(part.asked for part in asked), sum(part.changed for part in asked)
    count = sum(len(part.figures) for part in asked)
    shown = sum(part.shown for part in asked)
    differences = np.array([list(part.points.values()) for part in asked])
    by_seed, noise = differences.mean(axis=1), np.array([np.mean(list(part.points.values())) for part in other])
    half = float(stats.t.ppf(0.975, max(1, SEEDS - 1)) * by_seed.std(ddof=min(1, SEEDS - 1)) / SEEDS**0.5)
    middle = float(by_seed.mean())
    return [
        Row(
            what=f"{labels} doubted clean labels asked again, {changed} changed: figures that differ, of {count}",
            value=float(shown), asked="none: within noise of zero", met=not shown,
            peers={
                "answered as they were": float(sum(part.shown for part in same)),
                "another seed": float(sum(part.shown for part in other)),
                "largest difference, points": _largest(asked), "as they were: largest": _largest(same),
                "another seed: largest": _largest(other),
            },
        ),
        Row(
            what=f"mean over tasks of the difference, points, {SEEDS} seeds", value=middle, low=middle - half,
            high=middle + half, asked="the interval holds 0", met=SEEDS < 2 or abs(middle) <= half,
            peers={
                "another seed": float(noise.mean()), "p that a task is better (max-T)": max_t(differences),
                "p that one is worse": max_t(-differences),
            },
        ),
    ]  # fmt: skip


def _largest(pairs: list[Pair]) -> float:
    return max((abs(value) for part in pairs for value in part.points.values()), default=0.0)


def _pairs(folder: Path, seed: int) -> dict[Answers, Pair]:
    """The first run beside that after each kind of answers, and beside one of another seed."""
    os.environ["AMBER_CACHE"] = str(folder / "images")
    catalog = Catalog.create(folder / "home")
    ingest(catalog, Dataset.load(DATASET).with_reader({"images": IMAGES, "seed": seed}), author=AUTHOR, seed=seed)
    more = Proposal(budget=IMAGES, seed=seed, random_share=1.0, importance=dict.fromkeys(CLEAN, 1.0))
    propose(catalog, more, author=AUTHOR, batch="ask")
    oracle.answer(catalog, batch="answer")
    write_pixel_features(catalog)
    first = _train(catalog, seed, "first")
    with catalog.read() as now:
        doubting = Doubting(run=first.id, tasks=CLEAN)
        found, _ = doubted(catalog, now, doubting)
        rows = rows_to_ask(now, found, min(ASKED, len(found)), doubting)
    pairs = dict[Answers, Pair]()
    for number, answers in enumerate(("as they were", "by a person", "none")):
        home = folder / f"arm-{number}"
        shutil.copytree(catalog.home, home)
        copy = Catalog.open(home)
        changed = 0 if answers == "none" else _answer(copy, rows, answers, np.random.default_rng(seed))
        second = _train(copy, seed + (1_000 if answers == "none" else 0), "second")
        with copy.read() as now:
            pair = PairedRuns.load(now, home, first.id, second.id)
            figures = [part for part in compare_slices(pair, measures_of(pair), slices=[""]) if part.p is not None]
        pairs[answers] = Pair(asked=0 if answers == "none" else len(rows), changed=changed, figures=figures)
    return pairs


def _train(catalog: Catalog, seed: int, name: str) -> Run:
    with catalog.read() as now:
        policy = Policy.even([now.task(task) for task in CLEAN])
    plan = make_plan(catalog, policy, make_pack(catalog), draws=DRAWS, seed=seed)
    recipe = Recipe.parse({"threads": 1, "heads": "drawn", "hidden": UNITS, "seed": seed})
    made = train(recipe, plan, catalog)
    evaluate(made, catalog, author=AUTHOR, batch=name)
    return made


def _answer(catalog: Catalog, rows: list[dict[str, object]], how: Answers, generator: "np.random.Generator") -> int:
    """Ask these labels again and answer them; how many answers are not the label that was there."""
    with catalog.commit(author=AUTHOR, message="ask again") as change:
        change.add_requests(pa.Table.from_pylist(rows, REQUESTS))
    changed, answers = 0, list[dict[str, object]]()
    with catalog.commit(author=AUTHOR, message="answers") as change:
        now = change.now
        requests = now.requests("open")
        for name in pc.unique(requests["task"]).to_pylist():
            task = now.task(name)
            known = {row["sample_id"]: row for row in now.labels(name).to_pylist()}
            for row in requests.filter(pc.equal(requests["task"], name)).to_pylist():
                label, chance = known[row["sample_id"]], generator.random() if how == "by a person" else 1.0
                wrong, unsure = chance < ERRS, ERRS <= chance < ERRS + UNSURE
                changed += wrong or unsure
                text = task.classes[(label["code"] + wrong) % len(task.classes)] if task.classes else None
                number = None if label["number"] is None else label["number"] + JUMP * wrong
                answers.append({
                    "key": row["key"], "task": name, "state": "unsure" if unsure else "known", "annotator": "second",
                    "text": None if unsure else text, "number": None if unsure else number,
                })  # fmt: skip
        change.add_labels(pa.Table.from_pylist(answers, LABELS), source="human")
        change.close_requests(requests["request_id"].to_pylist(), state="answered")
    return changed
