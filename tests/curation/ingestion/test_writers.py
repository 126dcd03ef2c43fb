"""Exports for other programs: tables, COCO, and labels that read back unchanged."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from support.homes import copy_home, label, labels, make_home, sample_rows

from amber.cli import run
from curation import BadInput, Catalog, Task
from curation.ingestion.writers import WRITERS, write_coco, write_csv

BOX = {"class": "light", "x": 1.0, "y": 2.0, "w": 3.0, "h": 4.0, "attributes": [("occluded", "true"), ("iscrowd", "1")]}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Labels of every kind, some unsure, some of several people."""
    catalog = make_home(tmp_path_factory.mktemp("writers"), samples=40)
    with catalog.commit(author="ada", message="more") as change:
        change.add_tasks([Task(name="weather", kind="multilabel", classes=("rain", "fog", "snow"), owner="ada")])
        rows = [
            {**label("pictures/00001", "weather", None), "state": "known", "names": ["fog", "rain"]},
            {**label("pictures/00002", "weather", None), "state": "known", "names": []},
            label("pictures/00003", "weather", None),
            label("pictures/00004", "things", []),
            label("pictures/00005", "things", [BOX]),
            label("pictures/00001", "color", "green", "ada"),
            label("pictures/00002", "color", "red", "bob"),
            {**label("pictures/00003", "speed", 12.5, "ada"), "confidence": 0.5},
        ]
        change.add_labels(labels(rows), source="human")
    return catalog


def written(catalog: Catalog, kind: str, path: Path) -> Path:
    with catalog.read() as now:
        WRITERS[kind](now, path)
    return path


def test_a_table_holds_the_known_labels_of_each_sample(catalog: Catalog, tmp_path: Path) -> None:
    table = pq.read_table(written(catalog, "parquet", tmp_path / "all.parquet"))
    assert (len(table), table["weather"].type, table["car"].type) == (40, pa.list_(pa.string()), pa.bool_())
    rows = table.to_pylist()
    assert [rows[i]["weather"] for i in (1, 2, 3)] == [["rain", "fog"], [], None]
    assert [rows[i]["state.weather"] for i in (1, 3, 6)] == ["known", "unsure", "unknown"]
    assert (rows[4]["things"], rows[6]["things"], rows[5]["things"][0]["w"]) == ([], None, 3.0)
    with catalog.read() as now:
        known = [row["code"] for row in now.labels("color").to_pylist() if row["state"] == 1]
    assert [known.count(code) for code in range(3)] == [
        table["color"].to_pylist().count(name) for name in ("red", "yellow", "green")
    ]


def test_csv_holds_lists_as_json(catalog: Catalog, tmp_path: Path) -> None:
    rows = pacsv.read_csv(written(catalog, "csv", tmp_path / "all.csv")).to_pylist()
    assert (rows[1]["weather"], rows[2]["weather"], rows[6]["weather"]) == ('["rain", "fog"]', "[]", "")
    assert json.loads(rows[5]["things"])[0]["class"] == "light"


def test_coco_holds_only_labelled_images(catalog: Catalog, tmp_path: Path) -> None:
    content = json.loads(written(catalog, "coco", tmp_path / "coco.json").read_text())
    assert len(content["images"]) == 3
    assert content["categories"] == [{"id": 1, "name": "light"}]
    boxes = {tuple(each["bbox"]): each for each in content["annotations"]}
    assert boxes[1.0, 2.0, 3.0, 4.0]["attributes"] == {"occluded": "true"}
    assert (boxes[1.0, 2.0, 3.0, 4.0]["iscrowd"], boxes[2.0, 2.0, 5.0, 8.0]["iscrowd"]) == (1, 0)


def test_coco_needs_one_task_of_boxes(catalog: Catalog, tmp_path: Path) -> None:
    with catalog.read() as now, pytest.raises(BadInput, match="COCO holds the boxes of one detection task"):
        write_coco(now, tmp_path / "x.json", tasks=["color"])
    assert list(tmp_path.iterdir()) == []


def test_labels_read_back_unchanged(catalog: Catalog, tmp_path: Path) -> None:
    table = pq.read_table(written(catalog, "labels", tmp_path / "labels.parquet"))
    copy = Catalog.create(tmp_path / "copy")
    with catalog.read() as now, copy.commit(author="ada", message="again") as change:
        samples = now.samples()
        change.add_tasks(now.tasks().values())
        change.add_samples(
            sample_rows(samples["key"].to_pylist(), [Path(p) for p in samples["location"].to_pylist()]), dataset="d"
        )
        for source in ("import", "human"):
            change.add_labels(table.filter(pc.equal(table["source"], source)), source=source)
    with catalog.read() as now, copy.read() as again:
        for task in now.tasks():
            assert again.labels(task).to_pylist() == now.labels(task).to_pylist()
            kept = [name for name in now.labels.by_annotator(task).column_names if name != "commit_id"]
            assert (
                again.labels.by_annotator(task).select(kept).to_pylist()
                == now.labels.by_annotator(task).select(kept).to_pylist()
            )


def test_the_command_line_writes_a_part(catalog: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home, out = ["--home", str(catalog.home)], tmp_path / "part.parquet"
    assert run(["write", "parquet", str(out), "--slice", "night", "--split", "train", "--task", "color", *home]) == 0
    table = pq.read_table(out)
    assert set(table["split"].to_pylist()) == {"train"}
    assert set(table["night"].to_pylist()) == {True}
    assert "car" not in table.column_names
    assert f"{len(table)} rows" in capsys.readouterr().out
    assert run(["write", "csv", str(tmp_path / "x.csv"), "--slice", "nite", *home]) == 2
    assert "no such slice" in capsys.readouterr().err
    assert run(["write", "parquet", str(tmp_path / "empty.parquet"), "--commit", "0", *home]) == 0
    copy = copy_home(catalog, tmp_path)
    assert run(["write", "labels", str(copy.home), *home]) == 1


FORMULAS = ["=1+1", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_csv_holds_no_formulas_unless_they_are_kept(text: str, catalog: Catalog, tmp_path: Path) -> None:
    copy = copy_home(catalog, tmp_path)
    with copy.commit(author="eve", message="formula") as change:
        change.add_attributes(pa.table({"key": ["pictures/00001"], "note": [text]}))
    with copy.read() as now:
        write_csv(now, tmp_path / "safe.csv")
        write_csv(now, tmp_path / "kept.csv", formulas=True)
    parsing = pacsv.ParseOptions(newlines_in_values=True)
    converting = pacsv.ConvertOptions(column_types={"note": pa.string()})
    safe, kept = (
        pacsv.read_csv(tmp_path / name, parse_options=parsing, convert_options=converting)["note"].to_pylist()[1]
        for name in ("safe.csv", "kept.csv")
    )
    assert (safe, kept) == (f"'{text}", text)


def test_the_command_line_keeps_formulas_on_request(catalog: Catalog, tmp_path: Path) -> None:
    home = ["--home", str(catalog.home)]
    assert run(["write", "csv", str(tmp_path / "x.csv"), "--formulas", *home]) == 0
    assert run(["write", "parquet", str(tmp_path / "x.parquet"), "--formulas", *home]) == 2
