"""Decision rules: declared by a task's owner, applied to natural probabilities, thresholds chosen across groups."""

from pathlib import Path

import numpy as np
import pytest
from support.homes import make_home

from amber.cli import run
from curation import Catalog, Task
from training.evaluation.decisions import decided, rule_in_words, suggested_threshold

NATURAL = np.array([[0.60, 0.30, 0.10], [0.90, 0.08, 0.02], [0.35, 0.25, 0.40]])
PRIOR = np.array([0.8, 0.15, 0.05])


def lamp(**fields: object) -> Task:
    rest = {"name": "lamp", "kind": "categorical", "classes": ("red", "yellow", "green"), "owner": "ada"}
    return Task.model_validate({**rest, **fields})


@pytest.mark.parametrize(
    ("fields", "codes"),
    [
        ({}, [0, 0, 2]),
        ({"decide": "likeliest", "metric": "balanced_accuracy"}, [0, 0, 2]),
        ({"metric": "balanced_accuracy"}, [1, 0, 2]),
        ({"decide": "balanced"}, [1, 0, 2]),
        ({"decide": {"yellow": 0.25}}, [1, 0, 1]),
        ({"decide": {"yellow": 0.25, "green": 0.02}}, [2, 2, 2]),
        ({"decide": {"red": 0.95}}, [1, 1, 2]),
    ],
)
def test_a_rule_predicts_these_classes(fields: dict[str, object], codes: list[int]) -> None:
    assert decided(lamp(**fields), NATURAL, PRIOR).tolist() == codes


def test_a_rule_in_words() -> None:
    assert rule_in_words(lamp()) == "the likeliest class"
    assert rule_in_words(lamp(decide={"yellow": 0.25})).startswith("by threshold: yellow from 0.25 on, else")


def test_definitions_without_a_rule_keep_their_text() -> None:
    """Catalogs, plans and data sets hash this text; it is that of version 1."""
    text = (
        '{"name":"lamp","kind":"categorical","classes":["red","yellow","green"],"unit":"","metric":"accuracy",'
        '"owner":"ada","tolerance":0.0,"description":""}'
    )
    assert lamp().model_dump_json() == text
    assert Task.model_validate_json(text) == lamp()


@pytest.mark.parametrize("decide", ["likeliest", {"yellow": 0.25, "green": 0.5}])
def test_a_rule_survives_the_catalog(decide: object) -> None:
    task = lamp(decide=decide)
    assert Task.model_validate_json(task.model_dump_json()) == task
    assert Task.model_validate(task.model_dump()) == task
    assert hash(task) == hash(lamp(decide=decide))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"decide": "magic"}, "must be"),
        ({"decide": {}}, "must be"),
        ({"decide": {"yellow": 1.5}}, "between 0 and 1"),
        ({"decide": {"yellow": "high"}}, "must be"),
        ({"decide": {"blue": 0.5}}, "'blue' is no class of it; the classes are red, yellow, green"),
        ({"decide": {"red": 0.5, "yellow": 0.5, "green": 0.5}}, "leave one class without a threshold"),
        ({"kind": "multilabel", "decide": "balanced"}, "each class of a multilabel task is decided alone"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lamp(**fields)


def test_an_owner_changes_the_rule_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = make_home(tmp_path, samples=10).home
    words = ["tasks", "redefine", "color", "--author", "ada", "--home", str(home), "--decide"]
    assert run([*words, "yellow=0.3"]) == 0
    with Catalog.open(home).read() as now:
        assert now.task("color").decision == (("yellow", 0.3),)
    assert run([*words, "default"]) == 0
    with Catalog.open(home).read() as now:
        assert now.task("color").decision == "balanced"
    assert run([*words, "yellow=high"]) != 0
    assert "--decide yellow=high: must be one rule" in capsys.readouterr().err


def test_a_suggested_threshold_is_judged_across_groups() -> None:
    """Scores without information: the best F1 on the labels themselves flatters, that across groups does not."""
    generator = np.random.default_rng(0)
    positive, scores = generator.random(120) < 0.3, generator.random(120)
    suggested = suggested_threshold(positive, scores, np.ones(120), np.arange(120))
    assert suggested is not None
    assert suggested.f1.value is not None
    flattering = max(
        2 * (positive & (scores >= t)).sum() / (positive.sum() + (scores >= t).sum()) for t in scores.tolist()
    )
    assert suggested.f1.value < flattering - 0.02


def test_a_clear_threshold_is_found() -> None:
    positive = np.arange(60) % 3 == 0
    scores = np.where(positive, 0.2, 0.1) + np.linspace(0, 0.05, 60)
    suggested = suggested_threshold(positive, scores, np.ones(60), np.arange(60) // 2)
    assert suggested is not None
    assert 0.15 < suggested.threshold < 0.2
    assert suggested.f1.value == 1.0


@pytest.mark.parametrize("groups", [np.zeros(60, np.int64), np.arange(60) // 12])
def test_few_groups_suggest_no_threshold(groups: np.ndarray) -> None:
    assert suggested_threshold(np.arange(60) % 2 == 0, np.linspace(0, 1, 60), np.ones(60), groups) is None
