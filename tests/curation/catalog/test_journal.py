"""After a killed checkpoint the file opens: half-written blocks are restored."""

import shutil
from pathlib import Path

import duckdb
import pytest
from support.homes import copy_home, label, labels, make_home

from curation.catalog.backends.journal import BLOCK, HEADER, _journal, _keep, undo_killed_checkpoint
from curation.catalog.catalog import Catalog
from curation.errors import Damaged

TABLES = "SELECT table_name FROM duckdb_tables() WHERE database_name = 'catalog'"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("pictures"), samples=60)


@pytest.fixture
def catalog(pictures: Catalog, tmp_path: Path) -> Catalog:
    return copy_home(pictures, tmp_path)


def say(catalog: Catalog, turn: int) -> None:
    with catalog.commit(author="ada", message="more") as change:
        keys = change.now.samples()["key"].to_pylist()
        change.add_labels(labels([label(key, "car", True, f"ada-{turn}") for key in keys]), source="human")


def blocks(path: Path) -> tuple[set[int], set[int]]:
    """Blocks in use according to the header, and metadata blocks with free space."""
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{path}' AS catalog (READ_ONLY); USE catalog")
        metadata = connection.execute("SELECT block_id, free_blocks FROM pragma_metadata_info('catalog')").fetchall()
        used = {block for block, _ in metadata}
        for (table,) in connection.execute(TABLES).fetchall():
            found = connection.execute(f"SELECT DISTINCT block_id FROM pragma_storage_info('{table}')").fetchall()
            used |= {block for (block,) in found if block is not None and block >= 0}
    return used, {block for block, free in metadata if free}


def changed(before: bytes, after: bytes) -> set[int]:
    count = (len(before) - HEADER) // BLOCK
    places = [slice(HEADER + number * BLOCK, HEADER + (number + 1) * BLOCK) for number in range(count)]
    return {number for number, place in enumerate(places) if before[place] != after[place]}


def test_a_checkpoint_overwrites_only_blocks_in_the_journal(catalog: Catalog) -> None:
    """The assumption of the journal: true for DuckDB 1.5, and a newer version must pass this test too."""
    overwritten = set()
    for turn in range(12):
        used, roomy = blocks(catalog.file)
        before = catalog.file.read_bytes()
        say(catalog, turn)
        after = catalog.file.read_bytes()
        freed = {number for number in used if not any(after[HEADER + number * BLOCK : HEADER + (number + 1) * BLOCK])}
        touched = (changed(before, after) & used) - freed  # freed once the header has switched
        assert touched <= roomy
        overwritten |= touched
    assert overwritten
    assert not _journal(catalog.file).exists()


@pytest.mark.parametrize("written", [4096, BLOCK // 2, BLOCK - 4096])
def test_a_half_written_block_is_restored(catalog: Catalog, written: int) -> None:
    say(catalog, 0)
    with catalog.read() as now:
        counts, digest = now.counts(), now.digest
    _, roomy = blocks(catalog.file)
    _keep(catalog.file, sorted(roomy))
    with catalog.file.open("r+b") as file:
        file.seek(HEADER + min(roomy) * BLOCK)
        file.write(b"\x5a" * written)
    shutil.copy(_journal(catalog.file), catalog.home / "aside")
    _journal(catalog.file).unlink()
    with pytest.raises(Damaged, match="restore a backup"), catalog.read() as now:
        now.counts()
    shutil.copy(catalog.home / "aside", _journal(catalog.file))
    with catalog.read() as now:
        assert (now.counts(), now.digest) == (counts, digest)
    assert not _journal(catalog.file).exists()
    say(catalog, 1)


def test_a_journal_of_an_earlier_checkpoint_is_deleted(catalog: Catalog) -> None:
    _keep(catalog.file, sorted(blocks(catalog.file)[1]))
    shutil.copy(_journal(catalog.file), catalog.home / "aside")
    _journal(catalog.file).unlink()
    say(catalog, 0)
    after = catalog.file.read_bytes()
    shutil.copy(catalog.home / "aside", _journal(catalog.file))
    undo_killed_checkpoint(catalog.file)
    assert catalog.file.read_bytes() == after
    assert not _journal(catalog.file).exists()


def test_a_torn_journal_changes_nothing(catalog: Catalog) -> None:
    _keep(catalog.file, sorted(blocks(catalog.file)[1]))
    whole = _journal(catalog.file).read_bytes()
    before = catalog.file.read_bytes()
    for length in (0, 100, len(whole) // 2, len(whole) - 1):
        _journal(catalog.file).write_bytes(whole[:length])
        undo_killed_checkpoint(catalog.file)
        assert catalog.file.read_bytes() == before
        assert not _journal(catalog.file).exists()
