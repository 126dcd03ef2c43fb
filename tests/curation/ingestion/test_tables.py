"""Tables in CSV, Parquet and Arrow: wide, long, one row for each box; types, times, lines; tables after the images."""

import csv
import math
import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.sources import content, declared, draw, label_rows

from curation.catalog.catalog import Catalog
from curation.errors import AmberError, BadInput
from curation.images.embeddings import Embeddings
from curation.ingestion.ingest import ingest
from curation.ingestion.readers.content import Content
from curation.ingestion.readers.image_paths import key_of
from curation.ingestion.readers.table_files import read_source_table
from curation.ingestion.readers.table_rows import keys_of


def read(folder: Path, text: str | bytes, rows: str = "samples", name: str = "t.csv", **options: Any) -> Content:
    """The content of a table; options of the reader itself are recognised by their names."""
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    own = {name: options.pop(name) for name in ("timezone", "annotator", "images", "held_back") if name in options}
    return content(folder, {"kind": "tables", "table": [{"file": name, "rows": rows, **options}], **own})


def test_a_wide_table(tmp_path: Path) -> None:
    text = (
        "path,color,wet,speed,things,weather,lanes,night\na/1.jpg,red,1,12.5,tree; house,rain,2,true\na/2.JPG,,,,,,,\n"
    )
    found = read(tmp_path, text, images="images")
    assert found.samples.to_pylist() == [
        {
            "key": "d/a/1", "location": f"{tmp_path}/images/a/1.jpg", "weather": "rain", "lanes": 2.0, "night": True,
        },
        {"key": "d/a/2", "location": f"{tmp_path}/images/a/2.JPG", "weather": None, "lanes": None, "night": None},
    ]  # fmt: skip
    assert label_rows(found, "task", "text", "number", "names", "origin") == [
        ("color", "red", None, None, "t.csv line 2"),
        ("wet", "true", None, None, "t.csv line 2"),
        ("speed", None, 12.5, None, "t.csv line 2"),
        ("things", None, None, ["tree", "house"], "t.csv line 2"),
    ]


def test_a_long_table(tmp_path: Path) -> None:
    text = (
        "key,task,value,state,annotator,confidence,labelled_at\n"
        "d/1,color,red,,ann,0.5,2026-07-01 12:00\n"
        "d/1,things,[],known,,,\n"
        "d/2,speed,7,,bob,,\n"
        "d/2,color,,unsure,bob,,\n"
        "d/3,color,?,,bob,,\n"
        "d/3,other,x,,bob,,\n"
    )
    found = read(tmp_path, text, rows="labels", timezone="Europe/Berlin", annotator="vendor", unsure=["?"])
    assert found.samples.num_rows == 0
    columns = ("key", "task", "state", "text", "number", "names", "annotator", "confidence", "labelled_at", "origin")
    assert sorted(label_rows(found, *columns), key=lambda row: row[-1]) == [
        ("d/1", "color", "known", "red", None, None, "ann", 0.5, datetime(2026, 7, 1, 10), "t.csv line 2"),
        ("d/1", "things", "known", None, None, [], "vendor", None, None, "t.csv line 3"),
        ("d/2", "speed", "known", None, 7.0, None, "bob", None, None, "t.csv line 4"),
        ("d/2", "color", "unsure", None, None, None, "bob", None, None, "t.csv line 5"),
        ("d/3", "color", "unsure", None, None, None, "bob", None, None, "t.csv line 6"),
        ("d/3", "other", "known", "x", None, None, "bob", None, None, "t.csv line 7"),
    ]


def test_a_long_table_with_a_column_for_each_kind(tmp_path: Path) -> None:
    boxes = '"[{""class"": ""car"", ""x"": 1, ""y"": 2, ""w"": 3, ""h"": 4}]"'
    head = "key,task,text,number,names,boxes\n"
    text = f"{head}a,color,red,,,\nb,speed,,1.5,,\nc,things,,,tree;house,\nd,objects,,,,{boxes}\n"
    found = read(tmp_path, text, rows="labels")
    assert label_rows(found, "text", "number", "names") == [
        ("red", None, None), (None, 1.5, None), (None, None, ["tree", "house"]), (None, None, None),
    ]  # fmt: skip
    assert found.labels["boxes"].to_pylist()[3][0]["class"] == "car"


def test_one_row_for_each_box(tmp_path: Path) -> None:
    text = (
        "file,kind,x1,y1,x2,y2,occluded,lamp,camera\n"
        "b.jpg,auto,1,2,4,6,true,,front\n"
        "a.jpg,light,0,0,2,2,,red,left\n"
        "b.jpg,light,5,5,6,6,,,front\n"
        "b.jpg,dog,5,5,6,6,,,front\n"
        "c.jpg,,,,,,,,left\n"
    )
    found = read(
        tmp_path, text, rows="boxes", task="objects", label="kind", form="corners", box=["x1", "y1", "x2", "y2"],
        attributes=["occluded", "lamp"], of_image=["camera"], rename={"auto": "car"}, leave_out=["dog"],
    )  # fmt: skip
    assert found.samples.select(["key", "camera"]).to_pylist() == [
        {"key": "d/b", "camera": "front"}, {"key": "d/a", "camera": "left"}, {"key": "d/c", "camera": "left"},
    ]  # fmt: skip
    labels = label_rows(found, "key", "origin", "boxes")
    assert [(key, origin, [tuple(box.values()) for box in boxes]) for key, origin, boxes in labels] == [
        ("d/a", "t.csv line 3", [("light", 0.0, 0.0, 2.0, 2.0, [("lamp", "red")])]),
        (
            "d/b",
            "t.csv line 2",
            [("car", 1.0, 2.0, 3.0, 4.0, [("occluded", "true")]), ("light", 5.0, 5.0, 1.0, 1.0, None)],
        ),
        ("d/c", "t.csv line 6", []),
    ]  # fmt: skip


def test_images_without_a_box_can_mean_none(tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("path,class,x,y,w,h\na.jpg,car,1,1,2,2\n")
    (tmp_path / "all.csv").write_text("path\na.jpg\nb.jpg\n")
    tables = [
        {"file": "all.csv", "rows": "samples"},
        {"file": "boxes.csv", "rows": "boxes", "task": "objects", "missing": "none"},
    ]
    found = content(tmp_path, {"kind": "tables", "table": tables})
    assert [(key, len(boxes)) for key, boxes in label_rows(found, "key", "boxes")] == [("d/a", 1), ("d/b", 0)]


def test_named_columns(tmp_path: Path) -> None:
    text = "id;where;Colour;Weather Type;junk\nk1;a.jpg;rot;NA;1\n"
    found = read(
        tmp_path, text, delimiter=";", key="id", location="where", tasks={"Colour": "color"}, leave_out=["junk"],
        unknown=["", "NA"], types={"Weather Type": "text"},
    )  # fmt: skip
    assert found.samples.column_names == ["key", "location"]
    assert label_rows(found, "key", "task", "text") == [("k1", "color", "rot")]


@pytest.mark.parametrize(
    ("cells", "types", "expected"),
    [
        (["1", "2.5", "-3e2"], {}, [1.0, 2.5, -300.0]),
        (["+1", " 2 ", "nan"], {}, [1.0, 2.0, math.nan]),
        (["007", "123"], {}, ["007", "123"]),
        (["True", "false"], {}, [True, False]),
        (["1", "0"], {"x": "flag"}, [True, False]),
        (["1", "2"], {"x": "text"}, ["1", "2"]),
        (["2026-07-01T12:00:00+02:00", "2026-07-01T10:00:00Z"], {}, [datetime(2026, 7, 1, 10)] * 2),
        (["2026-07-01 12:00:00.123456789"], {}, [datetime(2026, 7, 1, 12, 0, 0, 123456)]),
        (["2026-07-01"], {}, [datetime(2026, 7, 1)]),
        (["a", "1"], {}, ["a", "1"]),
    ],
)
def test_an_attribute_has_the_type_of_all_its_cells(
    cells: list[str], types: dict[str, str], expected: list[Any], tmp_path: Path
) -> None:
    text = "key,x\n" + "".join(f"{row},{cell}\n" for row, cell in enumerate(cells))
    found = read(tmp_path, text, types=types).samples["x"].to_pylist()
    assert [str(value) for value in found] == [str(value) for value in expected]


def test_times_are_local_times_of_the_named_zone(tmp_path: Path) -> None:
    found = read(tmp_path, "key,captured_at\n1,2026-01-01 12:00\n2,2026-07-01 12:00\n", timezone="Europe/Berlin")
    assert found.samples["captured_at"].to_pylist() == [datetime(2026, 1, 1, 11), datetime(2026, 7, 1, 10)]


FAULTS: dict[str, tuple[str | bytes, dict[str, Any], str]] = {
    "no such column": ("key,wether\n1,a\n", {"attributes": ["weather"]}, "did you mean 'wether'"),
    "no key and no path": ("name,color\n1,red\n", {}, "no column 'key'"),
    "a text without a line": ("a text", {}, "cannot be read as CSV"),
    "a blank first line": ("\nkey,color\n", {}, "line 1: names no columns"),
    "an empty key": ("key,color\n1,red\n,red\n", {}, "line 3: key is empty"),
    "an empty path": ("path,color\n1.jpg,red\n ,red\n", {}, "line 3: path is empty"),
    "a key twice": ("key,color\n1,red\n2,red\n1,green\n", {}, "line 4: '1' is in t.csv line 2"),
    "two paths of a key": ("path,color\na.jpg,red\na.png,red\n", {}, "line 3: 'd/a' is in t.csv line 2"),
    "two columns of a name": ("key,color,color\n1,red,red\n", {}, "two columns 'color'"),
    "two columns of one attribute": ("key,A b,a_b\n1,red,red\n", {}, "second a_b"),
    "too many values": ('key,note\n1,"a\nb"\n2,b,c\n', {}, "line 4: has 3 values"),
    "too few values": ("key,color,x\n1,red,2\n\n2,red\n", {}, "line 4: has 2 values"),
    "an open quote": ('key,color\n1,red\n2,"red\n3,red\n', {}, "line 3: a quote opens"),
    "another delimiter": ("key;color\n1;red\n", {}, "delimiter = ';'"),
    "Latin 1": ("key,color\n1,red\n2,grün\n".encode("latin-1"), {}, "line 3: is not UTF-8"),
    "UTF-16": ("key,color\n1,red\n".encode("utf-16"), {}, "line 1: is not UTF-8"),
    "nothing": ("", {}, "is empty"),
    "no row": ("key,color\n", {}, "hold no row"),
    "a word for a number": ("key,speed\n1,2\n\n2,fast\n", {}, "line 4: speed = 'fast' is no number"),
    "a comma in a number": ('key,speed\n1,"1,5"\n', {}, "line 2: speed = '1,5'"),
    "broken boxes": ("key,objects\n1,[{]\n", {}, "line 2: not valid JSON"),
    "no boxes": ("key,objects\n1,car\n", {}, "line 2: objects = 'car'"),
    "a box without a side": ('key,objects\n1,"[{""class"": ""car"", ""x"": 1}]"\n', {}, "line 2:.* is no box"),
    "offsets in part": (
        "key,captured_at\n1,2026-07-01T12:00:00Z\n2,2026-07-01T12:00:00\n", {}, "line 3: .*00' has no offset",
    ),
    "an hour that was skipped": (
        "key,captured_at\n1,2026-03-29 02:30\n", {"timezone": "Europe/Berlin"}, "line 2: .* twice or never",
    ),
    "an hour that was twice": (
        "key,captured_at\n1,2026-10-25 02:30\n", {"timezone": "Europe/Berlin"}, "line 2: .* twice or never",
    ),
    "not a time": ("key,captured_at\n1,2026-07-01\n2,yesterday\n", {}, "line 3: 'yesterday' is not a time"),
    "an impossible day": ("key,captured_at\n1,2026-02-30\n", {}, "line 2: '2026-02-30' is not a time"),
    "a path outside": ("path,color\na/../../b.jpg,red\n", {}, "line 2: .* lies outside"),
    "a drive of Windows": ("path,color\nC:\\b.jpg,red\n", {}, "line 2: .*Windows"),
    "an unknown zone": ("key,color\n1,red\n", {"timezone": "Berlin"}, "not a time zone"),
    "an unknown format": ("key,color\n1,red\n", {"name": "t.xlsx"}, "must be .csv"),
    "no Parquet": ("key,color\n1,red\n", {"name": "t.parquet"}, "cannot be read"),
    "vectors in a CSV": ("key,embedding:clip\n1,0.5\n", {}, "write them to Parquet"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "options", "why"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named_in_one_line(text: str | bytes, options: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=rf"^[^\n]*{why}[^\n]*$") as refusal:
        read(tmp_path, text, **options)
    assert re.search(r"[;?]", str(refusal.value))


def test_a_long_table_without_a_column_for_values(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no column 'value'"):
        read(tmp_path, "key,task\n1,color\n", rows="labels")


def test_two_rows_of_one_image_must_agree(tmp_path: Path) -> None:
    text = "path,class,x,y,w,h,camera\na.jpg,car,1,1,2,2,front\na.jpg,car,1,1,2,2,left\n"
    with pytest.raises(BadInput, match=r"'d/a': camera is 'front' .* 'left'"):
        read(tmp_path, text, rows="boxes", task="objects", of_image=["camera"])


@given(
    st.lists(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1), min_size=2, max_size=2)
    )
)
def test_lines_are_those_of_an_editor(cells: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.csv")
        starts = []
        with path.open("w", newline="", encoding="utf-8") as file:
            write = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow
            write(["a", "b"])
            for row in cells:
                file.flush()
                starts.append(path.read_text("utf-8").count("\n") + 1)
                write(row)
                file.write("\n")
        source = read_source_table(Path(folder), "t.csv")
        assert source.numbers.to_pylist() == starts
        assert [list(row.values()) for row in source.table.to_pylist()] == cells


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0"), min_size=1)))
def test_keys_of_a_column_are_those_of_its_names(names: list[str]) -> None:
    named = [*names, *(f"{name}.jpg" for name in names), "a/.jpg", "/a/b.PNG", "a\\b.jpg", "https://x/y.jpg"]
    assert keys_of("d", pa.chunked_array([named])).to_pylist() == [key_of("d", name) for name in named]


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow", "t.feather", "t.ipc"])
def test_typed_columns(name: str, tmp_path: Path) -> None:
    table = pa.table(
        {
            "key": pa.array(["a", "b"]).dictionary_encode(),
            "wet": [True, None],
            "color": pa.array([1, 2], pa.int8()),
            "speed": pa.array([1, 2], pa.int32()),
            "things": [["tree"], []],
            "captured_at": pa.array([datetime(2026, 7, 1, tzinfo=UTC)] * 2, pa.timestamp("ns", "Europe/Berlin")),
            "lanes": pa.array([1, 2], pa.decimal128(5, 2)),
            "note": pa.array(["x", "y"], pa.large_string()),
            "embedding:clip": pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)),
        }
    )
    if name == "t.parquet":
        pq.write_table(table, tmp_path / name)
    else:
        stream = ipc.new_stream if name == "t.ipc" else ipc.new_file
        with stream(tmp_path / name, table.schema) as file:
            file.write_table(table)
    found = content(tmp_path, {"kind": "tables", "table": [{"file": name, "rows": "samples"}]})
    assert found.samples.drop_columns(["location"]).to_pylist()[0] == {
        "key": "a", "captured_at": datetime(2026, 7, 1), "lanes": 1.0, "note": "x",
    }  # fmt: skip
    assert label_rows(found, "task", "text", "number", "names", "origin")[0] == (
        "wet",
        "true",
        None,
        None,
        f"{name} row 1",
    )
    assert found.labels["names"].to_pylist()[-2:] == [["tree"], []] or ["tree"] in found.labels["names"].to_pylist()
    assert found.embeddings["clip"].to_pylist() == [{"key": "a", "vector": [1.0, 2.0]}]


# Tables after the images


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """A catalog that holds the images d/images/a and d/images/b."""
    draw(tmp_path, ["a.jpg", "b.jpg"])
    catalog = Catalog.create(tmp_path / "home")
    ingest(catalog, declared(tmp_path, {"kind": "image_folder", "folder": "images"}), author="ada")
    return catalog


def later(tmp_path: Path, name: str) -> Any:
    return declared(tmp_path, {"kind": "tables", "table": [{"file": name, "rows": "samples"}]})


def test_attributes_and_labels_come_later(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "later.csv").write_text("key,weather,color\nd/a,rain,red\nd/b,sun,\n")
    done = ingest(catalog, later(tmp_path, "later.csv"), author="bob")
    assert (done.samples, done.new, done.labels) == (2, 0, 1)
    (tmp_path / "later.csv").write_text("key,weather,color\nd/a,rain,green\nd/b,sun,\n")
    assert ingest(catalog, later(tmp_path, "later.csv"), author="bob").commit == done.commit + 1
    with catalog.read() as now:
        assert sorted(now.samples()["key"].to_pylist()) == ["d/a", "d/b"]


@pytest.mark.parametrize("by", ["near_duplicates", "given"])
def test_a_later_table_keeps_the_splits(by: str, catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "later.csv").write_text("key,weather\nd/a,rain\n")
    reader = {"kind": "tables", "table": [{"file": "later.csv", "rows": "samples"}]}
    with catalog.read() as now:
        before = now.samples()["split"].to_pylist()
    ingest(catalog, declared(tmp_path, reader, split={"by": by}), author="bob")
    with catalog.read() as now:
        assert now.samples()["split"].to_pylist() == before


def test_an_unreadable_image_is_quarantined_with_its_labels(tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg", "b.jpg"])
    (tmp_path / "images" / "b.jpg").write_text("no image")
    vectors = pa.array([[1.0], [2.0]])
    table = pa.table({"path": ["a.jpg", "b.jpg"], "color": ["red", "green"], "embedding:clip": vectors})
    pq.write_table(table, tmp_path / "t.parquet")
    reader = {"kind": "tables", "images": "images", "table": [{"file": "t.parquet", "rows": "samples"}]}
    catalog = Catalog.create(tmp_path / "home")
    done = ingest(catalog, declared(tmp_path, reader), author="ada")
    assert (done.samples, done.labels, len(done.quarantined)) == (1, 1, 1)
    assert Embeddings.open(catalog.home, "clip").keys == ["d/a"]


def test_a_later_table_needs_its_image(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "later.csv").write_text("key,weather\nd/a,rain\nd/z,sun\n")
    with pytest.raises(AmberError, match=r"^[^\n]*'d/z'[^\n]*ingest the image first$"):
        ingest(catalog, later(tmp_path, "later.csv"), author="bob")


def test_embeddings_come_later(catalog: Catalog, tmp_path: Path) -> None:
    def add(keys: list[str], vectors: Any) -> None:
        pq.write_table(pa.table({"key": keys, "embedding:clip": vectors}), tmp_path / "v.parquet")
        ingest(catalog, later(tmp_path, "v.parquet"), author="bob")

    add(["d/a"], [[1.0, 2.0, 3.0]])
    add(["d/b", "d/a"], [[4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    found = Embeddings.open(catalog.home, "clip")
    assert np.asarray(found.vectors[found.rows(["d/a", "d/b"])]).tolist() == [[7, 8, 9], [4, 5, 6]]
    for vectors, why in (
        ([[1.0, 2.0]], "3 numbers so far, here 2"),
        ([[1.0, math.inf, 3.0]], "'d/a': numbers must be finite"),
        ([[1e6, 1.0, 3.0]], "below 65504"),
    ):
        with pytest.raises(BadInput, match=why):
            add(["d/a"], vectors)
    with pytest.raises(BadInput, match="'d/z': no such sample"):
        add(["d/z"], [[1.0, 2.0, 3.0]])
    with pytest.raises(BadInput, match="the same length"):
        add(["d/a", "d/b"], [[1.0, 2.0, 3.0], [1.0]])


def test_a_given_split_must_be_given(tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg", "b.jpg"])
    (tmp_path / "t.csv").write_text("path,split\na.jpg,val\nb.jpg,\n")
    reader = {"kind": "tables", "images": "images", "table": [{"file": "t.csv", "rows": "samples"}]}
    data = declared(tmp_path, reader, split={"by": "given"})
    with pytest.raises(BadInput, match=r"d/b has no split; give it one"):
        ingest(Catalog.create(tmp_path / "home"), data, author="ada")
    (tmp_path / "t.csv").write_text("path,split\na.jpg,val\nb.jpg,training\n")
    catalog = Catalog.create(tmp_path / "home")
    ingest(catalog, data, author="ada")
    with catalog.read() as now:
        assert sorted(now.samples()["split"].to_pylist()) == ["train", "validation"]
