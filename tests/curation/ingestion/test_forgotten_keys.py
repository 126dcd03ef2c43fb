"""What was forgotten does not come back: not with an ingest, nor with later labels, vectors or a restored backup."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.homes import sample_rows
from support.pictures import picture
from support.sources import declared, draw

from amber.cli import run
from curation.catalog.admin.backup import export, restore
from curation.catalog.admin.verification import verify
from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from curation.images.embeddings import Embeddings
from curation.ingestion.ingest import Ingested, ingest

FOLDER = {"kind": "image_folder", "folder": "images"}


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """Three images, of which `d/b` was forgotten."""
    draw(tmp_path, ["a.png", "b.png", "c.png"])
    catalog = Catalog.create(tmp_path / "home")
    ingest(catalog, declared(tmp_path, FOLDER), author="ada")
    with catalog.commit(author="ada", message="forget") as change:
        change.forget("d/b", predictions={})
    return catalog


def keys(catalog: Catalog) -> list[str]:
    with catalog.read() as now:
        assert now.forgotten(pa.array(["d/a", "d/b", "d/b"])) == ["d/b"]
        return [str(key) for key in now.samples()["key"].to_pylist()]


def again(catalog: Catalog, folder: Path, reader: dict[str, Any] | None = None) -> Ingested:
    return ingest(catalog, declared(folder, reader or FOLDER), author="ada")


def test_the_folder_with_another_image(catalog: Catalog, tmp_path: Path) -> None:
    draw(tmp_path, ["a.png", "b.png", "c.png", "e.png"])
    done = again(catalog, tmp_path)
    assert (done.new, done.forgotten, keys(catalog)) == (1, ("d/b",), ["d/a", "d/c", "d/e"])


def test_the_forgotten_image_with_other_bytes(catalog: Catalog, tmp_path: Path) -> None:
    picture(7).save(tmp_path / "images" / "b.png")
    assert (again(catalog, tmp_path).forgotten, keys(catalog)) == (("d/b",), ["d/a", "d/c"])


def test_the_command_line_names_it(catalog: Catalog, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dataset.toml").write_text(
        'name = "d"\ntitle = "t"\nlicence = "l"\nsource = "s"\n[reader]\nkind = "image_folder"\nfolder = "images"\n'
        '[split]\nby = "group"\n[[task]]\nname = "wet"\nkind = "binary"\nowner = "bob"\n'
    )
    draw(tmp_path, ["e.png"])
    assert run(["ingest", str(tmp_path), "--home", str(catalog.home), "--author", "ada"]) == 0
    assert "left out d/b: was forgotten" in capfd.readouterr().err


def test_labels_attributes_and_vectors_that_come_later(catalog: Catalog, tmp_path: Path) -> None:
    vectors = pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32()))
    rows = {"key": ["d/a", "d/b"], "color": ["red", "green"], "lanes": [1, 2], "embedding_clip": vectors}
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    table = {"file": "t.parquet", "rows": "samples", "embeddings": {"embedding_clip": "clip"}}
    done = again(catalog, tmp_path, {"kind": "tables", "table": [table]})
    assert (done.labels, done.forgotten) == (1, ("d/b",))
    assert Embeddings.open(catalog.home, "clip").keys == ["d/a"]


def test_a_commit_from_python(catalog: Catalog, tmp_path: Path) -> None:
    rows = sample_rows(["d/b"], [tmp_path / "images" / "b.png"])
    with (
        pytest.raises(BadInput, match=r"'d/b': was forgotten .* must not come back"),
        catalog.commit(author="ada", message="back") as change,
    ):
        change.add_samples(rows, dataset="d")


def test_a_restored_backup_keeps_it_out(catalog: Catalog, tmp_path: Path) -> None:
    export(catalog, tmp_path / "backup")
    restore(tmp_path / "other", tmp_path / "backup")
    draw(tmp_path, ["e.png"])
    other = Catalog.open(tmp_path / "other")
    assert (again(other, tmp_path).forgotten, keys(other)) == (("d/b",), ["d/a", "d/c", "d/e"])


def test_verify_finds_one_that_came_back(catalog: Catalog) -> None:
    with catalog.backend.writing() as connection:
        connection.execute("UPDATE sample SET key = 'd/b' WHERE key = 'd/a'")
    assert "a forgotten key is a sample again: d/b" in [check.fault for check in verify(catalog)]
