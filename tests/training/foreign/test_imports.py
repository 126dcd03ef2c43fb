"""Imported runs: a file of any model's predictions becomes a run, and everything that reads runs reads it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support.homes import copy_home, make_home

from amber.cli import run
from amber.forget import forget
from amber.verification import verify_files
from curation.catalog.catalog import Catalog
from curation.errors import BadInput, Damaged
from training.foreign.imports import evaluate_imported, import_predictions
from training.imported import Imported
from training.report import write_report
from training.run import Run
from training.run_list import list_runs

SPLITS = ("test", "validation", "train")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Pictures in three equal splits, and `p.parquet` beside the workspace: predictions for all of them."""
    folder = tmp_path_factory.mktemp("foreign")
    catalog = make_home(folder, samples=72)
    with catalog.commit(author="ada", message="splits") as change:
        keys = change.now.samples()["key"].to_pylist()
        split = [SPLITS[number // 4 % 3] for number in range(len(keys))]
        change.add_attributes(pa.table({"key": keys, "split": split}))
    generator = np.random.default_rng(0)
    columns = {
        "key": keys, "color": generator.dirichlet(np.ones(3), len(keys)).tolist(), "car": generator.random(len(keys)),
        "bike": generator.random(len(keys)) < 0.1, "speed": 50 * generator.random(len(keys)),
    }  # fmt: skip
    pq.write_table(pa.table(columns), folder / "p.parquet")
    return catalog


@pytest.fixture
def mine(home: Catalog, tmp_path: Path) -> Catalog:
    """A copy to change."""
    return copy_home(home, tmp_path)


@pytest.fixture(scope="module")
def imported(home: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A copy that holds the run of a model whose training images are unknown."""
    catalog = copy_home(home, tmp_path_factory.mktemp("imported"))
    import_predictions(catalog, file_of(home), name="theirs", author="bo")
    return catalog


def file_of(home: Catalog) -> Path:
    return home.home.parent / "p.parquet"


def keys_of(catalog: Catalog, split: str) -> list[str]:
    with catalog.read() as now:
        samples = now.samples()
    return [str(key) for key in samples["key"].filter(pc.equal(samples["split"], split)).to_pylist()]


def the_run(catalog: Catalog) -> Imported:
    with catalog.read() as now:
        return Imported.open(catalog.home, now.runs()["run"][0].as_py())


def asked(catalog: Catalog, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert run([*words, "--home", str(catalog.home), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_an_import_is_a_run_with_figures(imported: Catalog) -> None:
    made = the_run(imported)
    assert made.tasks == {"color": 72, "car": 72, "bike": 72, "speed": 72}
    with imported.read() as now:
        (entry,) = now.runs().to_pylist()
        figures = now.runs.slice_errors(made.id).to_pylist()
        stored = pq.read_table(now.runs.predictions_file(imported.home, made.id))
    assert entry["plan"] == ""
    assert {row["task"] for row in figures} == set(made.tasks)
    assert {row["slice"] for row in figures if row["n"]} >= {"", "yellow", "night"}
    car = stored.filter(pc.equal(stored["task"], "car"))
    likely = pc.greater_equal(pc.list_element(car["probabilities"], 1), 0.5)
    assert pc.all(pc.equal(likely, pc.equal(car["code"], 1))).as_py()


def test_the_same_file_again_changes_nothing(home: Catalog, mine: Catalog) -> None:
    first = import_predictions(mine, file_of(home), name="theirs", author="bo")
    with mine.read() as now:
        before = now.digest
    again = import_predictions(mine, file_of(home), name="theirs", author="bo")
    with mine.read() as now:
        assert now.digest == before
    assert again.run == first.run
    rows = [sorted(map(str, part.figures.to_pylist())) for part in (first, again)]
    assert rows[0] == rows[1]
    assert import_predictions(mine, file_of(home), name="another", author="bo").run.id != first.run.id


def test_a_declared_training_list_guards_against_leaks(home: Catalog, mine: Catalog, tmp_path: Path) -> None:
    listed = tmp_path / "keys.txt"
    listed.write_text("\n".join([*keys_of(mine, "train"), "elsewhere/1"]))
    made = import_predictions(mine, file_of(home), name="theirs", author="bo", trained_on=listed)
    assert made.run.trained_on == "declared"
    assert made.notes == ("1 of the 25 training images are no samples of the catalog",)
    page = write_report(mine, made.run.id, tmp_path / "r.html").read_text()
    assert "trained on: unknown" not in page
    assert "25 images, as declared" in page
    leak = pa.table({"key": keys_of(mine, "train")[:1], "group": ["drive-0"]})
    with mine.commit(author="ada", message="a leak") as change:
        change.add_attributes(leak)
    for judge in (
        lambda: evaluate_imported(mine, made.run, author="bo"),
        lambda: write_report(mine, made.run.id, tmp_path / "r.html"),
        lambda: import_predictions(mine, file_of(home), name="theirs", author="bo", trained_on=listed),
    ):
        with pytest.raises(BadInput, match="group 'drive-0' is in training and in evaluation"):
            judge()


def test_a_training_list_of_test_images_or_of_other_names_is_refused(
    home: Catalog, mine: Catalog, tmp_path: Path
) -> None:
    listed = tmp_path / "keys.txt"
    listed.write_text(keys_of(mine, "test")[0])
    with pytest.raises(BadInput, match="is in training and in evaluation"):
        import_predictions(mine, file_of(home), name="theirs", author="bo", trained_on=listed)
    listed.write_text("a.jpg\nb.jpg")
    with pytest.raises(BadInput, match="none of its 2 keys is a sample"):
        import_predictions(mine, file_of(home), name="theirs", author="bo", trained_on=listed)
    assert not (mine.home / "runs").exists()


def test_a_bad_file_writes_nothing(
    home: Catalog, mine: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mine.read() as now:
        before = now.digest
    (tmp_path / "p.csv").write_text("key,car\npictures/00000,0.5\npictures/00000,0.5\n")
    words = ["predictions", "import", str(tmp_path / "p.csv"), "--author", "bo", "--home", str(mine.home), "--name"]
    assert run([*words, "theirs"]) == 2
    assert "p.csv line 3: sample 'pictures/00000' is predicted for car twice" in capsys.readouterr().err
    assert run([*words, " "]) == 2
    assert run([*words, "theirs", "--task", "truck"]) == 2
    assert run([*words, "theirs", "--trained-on", str(tmp_path / "nowhere.txt")]) == 2
    with mine.read() as now:
        assert now.digest == before
    assert not (mine.home / "runs").exists()


def test_unknown_stands_beside_each_figure(
    imported: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (entry,) = asked(imported, capsys, "runs")
    assert (entry["model"], entry["trained_on"], entry["plan"]) == ("theirs", "unknown", "")
    assert {row["trained_on"] for row in entry["figures"]} == {"unknown"}
    assert run(["runs", "--home", str(imported.home)]) == 0
    assert "trained on" in capsys.readouterr().out
    page = write_report(imported, the_run(imported).id, tmp_path / "r.html").read_text()
    rows = page[page.index('<section id="figures"') :].split("</section>")[0]
    shown = asked(imported, capsys, "evaluate", the_run(imported).id, "--author", "bo")["figures"]
    with_data = [row for row in shown if row["split"] == "test" and row["value"] is not None]
    assert rows.count("trained on: unknown") == len(with_data)
    assert "It is unknown what theirs was trained on" in page
    assert 'id="training"' not in page
    assert 'id="plan"' not in page


def test_owners_change_a_rule_and_judge_again(home: Catalog, mine: Catalog, capsys: pytest.CaptureFixture[str]) -> None:
    made = import_predictions(mine, file_of(home), name="theirs", author="bo").run
    assert run(["tasks", "redefine", "car", "--decide", "true=0.99", "--author", "bo", "--home", str(mine.home)]) == 0
    capsys.readouterr()
    again = asked(mine, capsys, "evaluate", made.id[:6], "--author", "bo")
    assert again["trained_on"] == "unknown"
    stored = pq.read_table(mine.home / "runs" / made.id / "predictions.parquet")
    car = stored.filter(pc.equal(stored["task"], "car"))
    assert (
        pc.sum(car["code"]).as_py() == pc.sum(pc.greater_equal(pc.list_element(car["probabilities"], 1), 0.99)).as_py()
    )


def test_what_needs_weights_says_so(imported: Catalog) -> None:
    made = the_run(imported)
    with pytest.raises(BadInput, match="was imported, so it has no plan, recipe or weights"):
        Run.open(imported.home, made.id[:5])


def test_requests_slices_and_differences_read_it(
    home: Catalog, mine: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    made = import_predictions(mine, file_of(home), name="theirs", author="bo").run
    named = import_named(mine, "named")
    assert asked(
        mine, capsys, "slices", "add", "sure", "pred.car.value AND pred.car.confidence > 0.8", "--author", "bo"
    )
    with mine.read() as now:
        predictions = str(now.runs.predictions_file(mine.home, made.id))
        sure = now.members(now.slices()["sure"].predicate, predictions=predictions)
        assert 0 < len(sure) < len(now.samples())
    for run_ in (made.id, named.id):
        requests = asked(mine, capsys, "request", "--budget", "12", "--run", run_, "--author", "bo")
        assert {row["run"] for row in requests} >= {run_}
        assert {"mined", "random"} <= {row["arm"] for row in requests}
    assert asked(mine, capsys, "diff", made.id, named.id)


def import_named(catalog: Catalog, name: str) -> Imported:
    """A run that names classes without probabilities, for a part of the samples."""
    path = catalog.home.parent / f"{name}.csv"
    lines = [f"{key},{('red', 'yellow', 'green')[number % 3]}" for number, key in enumerate(keys_of(catalog, "train"))]
    path.write_text("\n".join(["key,color", *lines]))
    return import_predictions(catalog, path, name=name, author="bo").run


def test_forgetting_an_image_reaches_predictions_and_training_lists(
    home: Catalog, mine: Catalog, tmp_path: Path
) -> None:
    listed = tmp_path / "keys.txt"
    trained = keys_of(mine, "train")
    listed.write_text("\n".join(trained))
    made = import_predictions(mine, file_of(home), name="theirs", author="bo", trained_on=listed).run
    assert forget(mine, trained[0], author="bo").runs == (made.id,)
    found = Imported.open(mine.home, made.id)
    assert trained[0] not in (found.trained(mine.home) or pa.array([])).to_pylist()
    with mine.read() as now:
        stored = pq.read_table(now.runs.predictions_file(mine.home, made.id))
        (entry,) = list_runs(mine.home, now)
    assert trained[0] not in stored["key"].to_pylist()
    assert entry.withdrawn
    assert [check.fault for check in verify_files(mine.home)] == [""] * 6


def test_a_changed_training_list_is_damaged(home: Catalog, mine: Catalog, tmp_path: Path) -> None:
    listed = tmp_path / "keys.txt"
    listed.write_text("\n".join(keys_of(mine, "train")))
    made = import_predictions(mine, file_of(home), name="theirs", author="bo", trained_on=listed).run
    pq.write_table(pa.table({"key": ["pictures/00001"]}), mine.home / "runs" / made.id / "trained_on.parquet")
    with pytest.raises(Damaged):
        made.trained(mine.home)
    assert any("trained_on.parquet" in check.fault for check in verify_files(mine.home))


def test_the_report_shows_the_slice_over_all_runs(home: Catalog, mine: Catalog, tmp_path: Path) -> None:
    for name in ("first", "second"):
        made = import_predictions(mine, file_of(home), name=name, author="bo").run
    page = write_report(mine, made.id, tmp_path / "r.html").read_text()
    part = page[page.index('<section id="runs"') :].split("</section>")[0]
    assert "first" in part
    assert "second" in part
    assert "this run" in part
    assert "yellow" in part
    assert "amber predictions import" in page[page.index('<section id="next"') :]
