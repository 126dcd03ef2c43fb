"""Every Arrow type in a table is read, or refused in one line."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pytest
from support.sources import Json, content, draw, ingested

from curation.errors import AmberError


def arrow(folder: Path, columns: dict[str, Any]) -> Json:
    table = pa.table(columns)
    with ipc.new_file(folder / "t.arrow", table.schema) as file:
        file.write_table(table)
    return {"kind": "tables", "images": "images", "table": [{"file": "t.arrow", "rows": "samples"}]}


ATTRIBUTES = {
    "float16": (pa.array([np.float16(1.5)], pa.float16()), 1.5),
    "decimal32": (pa.array([Decimal("1.5")], pa.decimal32(5, 2)), 1.5),
    "decimal256": (pa.array([Decimal("1.5")], pa.decimal256(50, 2)), 1.5),
    "uint64": (pa.array([7], pa.uint64()), 7),
    "large_string": (pa.array(["x"], pa.large_string()), "x"),
    "string_view": (pa.array(["x"], pa.string_view()), "x"),
    "dictionary": (pa.array(["x"], pa.large_string()).dictionary_encode(), "x"),
    "run_end_encoded": (pa.RunEndEncodedArray.from_arrays(pa.array([1], pa.int32()), pa.array(["x"])), "x"),
    "json": (pa.ExtensionArray.from_storage(pa.json_(), pa.array(["[1]"])), "[1]"),
    "bool8": (pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1], pa.int8())), 1),
    "date32": (pa.array([date(2026, 7, 1)]), datetime(2026, 7, 1)),
    "timestamp": (pa.array([datetime(2026, 7, 1, tzinfo=UTC)], pa.timestamp("ns", "UTC")), datetime(2026, 7, 1)),
}
REFUSED = {
    "duration": pa.array([timedelta(1)]),
    "time": pa.array([time(1)]),
    "interval": pa.array([pa.MonthDayNano([1, 2, 3])]),
    "struct": pa.array([{"a": 1}]),
    "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    "list": pa.array([[1]]),
    "list_view": pa.array([[1]], pa.list_view(pa.int64())),
    "binary": pa.array([b"x"]),
    "binary_view": pa.array([b"x"], pa.binary_view()),
    "fixed_size_binary": pa.array([b"x"], pa.binary(1)),
    "uuid": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16], pa.binary(16))),
    "union": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])]),
}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_of_every_type(name: str, tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg"])
    column, expected = ATTRIBUTES[name]
    reader = arrow(tmp_path, {"path": ["a.jpg"], "note": column})
    assert content(tmp_path, reader).samples["note"].to_pylist() == [expected]
    assert ingested(tmp_path, reader).samples == 1


@pytest.mark.parametrize("name", REFUSED)
def test_types_that_are_no_attribute_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg"])
    with pytest.raises(AmberError, match=r"^t.arrow[^\n]*; [^\n]*$"):
        ingested(tmp_path, arrow(tmp_path, {"path": ["a.jpg"], "note": REFUSED[name]}))


@pytest.mark.parametrize(
    "type_",
    [
        pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float32(), 2), pa.list_view(pa.float32()),
        pa.large_list_view(pa.float32()), pa.list_(pa.int8()),
    ],
    ids=str,
)  # fmt: skip
def test_vectors_of_every_list_type(type_: pa.DataType, tmp_path: Path) -> None:
    reader = arrow(tmp_path, {"path": ["a.jpg"], "embedding:clip": pa.array([[1, 2]], type_)})
    assert content(tmp_path, reader).embeddings["clip"].to_pylist() == [{"key": "d/a", "vector": [1.0, 2.0]}]


def test_vectors_of_halves(tmp_path: Path) -> None:
    halves = pa.array([[np.float16(1), np.float16(2)]], pa.list_(pa.float16()))
    reader = arrow(tmp_path, {"path": ["a.jpg"], "embedding:clip": halves})
    assert content(tmp_path, reader).embeddings["clip"]["vector"].to_pylist() == [[1.0, 2.0]]


@pytest.mark.parametrize("type_", [pa.list_(pa.large_string()), pa.large_list(pa.string()), pa.list_view(pa.string())])
def test_classes_of_every_list_type(type_: pa.DataType, tmp_path: Path) -> None:
    found = content(tmp_path, arrow(tmp_path, {"path": ["a.jpg"], "things": pa.array([["tree"]], type_)}))
    assert found.labels["names"].to_pylist() == [["tree"]]


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def test_the_image_of_hugging_face_is_read_by_its_path(tmp_path: Path) -> None:
    image = pa.array([{"bytes": b"x", "path": "a.jpg"}], IMAGE)
    found = content(tmp_path, arrow(tmp_path, {"image": image, "wet": [True]}))
    assert found.samples["location"].to_pylist() == [f"{tmp_path}/images/a.jpg"]


@pytest.mark.parametrize(
    "image",
    [
        pa.array([{"bytes": b"x", "path": None}], IMAGE),
        pa.array([{"bytes": b"x"}]),
        pa.array([b"\xff\xd8"]),
        pa.array([["a.jpg"]]),
    ],
    ids=["no path", "bytes alone", "binary", "list"],
)
def test_images_inside_a_table_are_refused_in_one_line(image: pa.Array, tmp_path: Path) -> None:
    with pytest.raises(AmberError, match=r"^t.arrow[^\n]*; [^\n]*$"):
        content(tmp_path, arrow(tmp_path, {"image": image, "wet": [True]}))


NESTED = {
    "list of lists": pa.array([[[1.0]]]), "list of texts": pa.array([["a"]]), "list of structs": pa.array([[{"a": 1}]]),
    "list of nulls": pa.array([[None]]), "list of bytes": pa.array([[b"\xff"]]), "bytes": pa.array([b"\xff\xfe"]),
    "empty list": pa.array([[]], pa.list_(pa.float32())), "null": pa.nulls(1), "nan": pa.array([float("nan")]),
}  # fmt: skip
LABELS = {"things": ["tree"], "color": ["red"], "speed": ["1"], "objects": ["[]"]}
BOX = {
    "class": ["car"],
    "x": [1],
    "y": [1],
    "w": [1],
    "h": [1],
    "occluded": [True],
    "camera": ["front"],
    "group": ["g"],
}
BOXES = {"rows": "boxes", "task": "objects", "attributes": ["occluded"], "of_image": ["camera"]}
ROLES: list[tuple[str, Json, Json]] = [
    *((name, {}, {"rows": "samples"}) for name in (*LABELS, "wet", "note", "group", "captured_at", "key")),
    *(("value", {"task": [task]}, {"rows": "labels"}) for task in LABELS),
    *(
        (name, {"task": ["things"], "value": ["tree"]}, {"rows": "labels"})
        for name in ("task", "state", "annotator", "confidence", "labelled_at", "looked")
    ),
    *((name, BOX, BOXES) for name in (*BOX, "path")),
    ("embedding:clip", {}, {"rows": "samples"}),
]


@pytest.mark.parametrize(
    ("name", "others", "options"), ROLES, ids=[f"{role[0]} {row}" for row, role in enumerate(ROLES)]
)
def test_every_type_in_every_role_is_read_or_refused_in_one_line(
    name: str, others: Json, options: Json, tmp_path: Path
) -> None:
    for column in [*(made for made, _ in ATTRIBUTES.values()), *REFUSED.values(), *NESTED.values()]:
        reader = arrow(tmp_path, {"path": ["a.jpg"], **others, name: column})
        reader["table"][0] |= options
        assert "\n" not in refusal(tmp_path, reader)


def refusal(folder: Path, reader: Json) -> str:
    """The message with which the reader refuses the file, or ""."""
    try:
        content(folder, reader)
    except AmberError as error:
        return str(error)
    return ""
