"""Triggers on Amber's own road scenes: what is planted in predictions is found, clean predictions are silent, and
asking again for clean labels changes nothing.

An imported run predicts what is true, speeds with an error of 1 km/h, and in every tenth burst of a task another class
throughout. In 3% of the frames between two alike one class flickers, or the speed jumps by 25 km/h; in 3% a second run
differs; in 3% of the images `light_present` contradicts `light_color`. Then heads are solved on 8 x 8 pixels of the
scenes, the training labels that their run contradicts are asked again and answered as they were, and heads are solved
again.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.streets import DATASET
from benchmarks.table import Row, cases_row, small
from curation.arrays import Bools, Floats, Ints
from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import LABELS, REQUESTS
from curation.catalog.held_back_labels import read_held_back
from curation.catalog.tasks import Task
from curation.images.embeddings import writing
from curation.ingestion.dataset import Dataset
from curation.ingestion.ingest import ingest
from curation.requests import oracle
from curation.requests.proposals import Proposal, propose
from curation.requests.trigger_arms import rows_to_ask
from curation.requests.triggers import Triggers
from samplers.pack.pack_writer import make_pack
from samplers.plan.build import make_plan
from samplers.policy.policy import Policy
from training import Run
from training.evaluation.evaluation import evaluate
from training.evaluation.predictions import rows_of
from training.foreign.imports import import_predictions
from training.judging.comparison import ComparedFigure, compare_slices, measures_of
from training.judging.paired_runs import PairedRuns
from training.judging.triggers import FiredTrigger, fired_triggers
from training.loop.trainer import train
from training.recipe import Recipe

__all__ = ["trigger_rows", "write_pixel_features"]

SEEDS = int(os.environ.get("RUNS", "1" if small() else "4"))
FIRST = int(os.environ.get("FIRST_SEED", "2000"))
"""The rules were chosen on seed 1000."""
IMAGES = 2_000 if small() else 3_000
PLANTED, WRONG_BURSTS, JUMP = 0.03, 0.1, 25.0
ASKED = 300
SIDE = 8
AUTHOR = "bench"

Values = dict[str, Floats]
"""A class code or a number for each of the n frames, by task."""


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """The n frames of a workspace in order of time, group by group: keys, ids, groups [n], tasks and true values."""

    catalog: Catalog
    keys: list[str]
    ids: Ints
    groups: Ints
    tasks: dict[str, Task]
    truth: Values

    @classmethod
    def of(cls, catalog: Catalog) -> "Scenes":
        with catalog.read() as now:
            rows = now.samples().sort_by([("group", "ascending"), ("captured_at", "ascending")])
            tasks = {name: task for name, task in now.tasks().items() if task.single}
            ids = np.asarray(rows["sample_id"].to_numpy(), np.int64)
            place = {key: number for number, key in enumerate(rows["key"].to_pylist())}
            truth = {name: np.zeros(len(place)) for name in tasks}
            for name, task in tasks.items():
                known = now.labels(name)
                truth[name][rows_of(ids, known)] = known["code" if task.classes else "number"].to_numpy()
        for row in read_held_back(catalog.home).to_pylist():
            if (task := tasks.get(row["task"])) is not None:
                truth[task.name][place[row["key"]]] = task.classes.index(row["text"]) if task.classes else row["number"]
        groups = np.unique(rows["group"].to_pylist(), return_inverse=True)[1]
        return cls(catalog=catalog, keys=list(place), ids=ids, groups=groups, tasks=tasks, truth=truth)

    def predicted(self, generator: np.random.Generator, *, wrong: float) -> Values:
        """What is true, speeds with an error of 1 km/h, and a share of the bursts of each task of classes wrong."""
        found = {}
        for name, values in self.truth.items():
            count = len(self.tasks[name].classes)
            bad = (generator.random(self.groups.max() + 1) < wrong)[self.groups]
            moved = values + generator.normal(size=len(values))
            found[name] = np.where(bad, (values + 1) % count, values) if count else moved
        return found

    def changed(self, values: Values, here: dict[str, Bools]) -> Values:
        """The same with another class, or a number that is 25 larger, in these frames of each task."""
        return {
            name: np.where(here[name], (part + 1) % len(self.tasks[name].classes), part)
            if self.tasks[name].classes else part + JUMP * here[name]
            for name, part in values.items()
        }  # fmt: skip

    def between_alike(self, values: Floats, generator: np.random.Generator) -> Bools:
        """A share of the frames between two frames of their group that are predicted as they are; no two in a row."""
        near = 0.0 if (values == values.round()).all() else JUMP / 2
        same = (np.abs(np.diff(values)) <= near) & (np.diff(self.groups) == 0)
        between = np.r_[False, same[1:] & same[:-1], False]
        chosen = between & (generator.random(len(values)) < PLANTED)
        return chosen & ~np.r_[False, chosen[:-1]]

    def imported(self, name: str, values: Values) -> str:
        """The id of an imported run that predicts these values."""
        columns = {"key": self.keys}
        for task, part in values.items():
            classes = self.tasks[task].classes
            columns[task] = [classes[int(code)] for code in part] if classes else part.tolist()
        path = self.catalog.home / f"{name}.parquet"
        pq.write_table(pa.table(columns), path)
        return import_predictions(self.catalog, path, name=name, author=AUTHOR).run.id

    def marked(self, trigger: str, run: str, against: str = "") -> dict[str, tuple[Bools, Bools]]:
        """For each task, the frames that fire a trigger, and those that could."""
        with self.catalog.read() as now:
            triggers = Triggers.open(now, self.catalog.home, run, against=against)
            found = {part.task: triggers.fired(part) for part in triggers.named([trigger])}
        return {task: (np.isin(self.ids, fired), np.isin(self.ids, could)) for task, (fired, could) in found.items()}


@dataclass(frozen=True, kw_only=True)
class Found:
    """Of one seed: frames that were planted and fired, that fired, that were planted, that fired where nothing was
    planted, and that could there, by trigger; and what was found of the run that learned."""

    counts: dict[str, Ints]
    fired: list[FiredTrigger]
    compared: list[ComparedFigure]
    asked: int


def trigger_rows() -> list[Row]:
    """Precision and recall of what is planted; what fires where nothing is; errors; and the effect of asking again."""
    with tempfile.TemporaryDirectory(prefix="bench-ask-") as name:
        seeds = [_seed(Path(name), FIRST + number) for number in range(SEEDS)]
    rows = list[Row]()
    for trigger in ("flicker", "contradiction", "disagree"):
        hits, fired, planted, silent, could = np.sum([part.counts[trigger] for part in seeds], axis=0).tolist()
        rows += [
            _share(f"{trigger}: planted among what fires", hits, fired, 0.9),
            _share(f"{trigger}: of the planted, fires", hits, planted, 0.9),
            _share(f"{trigger}: fires in clean predictions", silent, could),
        ]
    return [*rows, *_learned(seeds), _asked_again(seeds)]


def write_pixel_features(catalog: Catalog) -> None:
    """8 x 8 pixels of each image, in place of the features of a pretrained trunk."""
    with catalog.read() as now:
        rows = now.samples().select(["key", "location"]).to_pylist()
    keys = make_pack(catalog).keys.to_pylist()
    places = {row["key"]: row["location"] for row in rows}
    pictures = [Image.open(places[key]).convert("RGB").resize((SIDE, SIDE)) for key in keys]
    vectors = np.stack([np.asarray(picture, np.float32).ravel() / 255 for picture in pictures])
    with writing(catalog.home, Recipe().embeddings, keys, [("pixels", vectors.shape[1])]) as written:
        written[:] = vectors.astype(np.float16)


def _share(what: str, hits: int, count: int, least: float = 0.0) -> Row:
    asked = f"at least {100 * least:.0f}%" if least else "printed"
    return cases_row(f"{what}, {hits:,} of {count:,}", hits, count, asked=asked, met=hits / max(1, count) >= least)


def _seed(folder: Path, seed: int) -> Found:
    os.environ["AMBER_CACHE"] = str(folder / f"{seed}-images")
    catalog, generator = Catalog.create(folder / str(seed)), np.random.default_rng(seed)
    ingest(catalog, Dataset.load(DATASET).with_reader({"images": IMAGES, "seed": seed}), author=AUTHOR, seed=seed)
    both = dict.fromkeys(("light_present", "light_color"), 1.0)  # seldom labelled together as the data set comes
    propose(catalog, Proposal(budget=IMAGES, seed=seed, random_share=1.0, importance=both), author=AUTHOR, batch="ask")
    oracle.answer(catalog, batch="answer")
    scenes = Scenes.of(catalog)
    clean, base = scenes.predicted(generator, wrong=0.0), scenes.predicted(generator, wrong=WRONG_BURSTS)
    silent, second = scenes.imported("clean", clean), scenes.imported("second", scenes.predicted(generator, wrong=0.0))
    flicker = {name: scenes.between_alike(part, generator) for name, part in base.items()}
    anywhere = {name: generator.random(len(part)) < PLANTED for name, part in base.items()}
    shown = np.where(anywhere["car"], 1 - clean["light_present"], clean["light_present"])
    planted = {
        "flicker": (scenes.imported("flicker", scenes.changed(base, flicker)), "", flicker),
        "contradiction": (
            scenes.imported("contradiction", {**clean, "light_present": shown}),
            "",
            dict.fromkeys(both, anywhere["car"]),
        ),
        "disagree": (scenes.imported("disagree", scenes.changed(clean, anywhere)), second, anywhere),
    }
    counts = {}
    for trigger, (run, against, where) in planted.items():
        found, nothing = scenes.marked(trigger, run, against), scenes.marked(trigger, silent, against)
        able = {task: where[task] & found[task][1] for task in found}
        counts[trigger] = np.array([
            sum(int((able[task] & found[task][0]).sum()) for task in found),
            sum(int(fired.sum()) for fired, _ in found.values()), sum(int(part.sum()) for part in able.values()),
            sum(int(fired.sum()) for fired, _ in nothing.values()),
            sum(int(could.sum()) for _, could in nothing.values()),
        ])  # fmt: skip
    return Found(counts=counts, **_asked(catalog))


def _asked(catalog: Catalog) -> dict[str, object]:
    """What fires of a run that learned, and the comparison with the run after its doubted labels were asked again."""
    write_pixel_features(catalog)
    first = _train(catalog, "first")
    with catalog.read() as now:
        triggers = Triggers.open(now, catalog.home, first.id)
        chosen = triggers.named(["flicker", "against_label"])
        fired = fired_triggers(now, catalog.home, triggers, chosen)
        train_again = [part for part in chosen if part.name == "against_label"]
        there = fired_triggers(now, catalog.home, triggers, train_again, split="train")
        count = min(ASKED, sum(part.fired for part in there))
        rows = rows_to_ask(now, catalog.home, triggers, train_again, count) if count else []
    _answer_as_before(catalog, rows)
    second = _train(catalog, "second")
    with catalog.read() as now:
        pair = PairedRuns.load(now, catalog.home, first.id, second.id)
        compared = compare_slices(pair, measures_of(pair), slices=[""])
    return {"fired": fired, "compared": compared, "asked": len(rows)}


def _train(catalog: Catalog, name: str) -> Run:
    with catalog.read() as now:
        policy = Policy.for_labelled(now)
    policy = policy.model_copy(update={"task": {task: part for task, part in policy.task.items() if task != "objects"}})
    plan = make_plan(catalog, policy, make_pack(catalog), draws=640)
    made = train(Recipe.parse({"threads": 1, "heads": "exact"}), plan, catalog)
    evaluate(made, catalog, author=AUTHOR, batch=name)
    return made


def _answer_as_before(catalog: Catalog, rows: list[dict[str, object]]) -> None:
    """Answer requests by another person with the labels that are known."""
    with catalog.commit(author=AUTHOR, message="ask again") as change:
        change.add_requests(pa.Table.from_pylist(rows, REQUESTS))
    with catalog.commit(author=AUTHOR, message="answer as before") as change:
        now, answers = change.now, list[dict[str, object]]()
        requests = now.requests("open")
        for name in pc.unique(requests["task"]).to_pylist():
            task, labels = now.task(name), now.labels(name).to_pylist()
            known = {row["sample_id"]: row for row in labels}
            for row in requests.filter(pc.equal(requests["task"], name)).to_pylist():
                label = known[row["sample_id"]]
                answers.append({
                    "key": row["key"], "task": name, "state": "known", "annotator": "second",
                    "text": task.classes[label["code"]] if task.classes else None, "number": label["number"],
                })  # fmt: skip
        change.add_labels(pa.Table.from_pylist(answers, LABELS), source="human")
        change.close_requests(requests["request_id"].to_pylist(), state="answered")


def _learned(seeds: list[Found]) -> list[Row]:
    """Of the run that learned: what fires, and its errors there, elsewhere, and where it is least sure."""
    rows = list[Row]()
    for trigger in ("flicker", "against_label"):
        parts = [part for found in seeds for part in found.fired if part.trigger == trigger]
        rows.append(_share(f"{trigger}: fires of a run that learned", sum(p.fired for p in parts),
                           sum(p.could for p in parts)))  # fmt: skip
    tasks = [part for found in seeds for part in found.fired if part.trigger == "flicker" and not part.unit]
    told = [part for part in tasks if part.error.n and part.least_sure.value is not None]
    sums = {name: sum(getattr(part, name).value * part.error.n for part in told) / sum(part.error.n for part in told)
            for name in ("error", "others", "least_sure")}  # fmt: skip
    return [
        *rows,
        Row(what="flicker: error of the run there", value=100 * sums["error"], unit="%",
            peers={"of the others %": 100 * sums["others"], "of as many least sure %": 100 * sums["least_sure"]}),
        Row(what="flicker: tasks where the least sure err more", value=100 * float(np.mean(
            [part.least_sure.value > part.error.value for part in told])), unit="%"),
    ]  # fmt: skip


def _asked_again(seeds: list[Found]) -> Row:
    """How many figures of the run after asking again differ from those before."""
    figures = [figure for found in seeds for figure in found.compared if figure.difference is not None]
    shown = sum(figure.verdict in ("better", "worse") for figure in figures)
    largest = max(abs(figure.difference or 0.0) for figure in figures if figure.unit == "points")
    return Row(
        what=f"{sum(part.asked for part in seeds)} labels asked again: figures that differ, of {len(figures)}",
        value=float(shown), asked="none: within noise of zero", met=not shown,
        peers={"largest difference, points": 100 * largest},
    )  # fmt: skip
