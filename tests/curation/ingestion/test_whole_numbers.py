"""Whole numbers above 2^53 keep every digit, from the reader to slices, writers and the mirror."""

import csv
import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.sources import declared, draw

from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from curation.fiftyone_app.columns import Overlay, columns_of, field_types
from curation.ingestion.ingest import ingest
from curation.ingestion.writers import write_csv, write_parquet

FIRST, SECOND = 1234567890123456789, 1234567890123456788
"""Two ids that float64 rounds to one number."""


def write_text(path: Path, values: list[Any]) -> Path:
    rows = [["location", "track_id"], *([f"{row}.png", value] for row, value in enumerate(values))]
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    (path / "t.csv").write_text(out.getvalue())
    return path / "t.csv"


def write_columns(type_: pa.DataType) -> Callable[[Path, list[Any]], Path]:
    def write(path: Path, values: list[Any]) -> Path:
        names = [f"{row}.png" for row in range(len(values))]
        pq.write_table(pa.table({"location": names, "track_id": pa.array(values, type_)}), path / "t.parquet")
        return path / "t.parquet"

    return write


def write_frames(path: Path, values: list[Any]) -> Path:
    """Scalabel: attributes in JSON."""
    frames = [{"name": f"{row}.png", "attributes": {"track_id": value}} for row, value in enumerate(values)]
    (path / "t.json").write_text(json.dumps(frames))
    return path / "t.json"


FORMS = {
    "csv": write_text,
    "int64": write_columns(pa.int64()),
    "uint64": write_columns(pa.uint64()),
    "decimal": lambda path, values: write_columns(pa.decimal128(38, 0))(path, [Decimal(value) for value in values]),
    "json": write_frames,
}


def ingested(folder: Path, file: Path, samples: int = 2) -> Catalog:
    draw(folder, [f"{row}.png" for row in range(samples)])
    reader: dict[str, Any] = {"kind": "tables", "images": "images", "table": [{"file": file.name, "rows": "samples"}]}
    if file.suffix == ".json":
        reader = {"kind": "scalabel", "images": "images", "file": file.name, "task": "objects"}
    catalog = Catalog.create(folder / "home")
    ingest(catalog, declared(folder, reader), author="ada")
    return catalog


def track_ids(catalog: Catalog) -> list[Any]:
    with catalog.read() as now:
        return [now.attribute("track_id")["value"].to_pylist(), now.attributes()["track_id"]]


@pytest.mark.parametrize("form", FORMS)
def test_two_ids_stay_two_numbers(form: str, tmp_path: Path) -> None:
    catalog = ingested(tmp_path, FORMS[form](tmp_path, [FIRST, SECOND]))
    assert track_ids(catalog) == [[FIRST, SECOND], "integer"]
    with catalog.commit(author="ada", message="slice") as change:
        part = change.add_slice("one", f"track_id = {SECOND}")
        assert change.now.members(part.predicate).tolist() == [1]
    catalog.compact()
    assert track_ids(catalog)[0] == [FIRST, SECOND]


@pytest.mark.parametrize("form", ["csv", "uint64", "json"])
def test_a_number_above_64_bits_is_refused_in_one_line(form: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"track_id = 9223372036854775808 .*as text") as error:
        ingested(tmp_path, FORMS[form](tmp_path, [1, 2**63]))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("values", [[1, 2**63 + 1], [Decimal("0.5"), FIRST]])
def test_decimals_that_would_be_rounded_are_refused(values: list[Any], tmp_path: Path) -> None:
    write = write_columns(pa.decimal128(30, 1))
    with pytest.raises(BadInput, match=f"track_id = {values[1]} would be rounded"):
        ingested(tmp_path, write(tmp_path, [Decimal(value) for value in values]))


@pytest.mark.parametrize("form", ["csv", "json"])
def test_ids_beside_fractions_are_refused(form: str, tmp_path: Path) -> None:
    values: list[Any] = [FIRST, 0.5]
    with pytest.raises(BadInput, match=f"track_id = {FIRST} would be rounded"):
        ingested(tmp_path, FORMS[form](tmp_path, values))


@pytest.mark.parametrize("values", [[f"{FIRST}.0", f"{SECOND}.0"], [f"{FIRST}.", "7"], ["0.5", f"{FIRST}.00"]])
def test_ids_with_a_point_are_refused(values: list[str], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"track_id = {FIRST} would be rounded"):
        ingested(tmp_path, write_text(tmp_path, values))


def test_two_tables_of_which_one_has_fractions_are_refused(tmp_path: Path) -> None:
    draw(tmp_path, ["0.png", "1.png"])
    for row, value in enumerate(["0.5", str(FIRST)]):
        (tmp_path / f"{row}.csv").write_text(f"location,track_id\n{row}.png,{value}\n")
    tables = [{"file": f"{row}.csv", "rows": "samples"} for row in range(2)]
    with pytest.raises(BadInput, match=f"track_id = {FIRST} would be rounded"):
        ingest(
            Catalog.create(tmp_path / "home"),
            declared(tmp_path, {"kind": "tables", "images": "images", "table": tables}),
            author="ada",
        )


@pytest.mark.parametrize("form", ["csv", "int64", "uint64", "json"])
def test_small_whole_numbers_remain_numbers(form: str, tmp_path: Path) -> None:
    values = [2**53, 7 if form == "uint64" else -(2**53)]
    assert track_ids(ingested(tmp_path, FORMS[form](tmp_path, values))) == [values, "number"]


def test_what_an_attribute_holds_later(tmp_path: Path) -> None:
    catalog = ingested(tmp_path, FORMS["csv"](tmp_path, [FIRST, SECOND]))
    for later in ([7], [7.0], [-(2**63)]):
        with catalog.commit(author="ada", message="later") as change:
            change.add_attributes(pa.table({"key": ["d/0"], "track_id": later}))
        assert track_ids(catalog)[0] == [int(later[0]), SECOND]
    with catalog.commit(author="ada", message="a number") as change:
        change.add_attributes(pa.table({"key": ["d/0"], "speed": [12]}))
    for name, wrong in (("track_id", [0.5]), ("track_id", [2.0**60]), ("speed", [FIRST]), ("track_id", ["x"])):
        with (
            pytest.raises(BadInput, match=f"attribute {name}: is a"),
            catalog.commit(author="a", message="m") as change,
        ):
            change.add_attributes(pa.table({"key": ["d/0"], name: wrong}))


def test_a_revert_gives_the_number_back(tmp_path: Path) -> None:
    catalog = ingested(tmp_path, FORMS["csv"](tmp_path, [FIRST, SECOND]))
    with catalog.commit(author="ada", message="later") as change:
        change.add_attributes(pa.table({"key": ["d/0"], "track_id": [7]}))
        wrong = change.id
    with catalog.commit(author="ada", message="back") as change:
        change.revert(wrong)
    assert track_ids(catalog)[0] == [FIRST, SECOND]


def test_writers_and_the_mirror_keep_every_digit(tmp_path: Path) -> None:
    catalog = ingested(tmp_path, FORMS["csv"](tmp_path, [FIRST, SECOND]))
    with catalog.read() as now:
        write_csv(now, tmp_path / "out.csv")
        write_parquet(now, tmp_path / "out.parquet")
        scene = Overlay()
        assert field_types(now, scene)["attr_track_id"] == "integer"
        assert columns_of(now, scene, lambda key, location: None)["attr_track_id"] == [FIRST, SECOND]
    rows = csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text()))
    assert [row["track_id"] for row in rows] == [str(FIRST), str(SECOND)]
    assert pq.read_table(tmp_path / "out.parquet")["track_id"].to_pylist() == [FIRST, SECOND]


@pytest.mark.parametrize("form", ["csv", "long"])
def test_a_regression_label_is_not_rounded(form: str, tmp_path: Path) -> None:
    draw(tmp_path, ["0.png"])
    text, rows = f"location,speed\n0.png,{FIRST}\n", "samples"
    if form == "long":
        text, rows = f"location,task,value\n0.png,speed,{FIRST}\n", "labels"
    (tmp_path / "t.csv").write_text(text)
    reader = {"kind": "tables", "images": "images", "table": [{"file": "t.csv", "rows": rows}]}
    with pytest.raises(BadInput, match=f"= {FIRST} would be rounded"):
        ingest(Catalog.create(tmp_path / "home"), declared(tmp_path, reader), author="ada")
