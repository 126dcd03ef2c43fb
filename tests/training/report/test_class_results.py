"""Classes in the report, from planted predictions: tables, curves, recall that only the rate raised; and recipes."""

import doctest
import re
from dataclasses import fields, replace
from html import unescape
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.homes import TASKS, copy_home
from support.planted_runs import noisy, plant_run, planted_home

from curation.catalog.catalog import Catalog
from curation.catalog.tasks import Task
from samplers.plan.plan import Plan
from training import Recipe, Run
from training.evaluation import group_order
from training.evaluation.metrics import ConfusionSums, RankingSums
from training.evaluation.predictions import labelled_predictions
from training.recipe import ADDED, BoxRecipe, Stopping, TaskRecipe
from training.recipe_parts import Stage
from training.report import formatting, write_report
from training.report.class_results import class_view, confusion_view
from training.report.other_runs import RunBefore, raised_by_rate, run_before
from training.report.run_results import RunResults, load_results
from training.report.sections import recipe_text
from training.tree import Branch, Tree

NAMES = [field.name for field in fields(Recipe)]
STATED = {
    "trunk": ("run:f00d", "trunk run:f00d"), "size": ((48, 96), "size 48, 96 pixels (height, width)"),
    "fit": ("crop", "fit crop"), "mirrored": (True, "mirrored yes"), "heads": ("drawn", "heads drawn"),
    "global_batch": (48, "global batch 48 draws"), "optimizer": ("adamw", "optimizer adamw"),
    "learning_rate": (0.0123, "learning rate 0.0123"), "weight_decay": (0.45, "weight decay 0.45"),
    "schedule": ("cosine", "schedule cosine"), "warmup": (0.07, "warmup 7% of the steps"),
    "hidden": (19, "hidden 19 units"), "augment": (True, "augment yes"), "seed": (71, "seed 71"),
    "threads": (3, "threads 3"),
    "tree": (
        Tree(tasks=("bike",), branch={"deep": Branch(width=9, tasks=("*",))}),
        "tree tasks (bike), branch (deep (parent (trunk), width (9), tasks (*), each (no)))",
    ),
    "task": (
        {"bike": TaskRecipe(rate=2.0)},
        "task bike (rate (2), decay (none), dropout (none), smoothing (0), stop (yes))",
    ),
    "stopping": (Stopping(every=7), "stopping every (7), patience (3), floor (0.25), tolerance (0.02)"),
    "balance": ("gradient_norm", "balance gradient_norm"), "dropout": (0.3, "dropout 0.3"),
    "accumulate": (16, "accumulate 16 parts of a batch"), "clip": (1.5, "clip 1.5"),
    "trunk_rate": (0.5, "trunk rate 0.5"), "only": (("bike",), "only bike"),
}  # fmt: skip
"""For each field that a training on draws follows, a value that is not its default, and how the report states it."""
DRAWN = [name for name in NAMES if name in STATED]
LEARNED = {
    "compile": (True, "compile yes"),
    "learn_from": ("block3", "learn from block3"),
    "weights": ("random", "weights random"),
    "boxes": (BoxRecipe(most=7), "boxes width (64), stride (8), most (7)"),
}
"""The same for the fields that only a trunk that learns from pixels follows."""
STAGED = {
    "stages": (
        (Stage(part=0.4, tasks=("bike",)), Stage(part=0.6, fixed=True)),
        "stages (part (0.4), tasks (bike), fixed (no)), (part (0.6), tasks (none), fixed (yes))",
    ),
}
"""The same for a field that does not stand beside `only` and `stopping`."""
SOLVED = {"huber": (True, "huber yes"), "units": (99, "units 99"), "epochs": (7, "epochs 7")}
"""The same for the fields that only heads without draws follow."""
DIFFERENT = Recipe(**{name: STATED[name][0] for name in DRAWN})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, Plan]:
    """Three runs: `before`; `raised`, its child, in which the classes with code 1 are only predicted more often; and
    `better`, a child that knows more."""
    catalog, plan = planted_home(tmp_path_factory.mktemp("classes"))
    plant_run(catalog, plan, "before", lambda task: noisy(catalog, task, signal=1.0))
    plant_run(
        catalog, plan, "raised", lambda task: noisy(catalog, task, signal=1.0, raise_last=3), parent="before",
        recipe=DIFFERENT,
    )  # fmt: skip
    plant_run(catalog, plan, "better", lambda task: noisy(catalog, task, signal=6.0), parent="before")
    return catalog, plan


@pytest.fixture(scope="module")
def page(home: tuple[Catalog, Plan], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    return write_report(home[0], "raised", path).read_text(encoding="utf-8")


def section(page: str, name: str) -> str:
    return page[page.index(f'<section id="{name}"') :].split("</section>")[0]


def text(page: str) -> str:
    return " ".join(unescape(re.sub("<[^>]+>", " ", page)).split())


def results_of(home: tuple[Catalog, Plan], run: str) -> RunResults:
    with home[0].read() as now:
        return load_results(
            now, run, [task.name for task in home[1].tasks], home[0].home / "runs" / run / "predictions.parquet"
        )


def test_every_field_of_the_recipe_is_stated(page: str) -> None:
    """From the record alone: every field that the training followed, though none has its default, and no other word."""
    assert {*DRAWN, *LEARNED, *SOLVED, *STAGED} == set(NAMES)
    recipe = text(page[page.index("<dt>Recipe</dt>") :].split("</dd>")[0])
    assert recipe.removeprefix("Recipe ").split("; ") == [*(STATED[name][1] for name in DRAWN), "stages none"]


@pytest.mark.parametrize("name", [name for name in DRAWN if name != "heads"])
def test_a_changed_field_changes_its_words(name: str) -> None:
    """The default of one field is stated as such; all other words stay unchanged."""
    defaults, plain = vars(Recipe()), [name for name in DRAWN if name not in ADDED]
    base = DIFFERENT if name != "optimizer" else Recipe(**{each: STATED[each][0] for each in plain})
    stated = [*DRAWN, *STAGED] if name != "optimizer" else plain
    one, other = (recipe_text(each).split("; ") for each in (base, replace(base, **{name: defaults[name]})))
    assert [field for field, old, new in zip(stated, one, other, strict=True) if old != new] == [name]


@pytest.mark.parametrize(
    ("heads", "fields_of"), [("exact", "huber"), ("shared", "units epochs"), ("auto", "huber units epochs")]
)
def test_heads_without_draws_state_no_field_of_draws(heads: str, fields_of: str) -> None:
    recipe = Recipe(**{"heads": heads, **{name: value for name, (value, _) in SOLVED.items()}})
    words = recipe_text(recipe)
    assert [name for name in SOLVED if SOLVED[name][1] in words] == fields_of.split()
    assert not [word for word in ("optimizer", "learning rate", "warmup", "draws") if word in words]


def test_a_trunk_that_learns_states_its_own_fields() -> None:
    words = recipe_text(Recipe.of("timm:resnet10t", **{name: value for name, (value, _) in LEARNED.items()})).split(
        "; "
    )
    assert {stated for _, stated in LEARNED.values()} <= set(words)
    assert not [word for word in recipe_text(DIFFERENT).split("; ") if word.split(" ")[0] in LEARNED]


def test_stages_are_stated_by_their_parts() -> None:
    (stages, stated), words = STAGED["stages"], Recipe.of("small", stages=STAGED["stages"][0])
    assert stages == words.stages
    assert recipe_text(words).split("; ")[-1] == stated


def test_an_alarm_of_the_run_is_shown(home: tuple[Catalog, Plan], tmp_path: Path) -> None:
    catalog = copy_home(home[0], tmp_path)
    replace(Run.open(catalog.home, "better"), alarm="task car: too few draws").save(catalog.home)
    page = write_report(catalog, "better", tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Alarm task car: too few draws" in text(page)


def test_classes_are_counted_beside_their_predictions(home: tuple[Catalog, Plan], page: str) -> None:
    predicted = results_of(home, "raised").predictions["color"].at(results_of(home, "raised").test)
    true, claimed = (predicted.truth == 1).sum(), (predicted.predicted == 1).sum()
    right = ((predicted.truth == 1) & (predicted.predicted == 1)).sum()
    table = text(section(page, "classes"))
    assert re.search(rf"yellow {true} {claimed} {right / claimed:.3f} \[.{{10}}\]", table)
    assert f"{true} true, {claimed} predicted" in table


def test_average_precision_is_that_of_the_probabilities(home: tuple[Catalog, Plan], page: str) -> None:
    results = results_of(home, "raised")
    predicted = results.predictions["color"].at(results.test)
    sums = RankingSums.of(predicted.truth == 1, predicted.probabilities[:, 1], np.ones(len(predicted.rows)))
    assert f"yellow precision against recall; average precision {sums.average_precision():.3f}" in text(page)


@pytest.mark.parametrize("task", ["color", "car", "bike"])
def test_a_class_task_has_its_curves(page: str, task: str) -> None:
    """A precision-recall curve for each class (a binary task: one), and a reliability curve."""
    part = section(page, "classes").split(f"<h3>{task}</h3>")[1].split("<h3>")[0]
    labels = re.findall('aria-label="([^"]+)"', part)
    assert len([label for label in labels if label.startswith("Precision of")]) == (3 if task == "color" else 1)
    assert len([label for label in labels if label.startswith("How often")]) == 1
    assert part.count("<b>Confusion</b>") == 1


def test_a_threshold_from_validation_is_suggested_as_a_command(page: str) -> None:
    assert re.search(
        r"threshold [\d.]+: F1 [\d.]+ \[[^]]+\] ?\S? on validation, across groups amber tasks redefine car "
        r"--decide true=[\d.]+ ",
        text(section(page, "classes")),
    )


def test_recall_is_never_shown_without_precision(home: tuple[Catalog, Plan], tmp_path: Path) -> None:
    """In tables, in tiles, on contact sheets and in the rounds of a loop."""
    catalog = home[0]
    with catalog.read() as now:
        rounds = [
            {"arm": "mined", "index": index, "labels": 40 + 20 * index, "found": {"yellow": index}, "run": run,
             "figures": now.runs.slice_errors(run).to_pylist()}
            for index, run in enumerate(("before", "raised"))
        ]  # fmt: skip
    page = write_report(catalog, "raised", tmp_path / "report.html", rounds=rounds).read_text(encoding="utf-8")
    for part in ("figures", "worst"):
        shown = text(section(page, part))
        assert len(re.findall("recall of", shown)) == len(re.findall(r"recall of[^%]{0,80}precision", shown))
    assert "recall of yellow precision 0." in text(section(page, "figures"))
    assert re.search(r"Rare: yellow.{10,150}recall of yellow.{10,150}precision on all of test", text(page))
    assert re.search(r"60 1 [\d.]+ \[\S+ \S+\] ?\S? 0\.1\d\d \[", text(section(page, "loop")))


def test_recall_that_only_the_rate_raised_is_reported(page: str) -> None:
    shown = text(section(page, "classes"))
    assert "Compared with its parent, before" in shown
    assert re.search(
        r"Recall of yellow on the slice yellow rose from [\d.]+ to [\d.]+ only because yellow is predicted more often: "
        r"\d+ times, before \d+\. The run before, if it predicted yellow as often, would have a recall of",
        shown,
    )
    row = re.search(r"yellow rare .*?(?=yellow_at_night)", text(section(page, "figures")))
    assert row
    assert "rose only because the class is predicted more often" in row[0]


def test_recall_that_a_better_model_raised_is_not(home: tuple[Catalog, Plan], tmp_path: Path) -> None:
    page = write_report(home[0], "better", tmp_path / "report.html").read_text(encoding="utf-8")
    assert "no recall rose only because its class is predicted more often" in text(section(page, "classes"))


def test_at_the_new_rate_the_run_before_is_as_good(home: tuple[Catalog, Plan]) -> None:
    """Counted by hand: the images with its highest probabilities, as many as this run predicts."""
    catalog, results = home[0], results_of(home, "raised")
    with catalog.read() as now:
        before = run_before(now, catalog.home, "raised", results, parent="before")
    assert before is not None
    assert (before.id, before.relation) == ("before", "its parent")
    found = {(part.task, part.slice): part for part in raised_by_rate(results, before)}
    part, old = found["color", "yellow"], before.predictions["color"].at(results.test)
    highest = np.argsort(-old.probabilities[:, 1], kind="stable")[: part.predicted[1]]
    assert part.at_new_rate == pytest.approx((old.truth[highest] == 1).sum() / (old.truth == 1).sum())
    assert part.at_new_rate >= part.recall[1] > part.recall[0]


@pytest.mark.parametrize("first", [1, 3, 1_000_000])
def test_the_only_class_of_a_slice_is_that_of_all_its_labels(
    first: int, home: tuple[Catalog, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.report.run_results.FIRST", first)
    results, found = results_of(home, "raised"), set[int | None]()
    for task, predicted in results.predictions.items():
        for name in results.slices if results.tasks[task].classes else ():
            codes = np.unique(predicted.truth[results.inside[name][predicted.rows]])
            found.add(results.only_class(task, name))
            assert results.only_class(task, name) == (codes[0] if len(codes) == 1 else None)
    assert len(found) > 1


def test_without_an_earlier_run_nothing_is_compared(home: tuple[Catalog, Plan], tmp_path: Path) -> None:
    page = write_report(home[0], "before", tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No earlier run of this workspace" in text(section(page, "classes"))


def test_an_earlier_run_whose_predictions_are_gone_is_not_compared(home: tuple[Catalog, Plan], tmp_path: Path) -> None:
    catalog = copy_home(home[0], tmp_path)
    (catalog.home / "runs" / "before" / "predictions.parquet").unlink()
    page = write_report(catalog, "raised", tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No earlier run of this workspace" in text(section(page, "classes"))


def test_predictions_without_probabilities_have_no_curves(home: tuple[Catalog, Plan], tmp_path: Path) -> None:
    """Precision and recall are shown; average precision and calibration are not known."""
    results = results_of(home, "raised")
    table = pq.read_table(home[0].home / "runs" / "raised" / "predictions.parquet").drop(["probabilities"])
    with home[0].read() as now:
        predicted = labelled_predictions(now, TASKS[0], results.samples, table)
    assert np.isnan(predicted.probabilities).all()
    bare = replace(results, predictions={**results.predictions, "color": predicted})
    view = class_view(bare, None, [])["tasks"][0]
    assert (view["curves"], view["brier"]) == ([], "not known")
    assert all(row["average_precision"] is None and row["recall"] for row in view["rows"])


def test_a_rule_with_thresholds_is_stated(home: tuple[Catalog, Plan], tmp_path: Path) -> None:
    catalog = copy_home(home[0], tmp_path)
    with catalog.commit(author="ada", message="decide") as change:
        task = change.now.task("color").model_dump()
        change.redefine_task(type(TASKS[0]).model_validate({**task, "decide": {"yellow": 0.4}}))
    plant_run(catalog, home[1], "thresholds", lambda task: noisy(catalog, task, signal=1.0))
    page = write_report(catalog, "thresholds", tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Predicts by threshold: yellow from 0.4 on, else the likeliest of the other classes" in text(page)
    path = catalog.home / "runs" / "thresholds" / "predictions.parquet"
    for row in pq.read_table(path).to_pylist():
        if row["task"] == "color":
            assert (row["code"] == 1) == (row["probabilities"][1] >= 0.4)


@pytest.mark.parametrize("module", [group_order, formatting], ids=lambda module: module.__name__)
def test_examples_of_the_docstrings(module: object) -> None:
    done = doctest.testmod(module)  # type: ignore[arg-type]
    assert done.attempted
    assert done.failed == 0


def test_many_classes_show_their_most_frequent_errors() -> None:
    """Twenty classes, of which two are confused: no matrix, but the confusions by number of images."""
    task = Task(name="card", kind="categorical", classes=tuple(f"c{code}" for code in range(20)), owner="ada")
    truth = np.repeat(np.arange(20.0), 3)
    predicted = np.where(truth == 4, 7, truth)
    predicted[0] = 1
    sums = ConfusionSums.of(20, truth, predicted, np.ones(60), np.arange(60))
    view = confusion_view(task, sums)
    assert (view["cells"], [tuple(row.values()) for row in view["largest"]]) == (
        [],
        [("c4", "c7", 3, 1.0), ("c0", "c1", 1, pytest.approx(1 / 3))],
    )


def test_a_better_ranking_is_no_matter_of_rate(home: tuple[Catalog, Plan]) -> None:
    """Precision fell and recall rose, but the run before would not reach this recall by predicting as often."""
    results = results_of(home, "raised")
    car = results.predictions["car"]
    cars = car.truth == 1
    first, blind = cars & (np.cumsum(cars) <= 2), np.where(cars, 0.3, 0.4)
    old, new = (
        replace(car, predicted=chance.round(), probabilities=np.stack([1 - chance, chance], axis=1))
        for chance in (np.where(first, 0.9, blind), np.where(cars | (np.cumsum(~cars) <= 20), 0.9, 0.1))
    )
    for runs, expected in (((old, new), set()), ((replace(new, predicted=old.predicted), new), {"car"})):
        before = RunBefore(id="before", relation="its parent", predictions={"car": runs[0]})
        found = raised_by_rate(replace(results, predictions={"car": runs[1]}), before)
        assert {part.name for part in found} == expected
