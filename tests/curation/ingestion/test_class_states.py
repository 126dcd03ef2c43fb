"""Tables whose labels of several classes say which were looked for."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.sources import content, label_rows

from curation.errors import BadInput
from curation.ingestion.readers.content import Content


def read(folder: Path, text: str | bytes, rows: str = "samples", name: str = "t.csv", **options: Any) -> Content:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return content(folder, {"kind": "tables", "table": [{"file": name, "rows": rows, **options}]})


def test_classes_that_nobody_looked_for(tmp_path: Path) -> None:
    """As an object of flags in a cell, in a map of Parquet, and as a column of a long table."""
    road = '{""tree"": true, ""house"": false}'
    wanted = [("things", ["tree"], ["house", "tree"]), ("things", ["tree"], None)]
    found = read(tmp_path, f'key,things\n1,"{road}"\n2,tree\n3,\n')
    assert label_rows(found, "task", "names", "looked") == wanted
    table = pa.table({"key": ["1", "3"], "things": pa.array([[("tree", True), ("house", False)], None],
                                                            pa.map_(pa.string(), pa.bool_()))})  # fmt: skip
    pq.write_table(table, tmp_path / "t.parquet")
    found = read(tmp_path, (tmp_path / "t.parquet").read_bytes(), name="t.parquet")
    assert label_rows(found, "task", "names", "looked") == wanted[:1]
    text = f'key,task,value,looked\n1,things,"{road}",\n2,things,tree,house;tree\n'
    found = read(tmp_path, text, "labels")  # an object says itself what was looked for, whatever the column says
    assert label_rows(found, "task", "names", "looked") == [wanted[0], wanted[0]]
    text = "key,task,value,looked\n1,things,tree,house;tree\n2,things,tree,\n"
    found = read(tmp_path, text, "labels")
    assert label_rows(found, "task", "names", "looked") == wanted


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ('"{""tree"": 2}"', "things: tree = 2 is neither true nor false; write one, or null"),
        ('"{""tree"": null}"', "says nothing of any class; leave the label out"),
        ('"{tree"', "t.csv line 2"),
    ],
)
def test_an_object_of_classes_that_is_none(cell: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        read(tmp_path, f"key,things\n1,{cell}\n")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
