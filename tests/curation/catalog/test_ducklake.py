"""What concerns only a catalog on DuckLake: its address, its database, its Parquet files."""

from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from support.homes import copy_home, label, labels, make_home
from support.postgres import Server

from amber.cli import run
from curation import BadInput, Busy, Catalog, Damaged, Failed, NotFound
from curation.catalog.backends.ducklake import Address


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, postgres: Server) -> Catalog:
    return make_home(tmp_path_factory.mktemp("lake"), samples=40, lake=postgres)


@pytest.fixture
def catalog(original: Catalog, tmp_path: Path, postgres: Server) -> Catalog:
    return copy_home(original, tmp_path, postgres)


def one_label(catalog: Catalog) -> int:
    with catalog.commit(author="ada", message="one") as change:
        change.add_labels(labels([label("pictures/00001", "car", True, "ada")]), source="human")
        return change.id


def parquet(catalog: Catalog) -> list[Path]:
    return sorted(Path(Address.parse(catalog.backend.name).data).rglob("*.parquet"))


def test_an_address_has_parts() -> None:
    made = Address.parse("postgresql://ada@db:5433/team?sslmode=require&data=s3://bucket/amber&schema=streets")
    assert made.server == "postgresql://ada@db:5433/team?sslmode=require"
    assert (made.data, made.schema) == ("s3://bucket/amber", "streets")
    assert Address.parse("postgresql:///team?host=/run&data=/lake").server == "postgresql:///team?host=%2Frun"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://h/d?data=/x", "must be postgresql"),
        ("postgresql://h/d", "must be an absolute folder"),
        ("postgresql://h/d?data=there", "must be an absolute folder"),
        ("postgresql://u:secret@h/d?data=/x", "must not contain a password"),
        ("postgresql://u@h/d?data=/x&password=secret", "must not contain a password"),
        ("postgresql://h/d?data=/x&schema=a-b", "must be of letters"),
    ],
)
def test_a_bad_address(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        Catalog.create(tmp_path / "home", url=url)
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "home" / "catalog.toml").exists()


def test_a_bad_catalog_toml(tmp_path: Path) -> None:
    (tmp_path / "catalog.toml").write_text("there")
    with pytest.raises(BadInput, match="must hold one line"):
        Catalog.open(tmp_path)


def test_no_server_and_no_catalog(tmp_path: Path, postgres: Server) -> None:
    with pytest.raises(Failed, match="does not answer"):
        Catalog.create(tmp_path / "home", url="postgresql://amber@127.0.0.1:1/d?data=/nowhere/lake")
    url = postgres.url(tmp_path / "lake")
    (tmp_path / "home").mkdir(exist_ok=True)
    (tmp_path / "home" / "catalog.toml").write_text(f'url = "{url}"\n')
    with pytest.raises(NotFound, match="holds no catalog; `amber init"):
        Catalog.open(tmp_path / "home")


def test_two_workspaces_share_one_catalog(catalog: Catalog, tmp_path: Path) -> None:
    assert run(["init", "--home", str(tmp_path / "other"), "--catalog", catalog.backend.name]) == 0
    other = Catalog.open(tmp_path / "other")
    first = one_label(catalog)
    assert one_label(other) == first + 1
    with catalog.read() as mine, other.read() as theirs:
        assert mine.digest == theirs.digest
    assert run(["init", "--home", str(tmp_path / "other"), "--catalog", catalog.backend.name]) == 0
    assert run(["init", "--home", str(tmp_path / "other"), "--catalog", catalog.backend.name + "&schema=b"]) == 2


def test_a_reader_sees_one_moment(catalog: Catalog) -> None:
    with catalog.read() as then:
        before = then.labels("car").to_pylist()
        other = Catalog.open(catalog.home)
        one_label(other)
        other.backend.patience = 0.1
        with pytest.raises(Busy, match="has held it"):  # files that a reader may need are not deleted
            other.compact()
        assert then.labels("car").to_pylist() == before
    other.compact()


def test_compaction_leaves_few_files(catalog: Catalog) -> None:
    for _ in range(12):
        one_label(catalog)
    stray = parquet(catalog)[0].with_name("ducklake-of-a-killed-writer.parquet")
    stray.write_bytes(parquet(catalog)[0].read_bytes())
    with catalog.read() as now:
        before = now.labels("car").to_pylist()
    catalog.compact()
    few = len(parquet(catalog))
    catalog.compact()
    assert (few <= 20, len(parquet(catalog)), stray.exists()) == (True, few, False)
    with catalog.read() as now:
        assert now.labels("car").to_pylist() == before


@pytest.mark.parametrize("harm", ["gone", "cut", "other"])
def test_damaged_files(catalog: Catalog, harm: str) -> None:
    catalog.compact()
    for path in parquet(catalog):
        data = path.read_bytes()
        path.unlink()
        if harm != "gone":
            path.write_bytes(data[: len(data) // 2] if harm == "cut" else b"no Parquet" * 100)
    with pytest.raises(Damaged, match="restore a backup") as caught, Catalog(catalog.home).read() as now:
        now.samples()
    assert "\n" not in str(caught.value)


def test_a_lost_connection_is_replaced(catalog: Catalog, postgres: Server) -> None:
    one_label(catalog)
    with psycopg.connect(postgres.address("postgres"), autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    with suppress(Failed):  # unless the loss is noticed before the first query
        one_label(Catalog(catalog.home))
        one_label(catalog)
    assert one_label(catalog) >= 3
