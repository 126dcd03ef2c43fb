"""What was forgotten does not come back: not with an ingest, nor with later labels, vectors or a restored backup."""

import shutil
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


def test_the_forgotten_image_under_another_name(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "images" / "b.png").rename(tmp_path / "images" / "z.png")
    assert (again(catalog, tmp_path).forgotten, keys(catalog)) == (("d/z",), ["d/a", "d/c"])


@pytest.mark.parametrize("place", ["the same folder", "a copy"])
def test_the_forgotten_image_in_another_data_set(place: str, catalog: Catalog, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "images", tmp_path / "copy" / "images")
    other = declared(tmp_path if place == "the same folder" else tmp_path / "copy", FOLDER, name="e")
    assert ingest(catalog, other, author="ada").forgotten == ("e/b",)
    assert "e/b" not in keys(catalog)


def test_a_copy_that_is_a_sample_of_its_own_stays_and_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path, ["a.png", "b.png"])
    shutil.copy(tmp_path / "images" / "b.png", tmp_path / "images" / "copy.png")
    catalog = Catalog.create(tmp_path / "home")
    again(catalog, tmp_path)
    assert run(["forget", "d/b", "--yes", "--home", str(catalog.home), "--author", "ada"]) == 0
    assert "the same image is also d/copy: forget it there too" in capfd.readouterr().out
    draw(tmp_path, ["a.png", "b.png", "e.png"])
    done = again(catalog, tmp_path)
    assert (done.forgotten, keys(catalog)) == (("d/b",), ["d/a", "d/copy", "d/e"])


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


@pytest.mark.parametrize(("key", "what"), [("d/b", "was"), ("d/z", "its image was")])
def test_a_commit_from_python(key: str, what: str, catalog: Catalog, tmp_path: Path) -> None:
    rows = sample_rows([key], [tmp_path / "images" / "b.png"])
    with (
        pytest.raises(BadInput, match=rf"'{key}': {what} forgotten .* must not come back"),
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
