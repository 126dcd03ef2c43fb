"""`amber drift`: between commits, dates and folders, in attributes, predictions and features."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.homes import make_home, sample_rows
from support.refusals import refused

from amber.cli import run
from curation.catalog.catalog import Catalog
from curation.images.embeddings import writing

Capture = pytest.CaptureFixture[str]
OLD, NEW = 200, 120


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 old images, and 120 new ones from a second camera, at night, that a model predicts and embeds otherwise."""
    folder = tmp_path_factory.mktemp("drifted")
    catalog = make_home(folder, samples=OLD)
    generator = np.random.default_rng(1)
    with catalog.commit(author="ada", message="camera") as change:
        keys = [f"pictures/{number:05d}" for number in range(OLD)]
        change.add_attributes(pa.table({"key": keys, "camera": ["one"] * OLD, "tilt": generator.normal(size=OLD)}))
    paths = [folder / "later" / f"{number:05d}.jpg" for number in range(NEW)]
    (folder / "later").mkdir()
    for number, path in enumerate(paths):
        path.write_bytes((folder / "images" / f"{number:05d}.jpg").read_bytes() + bytes([number]))
    with catalog.commit(author="ada", message="later") as change:
        new = [f"later/{number:05d}" for number in range(NEW)]
        change.add_samples(sample_rows(new, paths), dataset="later")
        groups = [f"later-{number // 4}" for number in range(NEW)]
        change.add_attributes(
            pa.table(
                {"key": new, "group": groups, "split": ["train"] * NEW, "night": generator.random(NEW) < 0.75,
                 "camera": ["two"] * NEW, "tilt": generator.normal(size=NEW)}
            )
        )  # fmt: skip
    predict(folder, keys, new, generator)
    return folder


def predict(folder: Path, keys: list[str], new: list[str], generator: np.random.Generator) -> None:
    """A model of color that is less sure of the new images, and an embedding in which they lie apart."""
    sure = np.r_[generator.uniform(0.8, 1, OLD), generator.uniform(0.4, 0.8, NEW)]
    rows = [f"{key},{p:.3f},{(1 - p) / 2:.4f},{(1 - p) / 2:.4f}" for key, p in zip([*keys, *new], sure, strict=True)]
    (folder / "theirs.csv").write_text("key,color.red,color.yellow,color.green\n" + "\n".join(rows) + "\n")
    words = ["predictions", "import", str(folder / "theirs.csv"), "--name", "theirs", "--author", "ada"]
    assert run([*words, "--home", str(folder / "home")]) == 0
    with writing(folder / "home", "toy", [*keys, *new], [("all", 6)]) as vectors:
        vectors[:] = generator.normal(size=(OLD + NEW, 6))
        vectors[OLD:, 2] += 3


@pytest.fixture(autouse=True)
def inside(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    monkeypatch.setenv("AMBER_HOME", "home")


def found(capsys: Capture, *words: str) -> dict[tuple[str, str], dict[str, object]]:
    assert run(["drift", *words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    return {(row["kind"], row["name"]): row for row in rows if row["q"] <= 0.05}


def test_what_arrived_since_differs_in_attributes_predictions_and_features(capsys: Capture) -> None:
    rows = found(capsys, "2", "3")
    assert {("attribute", "camera"), ("attribute", "night"), ("prediction", "confidence of color")} <= set(rows)
    assert any(kind == "features" for kind, _ in rows)
    assert ("attribute", "tilt") not in rows
    camera = rows["attribute", "camera"]
    assert (camera["before"]["two"], camera["after"]["two"]) == (0, 1)  # type: ignore[index]
    assert all(key.startswith("later/") for key in camera["examples"])  # type: ignore[attr-defined]
    assert rows["prediction", "confidence of color"]["effect"] < -0.5  # type: ignore[operator]


def test_folders_keys_and_dates_name_images_too(capsys: Capture) -> None:
    by_commit = found(capsys, "2", "3")
    assert found(capsys, "images", "later") == by_commit
    assert found(capsys, "pictures/", "later/") == by_commit
    assert run(["drift", "images", "later"]) == 0
    out = capsys.readouterr().out
    assert "images: 200 images of 50 groups" in out
    assert "camera" in out


def test_halves_of_the_same_images_do_not_differ(capsys: Capture) -> None:
    assert found(capsys, "pictures/000", "pictures/001") == {}


def test_too_few_groups_are_named(capsys: Capture) -> None:
    assert run(["drift", "pictures/0000", "pictures/0001"]) == 0
    assert "groups are too few" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "value", "fix"),
    [
        (["2", "99"], "commit 99", "amber log"),
        (["3", "2"], "commits 3 and 2", "swap them"),
        (["3", "4"], "no image arrived", "amber log"),
        (["1", "later"], "'later'", "choose alike"),
        (["1", "nonsense"], "'nonsense'", "must be a commit"),
        (["images", "home"], "'home'", "no image of the catalog"),
        (["images", "images"], "in both sets", "without a common image"),
        (["2", "3", "--run", "nine"], "'nine'", "amber runs"),
        (["2", "3", "--embeddings", "nothing"], "nothing", "amber train"),
    ],
)
def test_is_refused_in_one_line(words: list[str], value: str, fix: str, capsys: Capture) -> None:
    line = refused(capsys, "drift", *words)
    assert value in line
    assert fix in line


def test_a_run_that_predicts_none_of_the_new_images_is_refused(made: Path, capsys: Capture) -> None:
    rows = (made / "theirs.csv").read_text().splitlines()
    (made / "part.csv").write_text("\n".join(row for row in rows if not row.startswith("later/")) + "\n")
    words = ["predictions", "import", "part.csv", "--name", "part", "--author", "ada", "--json"]
    assert run(words) == 0
    id_ = json.loads(capsys.readouterr().out)["run"]
    assert f"run {id_}: predicts no image of one of the sets" in refused(capsys, "drift", "2", "3", "--run", id_)
    with Catalog.open("home").read() as now:
        assert now.runs()["run"].to_pylist()[-1] == id_
    assert found(capsys, "2", "3")  # by default it is left out
