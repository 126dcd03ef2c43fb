"""A plan is the same everywhere: with any number of threads, over reopened and compacted catalogs, in every release."""

from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.fleet import fleet, policy_of
from curation import Catalog, Damaged
from curation.files.digest import digest
from samplers import Pack, Plan, Policy, make_plan

GOLDEN = "46312c47fb05fb8eac8ee987ae1e5f75"
"""Hash of the plan below. If it changes, every plan changes: raise FORMAT and say so in the CHANGELOG."""


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return fleet(tmp_path_factory.mktemp("golden") / "home", 2_000, tasks=4, labels=1_600, classes=5, shard=50)


def planned(home: Path, pack: Pack) -> Plan:
    policy = Policy.model_validate({**policy_of(4), "phases": (0.75, 0.25)})
    return make_plan(Catalog.open(home), policy, pack, draws=1_000, seed=7)


def test_the_golden_plan(pack: Pack) -> None:
    assert planned(pack.home, pack).hash == GOLDEN


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_threads_do_not_matter(pack: Pack, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = duckdb.connect
    monkeypatch.setattr(duckdb, "connect", lambda *a, **k: connect(*a, **{**k, "config": {"threads": threads}}))
    monkeypatch.setattr("samplers.plan.build.THREADS", threads)
    (before,) = {planned(pack.home, pack).hash}
    for part in (pack.home / "plans").rglob("*.*"):
        part.unlink()
    assert planned(pack.home, pack).hash == before == GOLDEN


def test_a_compacted_catalog_gives_the_same(pack: Pack) -> None:
    Catalog.open(pack.home).compact()
    assert planned(pack.home, pack).hash == GOLDEN


def test_every_table_has_the_digest_of_the_header(pack: Pack) -> None:
    plan = planned(pack.home, pack)
    for name, content in plan.header["tables"].items():
        assert digest(pq.read_table(plan.folder / f"{name}.parquet")) == content
    plan.verify()


def test_a_changed_table_is_found(pack: Pack) -> None:
    plan = planned(pack.home, pack)
    path = plan.folder / "draws.parquet"
    before, table = path.read_bytes(), pq.read_table(path)
    pq.write_table(table.take(np.random.default_rng(0).permutation(len(table))), path)
    with pytest.raises(Damaged, match=r"draws\.parquet: not the table that the plan was hashed with"):
        plan.verify()
    path.write_bytes(before)
    plan.verify()
