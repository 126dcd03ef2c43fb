"""Quarantine of entries that a reader refuses: the rest goes in, and a table names file, entry, value and rule."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from support.sources import CLASSES, FORMATS, Json, Scene, content, draw, ingested

from amber.cli import run
from curation.errors import AmberError

NAMES = ("a.jpg", "b.jpg", "c.jpg")
SCENES = [Scene(name, [("car", 1.0, 2.0, 10.0, 4.0)]) for name in NAMES]


def edit(path: Path, change: object) -> None:
    document = json.loads(path.read_text())
    change(document)  # type: ignore[operator]
    path.write_text(json.dumps(document))


def bad_coco(folder: Path) -> str:
    edit(folder / "coco.json", lambda found: found["annotations"][0].update(category_id=99))
    return "category_id = 99"


def bad_coco_form(folder: Path) -> str:
    edit(folder / "coco.json", lambda found: found["annotations"][0].update(bbox=[1, 2]))
    return ""


def bad_scalabel(folder: Path) -> str:
    edit(folder / "scalabel.json", lambda found: found["frames"][0]["labels"][0].update(box2d={"x1": 1}))
    return ""


def bad_yolo(folder: Path) -> str:
    (folder / "labels" / "a.txt").write_text("car 1 2 3 4\n")
    return "'car 1 2 3 4'"


def bad_fiftyone(folder: Path) -> str:
    edit(folder / "samples.json", lambda found: found["samples"][0]["truth"]["detections"][0].pop("label"))
    return "{'_cls': 'Detection'"


def bad_label_studio(folder: Path) -> str:
    edit(folder / "export.json", lambda found: found[0]["annotations"][0]["result"][0].update(image_rotation=90))
    return "image_rotation = 90:"


def bad_voc(folder: Path) -> str:
    (folder / "xml" / "a.xml").write_text("<annotation><object/></annotation>")
    return ""


def bad_csv(folder: Path) -> str:
    path = folder / "boxes.csv"
    path.write_text(path.read_text().replace("a.jpg,car,1.0", "a.jpg,car,one"))
    return "x = 'one'"


BAD = {
    "coco": bad_coco, "coco form": bad_coco_form, "scalabel": bad_scalabel, "yolo": bad_yolo,
    "fiftyone": bad_fiftyone, "label_studio": bad_label_studio, "voc": bad_voc, "csv": bad_csv,
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_one_bad_entry_goes_aside_and_the_rest_goes_in(name: str, tmp_path: Path) -> None:
    draw(tmp_path, NAMES)
    reader = FORMATS[name.split()[0]](tmp_path, SCENES)
    value = BAD[name](tmp_path)
    with pytest.raises(AmberError):
        ingested(tmp_path, reader)
    found = ingested(tmp_path, reader, quarantine=True)
    assert found.labels == 2
    assert found.samples >= 2
    (aside,) = found.aside
    assert aside.value.startswith(value)
    assert aside.file
    assert aside.rule
    assert [reason for _, reason in found.quarantined] == [aside.reason]


ROWS = {
    "a word for a number": ("d.jpg,red,fast", "speed = 'fast'", 4),
    "no path": (",red,1", "", 3),
    "a path outside": ("../d.jpg,red,1", "'../d.jpg'", 3),
    "a path twice": ("a.jpg,red,1", "'d/a'", 3),
    "too many values": ("d.jpg,red,1,2", "", 3),
}


@pytest.mark.parametrize("name", ROWS)
def test_one_bad_row_goes_aside(name: str, tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg", "b.jpg", "d.jpg"])
    row, value, labels = ROWS[name]
    (tmp_path / "t.csv").write_text(f"path,color,speed\na.jpg,red,\n{row}\nb.jpg,green,2\n")
    reader = {"kind": "tables", "images": "images", "table": [{"file": "t.csv", "rows": "samples"}]}
    found = ingested(tmp_path, reader, quarantine=True)
    (aside,) = found.aside
    assert (aside.file, aside.entry, aside.value) == ("t.csv", "line 3", value)
    assert found.labels == labels


TABLES: dict[str, tuple[str, bytes | pa.Table, str, str]] = {
    "a number above 64 bits": ("t.csv", b"path,n\na.jpg,99999999999999999999\nb.jpg,1\n", "line 2", "n = 9999"),
    "a number of 5,000 digits": ("t.csv", b"path,n\na.jpg," + b"9" * 5_000 + b"\nb.jpg,1.5\n", "line 2", "n = 1000"),
    "a whole number beside fractions": ("t.csv", b"path,n\na.jpg,9007199254740993\nb.jpg,1.5\n", "line 2", "n = 9007"),
    "a label that would be rounded": ("t.csv", b"path,speed\na.jpg,9007199254740993\n", "line 2", "speed = 9007"),
    "an unsigned number": (
        "t.parquet", pa.table({"path": ["a.jpg"], "n": pa.array([2**64 - 1], pa.uint64())}), "row 1", "n = 1844",
    ),
    "bytes that are no text": ("t.csv", b"path,color\na.jpg,red\nb.jpg,\xff\n", "line 3", ""),
    "an open quote": ("t.csv", b'path,color\na.jpg,red\nb.jpg,"red\nd.jpg,red\n', "line 3", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_a_bad_cell_goes_aside_and_its_table_goes_in(name: str, tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg", "b.jpg", "d.jpg"])
    file, rows, entry, value = TABLES[name]
    if isinstance(rows, bytes):
        (tmp_path / file).write_bytes(rows)
    else:
        pq.write_table(rows, tmp_path / file)
    reader = {"kind": "tables", "images": "images", "table": [{"file": file, "rows": "samples"}]}
    with pytest.raises(AmberError):
        ingested(tmp_path, reader)
    (aside,) = ingested(tmp_path, reader, quarantine=True).aside
    assert (aside.file, aside.entry, aside.value[: len(value)]) == (file, entry, value)


def parts(folder: Path) -> Json:
    (folder / "p").mkdir()
    (folder / "p" / "a.csv").write_text("path,color\na.jpg,red\nb.jpg,red\nd.jpg,green\n")
    (folder / "p" / "b.csv").write_bytes(b"\xff\xfe")
    return {"kind": "tables", "images": "images", "table": [{"file": "p/*.csv", "rows": "samples"}]}


def two_values(folder: Path) -> Json:
    (folder / "s.csv").write_text("path,weather\na.jpg,dry\nb.jpg,dry\nd.jpg,dry\n")
    (folder / "t.csv").write_text("path,weather\na.jpg,wet\n")
    tables = [{"file": file, "rows": "samples"} for file in ("s.csv", "t.csv")]
    return {"kind": "tables", "images": "images", "table": tables}


def no_utf8(folder: Path) -> Json:
    (Path(os.fsdecode(os.fsencode(folder) + b"/images/\xff.jpg"))).write_bytes(b"")
    return {"kind": "image_folder", "folder": "images"}


def broken_shard(folder: Path) -> Json:
    reader = FORMATS["webdataset"](folder, [Scene(name, [("car", 1.0, 2.0, 10.0, 4.0)]) for name in NAMES])
    whole = next(folder.glob("shard-*.tar"))
    (folder / "shard-z.tar").write_bytes(whole.read_bytes()[:700])
    return reader


def far_time(folder: Path) -> Json:
    frames = [{"name": name, "timestamp": 10**17 if name == "d.jpg" else None} for name in ("a.jpg", "b.jpg", "d.jpg")]
    (folder / "s.json").write_text(json.dumps([*frames, {"name": "c.jpg"}]))
    return {"kind": "scalabel", "file": "s.json", "images": "images", "task": "objects"}


FILES = {
    "one of several files": parts, "two values": two_values, "a name that is not UTF-8": no_utf8,
    "one of several shards": broken_shard, "a time beyond the calendar": far_time,
}  # fmt: skip


@pytest.mark.parametrize("fill", FILES.values(), ids=FILES)
def test_a_bad_file_goes_aside_and_the_others_go_in(fill: Callable[[Path], Json], tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    reader = fill(tmp_path)
    with pytest.raises(AmberError):
        ingested(tmp_path, reader)
    found = ingested(tmp_path, reader, quarantine=True)
    assert len(found.aside) == 1
    assert found.samples >= 3


def test_samples_without_a_sound_split_go_aside(tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg", "b.jpg", "d.jpg"])
    (tmp_path / "t.csv").write_text("path,color,split\na.jpg,red,train\nb.jpg,red,\nd.jpg,red,traim\n")
    reader = {"kind": "tables", "images": "images", "table": [{"file": "t.csv", "rows": "samples"}]}
    with pytest.raises(AmberError, match="d/b has no split; give it one"):
        ingested(tmp_path, reader, split={"by": "given"})
    found = ingested(tmp_path, reader, quarantine=True, split={"by": "given"})
    assert (found.samples, found.labels) == (1, 1)
    assert [aside.value for aside in found.aside] == ["d/b", "d/d: split 'traim'"]


def test_lines_after_refused_rows_are_right(tmp_path: Path) -> None:
    text = 'path,color\na.jpg,red\nb.jpg,"x\ny",2\nc.jpg,red,3\n\nd.jpg,blue\n'
    draw(tmp_path, ["a.jpg", "d.jpg"])
    (tmp_path / "t.csv").write_text(text)
    reader = {"kind": "tables", "images": "images", "table": [{"file": "t.csv", "rows": "samples"}]}
    found = ingested(tmp_path, reader, quarantine=True)
    assert sorted(aside.entry for aside in found.aside) == ["line 3", "line 5", "line 7"]


def test_the_command_writes_the_table_and_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data"
    draw(folder, NAMES)
    FORMATS["yolo"](folder, SCENES)
    (folder / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n7 0.5 0.5 0.2 0.2\n")
    declaration: Json = {"names": list(CLASSES), "train": "images"}
    (folder / "data.yaml").write_text(yaml.safe_dump(declaration))
    (folder / "dataset.toml").write_text(
        'name = "d"\ntitle = "t"\nlicence = "l"\nsource = "s"\n[reader]\nkind = "yolo"\ntask = "objects"\n'
        '[[task]]\nname = "objects"\nkind = "detection"\nclasses = ["car", "light"]\nowner = "o"\n'
        '[split]\nby = "group"\ntest = 0.2\n'
    )
    home, table = ["--home", str(tmp_path / "home"), "--author", "ada"], tmp_path / "aside.csv"
    assert run(["ingest", str(folder), *home]) == 2
    assert "labels/a.txt line 2: class 7 is not among" in capsys.readouterr().err
    assert run(["ingest", str(folder), "--quarantine", "--aside", str(table), *home]) == 2
    assert "3 samples (3 new), 2 labels, 0 held back, 1 quarantined" in capsys.readouterr().out
    with table.open() as file:
        assert list(csv.DictReader(file)) == [
            {
                "file": "labels/a.txt", "entry": "line 2", "value": "class 7",
                "rule": "is not among the 2 names of data.yaml (0 to 1)",
            }
        ]  # fmt: skip


def test_without_quarantine_the_first_bad_entry_stops_all(tmp_path: Path) -> None:
    draw(tmp_path, NAMES)
    reader = FORMATS["coco"](tmp_path, SCENES)
    bad_coco(tmp_path)
    with pytest.raises(AmberError, match=r"^coco.json annotation \d+: category_id = 99 is no category"):
        content(tmp_path, reader)
