"""`amber similar`: keys, vectors and image files; pictures, tags and requests; and bad input."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.homes import work_in
from support.learned import WIDTH, make_features
from support.refusals import refused

from amber.cli import run
from amber.verbs.browse import browse_command
from curation.catalog.catalog import Catalog

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("similar")
    make_features(folder, samples=60)
    return folder


@pytest.fixture(autouse=True)
def inside(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_in(made, monkeypatch)


def found(capsys: Capture, *words: str) -> list[dict[str, object]]:
    capsys.readouterr()
    assert run(["similar", *words, "--json"]) == 0
    rows: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return rows


def test_images_like_a_sample_without_itself_and_of_one_split(capsys: Capture) -> None:
    rows = found(capsys, "pictures/00005", "-n", "4")
    assert len(rows) == 4
    assert "pictures/00005" not in [row["key"] for row in rows]
    assert rows == sorted(rows, key=lambda row: -float(str(row["similarity"])))
    with Catalog.open("home").read() as now:
        test = {row["key"] for row in now.samples().to_pylist() if row["split"] == "test"}
    assert {row["key"] for row in found(capsys, "pictures/00005", "--split", "test")} <= test


def test_they_are_tagged_requested_and_written_as_pictures(made: Path, capsys: Capture) -> None:
    rows = found(capsys, "pictures/00005", "-n", "3", "--tag", "alike", "--request", "bike", "--out", "alike.html")
    keys = {str(row["key"]) for row in rows}
    with Catalog.open("home").read() as now:
        tagged = now.attribute("tag_alike").filter(now.attribute("tag_alike")["value"])
        ids = {row["sample_id"]: row["key"] for row in now.samples().to_pylist()}
        assert {ids[row] for row in tagged["sample_id"].to_pylist()} == keys
        assert {row["key"] for row in now.requests("open").to_pylist()} == keys
    assert (made / "alike.html").read_text().count("<img") == 3


def test_they_are_opened_in_the_app_by_their_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, object]] = []
    monkeypatch.setattr(browse_command, "callback", lambda **words: calls.append(words))
    assert run(["similar", "pictures/00005", "-n", "3", "--tag", "near", "--app"]) == 0
    assert [words["view"] for words in calls] == ["tagged near"]


def test_a_vector_of_ones_own(made: Path, capsys: Capture) -> None:
    np.save(made / "wanted.npy", np.ones(WIDTH, np.float32))
    assert len(found(capsys, "wanted.npy", "-n", "2")) == 2


@pytest.mark.parametrize(
    ("words", "value", "fix"),
    [
        (["nothing"], "'nothing'", "correct it"),
        (["short.npy"], "vector of 3 numbers", "same model"),
        (["text.npy"], "'text.npy'", "numpy.save"),
        (["text.jpg"], "'text.jpg'", "name another"),
        (["pictures/00005", "--embeddings", "none"], "none", "amber train"),
        (["pictures/00005", "--request", "none"], "'none'", "amber tasks"),
        (["pictures/00005", "--app"], "--app", "--tag"),
    ],
)
def test_is_refused_in_one_line(made: Path, words: list[str], value: str, fix: str, capsys: Capture) -> None:
    np.save(made / "short.npy", np.ones(3, np.float32))
    for name in ("text.npy", "text.jpg"):
        (made / name).write_text("no image")
    line = refused(capsys, "similar", *words)
    assert value in line
    assert fix in line
