"""One bad row in a table of labels: it is named, and the other rows go in only if quarantine is requested."""

import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from support.homes import copy_home, label, labels, make_home
from support.lamps import declare
from support.paths import python_environment

from amber.cli import run
from curation import AmberError, BadInput, Catalog, Damaged

NAN = float("nan")
BAD = {
    "an unknown sample": {"key": "nowhere"},
    "an unknown task": {"task": "colour"},
    "no class": {"text": "purple"},
    "no state": {"state": "perhaps"},
    "not a number": {"task": "speed", "number": NAN},
    "no finite number": {"task": "speed", "number": float("-inf")},
    "a box outside": {"task": "things", "boxes": [{"class": "light", "x": 40.0, "y": 2.0, "w": 50.0, "h": 8.0}]},
    "a box of no width": {"task": "things", "boxes": [{"class": "light", "x": 2.0, "y": 2.0, "w": 0.0, "h": 8.0}]},
    "an inverted box": {"task": "things", "boxes": [{"class": "light", "x": 9.0, "y": 2.0, "w": -5.0, "h": 8.0}]},
    "a box of NaN": {"task": "things", "boxes": [{"class": "light", "x": NAN, "y": 2.0, "w": 5.0, "h": 8.0}]},
    "a box of no class": {"task": "things", "boxes": [{"class": "dog", "x": 2.0, "y": 2.0, "w": 5.0, "h": 8.0}]},
    "a confidence above one": {"confidence": 1.5},
    "no annotator": {"annotator": None},
}  # fmt: skip
ROWS = 40


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("rows"), samples=ROWS)


@pytest.fixture
def catalog(original: Catalog, tmp_path: Path) -> Catalog:
    return copy_home(original, tmp_path)


def batch(bad: dict[str, object], place: int = 17) -> pa.Table:
    rows = [
        {**label(f"pictures/{n:05d}", "color", "red", "eve"), "origin": f"labels.csv line {n}"} for n in range(ROWS)
    ]
    rows[place] |= bad
    return labels(rows)


def state(catalog: Catalog) -> tuple[str, dict[str, int]]:
    with catalog.read() as now:
        return now.digest, now.counts()


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_one_bad_row_stops_all_or_is_quarantined(catalog: Catalog, bad: dict[str, object]) -> None:
    before = state(catalog)
    with (
        pytest.raises(BadInput, match=r"^labels\.csv line 17: ") as caught,
        catalog.commit(author="eve", message="labels") as change,
    ):
        change.add_labels(batch(bad), source="human")
    assert "\n" not in str(caught.value)
    assert state(catalog) == before
    with catalog.commit(author="eve", message="labels") as change:
        assert change.add_labels(batch(bad), source="human", quarantine="labels") == ROWS - 1
    with catalog.read() as now:
        (aside,) = now.quarantine().to_pylist()
        assert aside["reason"] == str(caught.value)
        assert now.counts()["label_event"] == before[1]["label_event"] + ROWS - 1


def test_a_key_that_occurs_twice(catalog: Catalog) -> None:
    before = state(catalog)
    twice = batch({"key": "pictures/00018"})
    message = r"^labels\.csv line 17: .* is in this batch twice; keep one"
    with pytest.raises(BadInput, match=message), catalog.commit(author="eve", message="labels") as change:
        change.add_labels(twice, source="human")
    assert state(catalog) == before
    with catalog.commit(author="eve", message="labels") as change:
        assert change.add_labels(twice, source="human", quarantine="labels") == ROWS - 2


def test_one_bad_row_among_a_million(catalog: Catalog) -> None:
    count, bad = 1_000_000, 876_543
    texts = np.where(np.arange(count) == bad, "purple", "red")
    table = pa.table(
        {
            "sample_id": np.arange(count) % ROWS, "task": pa.array(["color"] * count), "text": pa.array(texts),
            "state": pa.array(["known"] * count), "annotator": pa.array(np.char.mod("p%d", np.arange(count) // ROWS)),
            "origin": pa.array(np.char.mod("labels.csv line %d", np.arange(count) + 2)),
        }
    )  # fmt: skip
    before = state(catalog)
    started = time.monotonic()
    with (
        pytest.raises(BadInput, match=rf"^labels\.csv line {bad + 2}: 'purple' of "),
        catalog.commit(author="eve", message="labels") as change,
    ):
        change.add_labels(table, source="human")
    assert time.monotonic() - started < 60
    assert state(catalog) == before


def test_times_with_and_without_a_zone_are_the_same_instant(catalog: Catalog) -> None:
    noon = datetime(2024, 7, 1, 12, 0)
    east = noon.replace(tzinfo=UTC).astimezone(timezone(timedelta(hours=5, minutes=30)))
    times = [
        pa.array([noon], pa.timestamp("us")), pa.array([east], pa.timestamp("us", tz="+05:30")),
        pa.array([noon.replace(tzinfo=UTC)], pa.timestamp("ns", tz="UTC")), pa.array([noon], pa.timestamp("s")),
        pa.array([noon.replace(tzinfo=UTC)], pa.timestamp("ms", tz="America/New_York")),
    ]  # fmt: skip
    for number, column in enumerate(times):
        key = f"pictures/{number:05d}"
        row = labels([label(key, "bike", True, "eve")])
        row = row.set_column(row.schema.get_field_index("labelled_at"), "labelled_at", column)
        with catalog.commit(author="ada", message="times") as change:
            change.add_attributes(pa.table({"key": [key], "captured_at": column}))
            change.add_labels(row, source="human")
    with catalog.read() as now:
        assert now.attribute("captured_at")["value"].to_pylist() == [noon] * len(times)
        rows = [row for row in now.labels.by_annotator("bike").to_pylist() if row["annotator"] == "eve"]
        assert [row["labelled_at"] for row in rows] == [noon] * len(times)


@pytest.mark.parametrize("words", [[], ["--quarantine"]], ids=["refused", "quarantined"])
def test_ingest_refuses_or_quarantines(tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    folder = declare(tmp_path / "data", counts=(20, 0, 20))
    (folder / "images" / "purple").mkdir()
    for number in range(4):
        shutil.copy(folder / "images" / "red" / f"{number:03d}.jpg", folder / "images" / "purple" / f"{number:03d}.jpg")
    call = ["ingest", str(folder), "--author", "ada", "--home", str(tmp_path / "home"), *words]
    for _ in range(2):
        assert run(call) == 2
        out, err = capsys.readouterr()
        with Catalog.open(tmp_path / "home").read() as now:
            samples = len(now.samples())
            aside = now.quarantine().to_pylist()
        if words:
            assert "4 quarantined" in out
            assert (samples, len(aside)) == (44, 4)
            assert all("'purple' of" in row["reason"] for row in aside)
        else:
            assert len([line for line in err.splitlines() if line.startswith("amber: ")]) == 1
            assert (samples, len(aside), (tmp_path / "home" / "oracle.parquet").exists()) == (0, 0, False)


def newer(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE meta SET value = '999'")


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = bytes(byte ^ 0x5A for byte in data[4096:])
    path.write_bytes(data)


def other(path: Path) -> None:
    path.unlink()
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE sample (id INTEGER)")


FILES = {
    "a newer schema": (newer, BadInput, "its schema is 999"),
    "a text file": (lambda path: path.write_text("id,label\n1,red\n"), Damaged, "restore a backup"),
    "an empty file": (lambda path: path.write_bytes(b""), Damaged, "catalog.duckdb"),
    "half a file": (lambda path: path.write_bytes(path.read_bytes()[:5000]), Damaged, "catalog.duckdb"),
    "flipped bytes": (flipped, Damaged, "restore a backup"),
    "somebody else's database": (other, Damaged, "is not a catalog of Amber"),
}


@pytest.mark.parametrize(("spoil", "error", "message"), FILES.values(), ids=FILES)
def test_a_file_that_is_not_a_catalog(
    catalog: Catalog, spoil: object, error: type[AmberError], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(catalog.file)
    before = catalog.file.read_bytes()
    with pytest.raises(error, match=message) as caught:
        Catalog.open(catalog.home)
    assert "\n" not in str(caught.value)
    assert run(["log", "--home", str(catalog.home)]) == error.exit_code
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert catalog.file.read_bytes() == before


def test_two_processes_at_once_lose_nothing(catalog: Catalog) -> None:
    code = """
import sys
from support.homes import label, labels
from curation import Catalog
catalog = Catalog.open(sys.argv[1])
for number in range(15):
    with catalog.commit(author=sys.argv[2], message="m", batch=f"{sys.argv[2]}-{number}") as change:
        change.add_labels(labels([label(f"pictures/{number:05d}", "car", True, sys.argv[2])]), source="human")
"""
    before = state(catalog)[1]
    words = [sys.executable, "-c", code, catalog.home]
    both = [
        subprocess.Popen([*words, who], stderr=subprocess.PIPE, text=True, env=python_environment())
        for who in ("ada", "bob")
    ]
    assert [process.communicate(timeout=120)[1] for process in both] == ["", ""]
    after = state(catalog)[1]
    assert (after["commits"], after["label_event"]) == (before["commits"] + 30, before["label_event"] + 30)
