"""Heads that were solved, in the report: how each came about and why, and no word of draws."""

import doctest
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from support.homes import copy_home
from support.planted_runs import noisy, plant_run, planted_home

from curation.catalog.catalog import Catalog
from training import Recipe, Run
from training.report import solved_heads, write_report
from training.report.solved_heads import heads_view
from training.run import Head

PATH = [(10.0 ** (-step / 2), 0.9 + 0.1 * (step - 4) ** 2, 0.05) for step in range(1, 8)]
HEADS = [
    Head(task="color", kind="shared", labels=310, classes=3, groups=77, ridge=0.01, path=PATH, gradient=3.2e-10,
         iterations=41, epochs=14, gain=0.071, low=0.042, high=0.1),
    Head(task="car", kind="exact", labels=320, classes=2, groups=80, ridge=0.01, path=PATH, gradient=8e-10,
         iterations=1_033, gain=-0.004, low=-0.02, high=0.012),
    Head(task="bike", kind="constant", labels=12, classes=1, groups=3),
    Head(task="speed", kind="exact", labels=300, groups=75, ridge=0.1, path=PATH[:1], gradient=2e-10, iterations=7),
]  # fmt: skip
ALARMS = ["task car: the gradient of its head is 1e-3; add labels", "task <b>bike</b>: all labels are one class"]
DRAWS = ("draws", "drawn", "optimizer", "learning rate", "batch", "schedule", "effective", "cosine", "curve was")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, Run]:
    catalog, plan = planted_home(tmp_path_factory.mktemp("solved"))
    run = plant_run(catalog, plan, "solved", lambda task: noisy(catalog, task, signal=1.0))
    solved = replace(run, curve=[], heads=HEADS, alarms=ALARMS)
    solved.save(catalog.home)
    return catalog, solved


@pytest.fixture(scope="module")
def page(home: tuple[Catalog, Run], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    return write_report(home[0], "solved", path).read_text(encoding="utf-8")


def section(page: str, name: str) -> str:
    return page[page.index(f'<section id="{name}"') :].split("</section>")[0]


def text(page: str) -> str:
    return " ".join(unescape(re.sub("<[^>]+>", " ", page)).split())


@pytest.mark.parametrize(
    "row",
    [
        "color shared the shared layer is ahead on held-out groups 310 3 77 +0.071 [+0.042, +0.100] 0.01 3.2e-10 41 14",
        "car exact the exact head is ahead on held-out groups, within noise 320 2 80 -0.004 [-0.020, +0.012] 0.01 "
        "8e-10 1,033 -",
        "bike constant all its labels are one class, which it always predicts 12 1 3 - - - - -",
        "speed exact not compared: too few labels or groups 300 - 75 - 0.1 2e-10 7 -",
    ],
)
def test_each_head_states_how_it_was_learned_and_why(page: str, row: str) -> None:
    assert row in text(section(page, "training")).replace("\u2013", "-")


def test_the_kinds_are_counted(page: str) -> None:
    assert "2 exact, 1 shared, 1 constant" in text(section(page, "training"))


def test_each_path_of_ridges_has_a_chart_and_a_table_with_the_chosen_one(page: str) -> None:
    training = section(page, "training")
    alt = "Held-out loss of color over the ridge; ridge 0.01, chosen of 7."
    assert training.count('<svg class="chart"') == 3
    assert f'aria-label="{alt}"' in training
    assert re.search("color ridge held-out loss standard error .* 0.01 chosen 0.9000 0.0500", text(training))


def test_alarms_come_before_everything_else(page: str) -> None:
    top = text(page[page.index("</nav>") : page.index('<div class="tiles">')])
    assert top == " ".join(f"Alarm {alarm}" for alarm in ALARMS)


@pytest.mark.parametrize("part", ["training", "plan"])
def test_solved_heads_have_no_word_of_draws(page: str, part: str) -> None:
    words = text(section(page, part)).lower().replace("consume no draws", "")
    assert [word for word in DRAWS if word in words] == []


def test_the_recipe_has_no_word_of_draws(page: str) -> None:
    recipe = text(page[page.index("<dt>Recipe</dt>") :].split("</dd>")[0])
    assert "heads auto" in recipe
    assert [word for word in DRAWS if word in recipe] == []


def test_the_plan_says_what_shares_and_importances_change(page: str) -> None:
    plan = text(section(page, "plan"))
    assert "shares change nothing in them; importances weigh the tasks on the shared layer" in plan
    assert re.search(r"task owner rule importance labels color ada balanced 0\.\d+ \d+ ", plan)


@pytest.mark.parametrize(("kind", "epochs"), [("exact", 0), ("shared", 20)])
def test_a_requested_kind_is_not_explained_by_a_comparison(
    home: tuple[Catalog, Run], tmp_path: Path, kind: str, epochs: int
) -> None:
    catalog = copy_home(home[0], tmp_path)
    head = replace(HEADS[1], kind=kind, epochs=epochs, gain=None, low=None, high=None)
    replace(home[1], recipe=Recipe(heads=kind), heads=[head], alarms=[]).save(catalog.home)
    page = write_report(catalog, "solved", tmp_path / "report.html").read_text(encoding="utf-8")
    training = text(section(page, "training"))
    assert f"the recipe requests {kind} heads" in training
    assert "gain" not in training
    assert ("epochs" in training) == (kind == "shared")
    assert ("shares and importances change nothing" in text(section(page, "plan"))) == (kind == "exact")
    assert 'class="alarm"' not in page


def test_a_single_task_has_no_layer_to_share(home: tuple[Catalog, Run]) -> None:
    view = heads_view(replace(home[1], heads=HEADS[3:]))
    assert view["rows"][0]["why"] == "not compared: one task has no other to share a layer with"


def test_the_examples_hold() -> None:
    assert doctest.testmod(solved_heads).failed == 0
