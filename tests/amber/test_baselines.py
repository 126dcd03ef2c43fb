"""`amber report --baseline`: exact heads and a network for each task, trained beside a run."""

import doctest
from pathlib import Path

import pytest
from support.learned import make_features, planned, recipe

from amber import baselines
from amber.baselines import baseline_recipe
from amber.cli import run
from curation.catalog.catalog import Catalog
from training import Recipe, evaluate, train

TREE = {"branch": {"marks": {"width": 8, "tasks": ["*"]}}}


def test_the_report_trains_baselines_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    catalog = make_features(tmp_path)
    made = train(recipe(tree=TREE), planned(catalog, draws=160), catalog)
    evaluate(made, catalog, author="ada")
    words = ["report", "--home", str(catalog.home), "--out", str(tmp_path / "report.html")]
    beside = [*words, "--baseline", "exact", "--baseline", "separate"]
    for _ in range(2):
        assert run(beside) == 0
        runs = sorted(path.parent.name for path in catalog.home.glob("runs/*/run.json"))
        assert len(runs) == 3
    text = (tmp_path / "report.html").read_text()
    assert all(f'<th scope="col">{name}</th>' in text for name in ("best constant", "exact heads", "a network each"))
    with Catalog.open(catalog.home).read() as now:
        assert now.runs()["run"].to_pylist() == [made.id]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("made", "hidden", "rate"),
    [
        (Recipe.of("efficientnet_lite0"), 512, 1e-3),
        (Recipe.of("efficientnet_lite0", heads="drawn"), 512, 1e-3),
        (recipe(tree=TREE, learning_rate=0.02, only=("car",)), 8, 0.02),
        (Recipe.of("small"), 128, 3e-3),
    ],
)
def test_separate_networks_keep_what_the_run_says(made: Recipe, hidden: int, rate: float) -> None:
    found = baseline_recipe("separate", made, (64, 64))
    assert (found.branching.branch["own"].width, found.learning_rate) == (hidden, rate)
    assert (found.trunk, found.size, found.optimizer, found.only) == (made.trunk, made.size, "adamw", ())


def test_the_examples_run() -> None:
    done = doctest.testmod(baselines)
    assert (done.failed, done.attempted > 0) == (0, True)
