"""Verbs that read lists and write files: what they accept, and what they say."""

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.refusals import refused

from amber.cli import run
from curation.catalog.catalog import Catalog

Capture = pytest.CaptureFixture[str]


def classes() -> tuple[str, ...]:
    with Catalog.open("home").read() as now:
        return now.task("color").classes


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "words", [["red,yellow,green,blue"], ["red, yellow, green, blue"], ["red", "yellow,green", "blue"],
              ["red", "yellow", "green", "blue"]],
)  # fmt: skip
def test_classes_are_separated_by_spaces_or_commas(words: list[str]) -> None:
    assert run(["tasks", "redefine", "color", *words]) == 0
    assert classes() == ("red", "yellow", "green", "blue")


@pytest.mark.usefixtures("folder")
def test_a_class_may_have_a_comma_in_its_name() -> None:
    with Catalog.open("home").commit(author="ada", message="comma") as change:
        old = change.now.task("color")
        change.redefine_task(old.model_copy(update={"classes": (*old.classes, "red, dim")}), {})
    assert run(["tasks", "redefine", "color", "red,yellow", "green", "red, dim"]) == 0
    assert classes() == ("red", "yellow", "green", "red, dim")


REDEFINED = {
    "an empty name": (["color", "red,,green"], "'red,,green'"),
    "a pair without =": (["color", "red", "green", "--became", "yellow"], "'yellow'"),
    "a task that is unknown": (["colour", "red"], "'colour'"),
    "a class that is missing": (["color", "red,green"], "'yellow'"),
    "a class twice": (["color", "red,red,yellow,green"], "classes"),
}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("words", "value"), REDEFINED.values(), ids=REDEFINED)
def test_a_wrong_redefinition_is_named(words: list[str], value: str, capsys: Capture) -> None:
    run(["oracle"])
    run(["request", "--budget", "40", "--random-share", "1"])
    run(["oracle"])
    capsys.readouterr()
    assert value in refused(capsys, "tasks", "redefine", *words)


@pytest.mark.usefixtures("folder")
def test_labels_are_written_as_csv_where_the_name_says_so(capsys: Capture) -> None:
    run(["request", "--budget", "10", "--random-share", "1"])
    run(["oracle"])
    for name in ("labels.csv", "labels.CSV", "labels.parquet"):
        assert run(["write", "labels", name]) == 0
    rows = list(csv.DictReader(Path("labels.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == pq.read_metadata("labels.parquet").num_rows >= 10
    assert {row["text"] for row in rows} <= {"red", "yellow", "green"}
    assert Path("labels.CSV").read_bytes() == Path("labels.csv").read_bytes()
    assert Path("labels.parquet").read_bytes()[:4] == b"PAR1"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("columns", ["80", "120"])
def test_redirected_tables_are_as_wide_as_asked(columns: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for words in (["coverage"], ["tasks"], ["slices"], ["log"]):
        assert run(words) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= int(columns)


@pytest.mark.usefixtures("folder")
def test_json_has_full_precision(capsys: Capture) -> None:
    assert run(["coverage", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cells"]
