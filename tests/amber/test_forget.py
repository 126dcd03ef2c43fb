"""`amber forget`: no byte of an image is left in a workspace, and plans that never used it are unchanged."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support.buckets import serving_bucket
from support.homes import label, labels, make_home, sample_rows
from support.plans import written_plan

from amber.cli import run
from amber.forget import forget
from curation import Catalog, NotFound
from curation.catalog.held_back_labels import hold_back
from curation.images.embeddings import Embeddings, writing
from samplers import Policy, stream
from samplers.pack.pack import Pack
from samplers.pack.pack_writer import make_pack
from samplers.plan.plan import Plan
from training.forget import withdraw_runs
from training.recipe import Recipe
from training.run import Run

KEY = "pictures/00013"


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """A workspace with shards of few images, embeddings, held-back labels, two plans and a run on each."""
    catalog = make_home(tmp_path, samples=60)
    pack = make_pack(catalog, shard_bytes=20_000)
    with writing(catalog.home, "model", pack.keys.to_pylist(), [("all", 3)]) as vectors:
        vectors[:] = np.arange(180).reshape(60, 3)
    hold_back(
        catalog.home, labels([label(KEY, "bike", True, "oracle"), label("pictures/00020", "bike", True, "oracle")])
    )
    add_run(catalog, plan_on(catalog, pack, "color").hash, "with")
    add_run(catalog, plan_on(catalog, pack, "bike").hash, "without")
    notes = [{"key": KEY, "by": "pictures/00020"}, {"key": "pictures/00021", "by": KEY}, {"key": "a", "by": "b"}]
    (catalog.home / "runs" / "with" / "replaced.json").write_text(json.dumps(notes))
    return catalog


def plan_on(catalog: Catalog, pack: Pack, task: str) -> Plan:
    """A plan of one task, after setting (color) or retracting (bike) its label of KEY."""
    value = "red" if task == "color" else None
    row = {**label(KEY, task, value), **({} if value else {"state": "retracted"})}
    with catalog.commit(author="ada", message="label") as change:
        change.add_labels(labels([row]), source="import")
    part = {"owner": "ada", "share": 1.0, "importance": 1.0, "rule": "natural"}
    return written_plan(catalog, Policy.model_validate({"task": {task: part}}), pack, draws=64)


def add_run(catalog: Catalog, plan: str, name: str) -> None:
    Run(id=name, plan=plan, commit=1, recipe=Recipe()).save(catalog.home)
    path = catalog.home / "runs" / name / "predictions.parquet"
    pq.write_table(pa.table({"key": [KEY, "pictures/00020"], "code": [0, 1]}), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with catalog.commit(author="ada", message="run") as change:
        change.add_run(name, plan=plan, predictions=str(path.relative_to(catalog.home)), sha256=digest)


def plan_of(catalog: Catalog, name: str) -> str:
    return Run.open(catalog.home, name).plan


def test_no_byte_of_the_image_is_left(catalog: Catalog) -> None:
    with catalog.read() as now:
        samples = now.samples()
        image = Path(samples.filter(pc.equal(samples["key"], KEY))["location"][0].as_py()).read_bytes()
    forget(catalog, KEY, author="ada")
    needles = [KEY.encode(), image[-250:-50]]
    for path in sorted(catalog.home.rglob("*")):
        if path.is_file():
            assert not any(needle in path.read_bytes() for needle in needles), path
    for shard in (catalog.home / "shards").glob("*.tar"):
        with tarfile.open(shard) as members:
            assert not [name for name in members.getnames() if "00013" in name]
    for path in catalog.home.rglob("*.parquet"):
        table = pq.read_table(path)
        assert "key" not in table.column_names or KEY not in table["key"].to_pylist()


def test_the_catalog_keeps_only_the_fact_that_it_was_forgotten(catalog: Catalog) -> None:
    with catalog.read() as now:
        before = now.counts()
    forget(catalog, KEY, author="ada")
    with catalog.read() as now, catalog.read(1) as then:
        after = now.counts()
        assert (after["sample"], after["forgotten"]) == (before["sample"] - 1, 2)
        for snapshot in (now, then):
            assert 13 not in [
                row for task in snapshot.tasks() for row in snapshot.labels(task)["sample_id"].to_pylist()
            ]
            assert KEY not in snapshot.samples()["key"].to_pylist()
        assert now.log()["message"][0].as_py() == "forget a sample"


def test_plans_and_runs_that_used_it_are_withdrawn(catalog: Catalog) -> None:
    used, other = plan_of(catalog, "with"), plan_of(catalog, "without")
    gone = forget(catalog, KEY, author="ada")
    assert (gone.plans, gone.runs) == ((used,), ("with",))
    with pytest.raises(NotFound, match=r"withdrawn on .* one of its images was forgotten"):
        Plan.open(catalog.home, used)
    assert Plan.newest(catalog.home).hash == other
    assert json.loads((catalog.home / "runs" / "with" / "withdrawn.json").read_text())["at"]
    assert not (catalog.home / "runs" / "without" / "withdrawn.json").exists()


def test_a_plan_that_never_used_it_streams_the_same(catalog: Catalog) -> None:
    plan = Plan.open(catalog.home, plan_of(catalog, "without"))
    before = [batch.images.copy() for batch in stream(plan, catalog.home, 8, size=(32, 48), copy=True)]
    forget(catalog, KEY, author="ada")
    forget(catalog, "pictures/00014", author="ada")
    pack = Pack.open(catalog.home, plan.pack_hash)
    pack.verify()
    assert len(pack.replaced_hashes) == 2
    after = [batch.images.copy() for batch in stream(plan, catalog.home, 8, size=(32, 48), copy=True)]
    assert all((old == new).all() for old, new in zip(before, after, strict=True))
    with serving_bucket("forgotten") as url:
        pack.copy_to(url)
        there = Pack.open(url, plan.pack_hash)
        again = [batch.images.copy() for batch in stream(plan, there, 8, size=(32, 48), copy=True)]
    assert all((old == new).all() for old, new in zip(before, again, strict=True))


def test_a_run_forgets_only_the_replacements_with_the_image(catalog: Catalog) -> None:
    forget(catalog, KEY, author="ada")
    assert Run.open(catalog.home, "with").replaced(catalog.home) == [{"key": "a", "by": "b"}]


def test_predictions_embeddings_and_oracle_forget_it_too(catalog: Catalog) -> None:
    before = Embeddings.open(catalog.home, "model")
    kept = before.vectors[before.rows(["pictures/00020"])].tolist()
    forget(catalog, KEY, author="ada")
    found = Embeddings.open(catalog.home, "model")
    assert (len(found.keys), found.covers([KEY])) == (59, False)
    assert found.vectors[found.rows(["pictures/00020"])].tolist() == kept
    with catalog.read() as now:
        for row in now.runs().to_pylist():
            data = (catalog.home / row["predictions"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == row["sha256"]


def test_a_sample_id_is_not_reused(catalog: Catalog, tmp_path: Path) -> None:
    forget(catalog, "pictures/00059", author="ada")
    with catalog.commit(author="ada", message="more") as change:
        change.add_samples(sample_rows(["more/1"], [tmp_path / "images" / "00001.jpg"]), dataset="more")
    with catalog.read() as now:
        assert max(now.samples()["sample_id"].to_pylist()) == 60


def test_a_killed_forget_can_be_run_again(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for step in ("withdraw_runs", "forget_vectors", "forget_held_back", "forget_predictions"):
        with monkeypatch.context() as patch:
            patch.setattr(f"amber.forget.{step}", killed)
            with pytest.raises(KeyboardInterrupt):
                forget(catalog, KEY, author="ada")
    gone = forget(catalog, KEY, author="ada")
    assert (len(gone.plans), gone.runs) == (1, ("with",))
    assert KEY not in make_pack(catalog).keys.to_pylist()


def test_the_command_line_asks_for_confirmation(
    catalog: Catalog, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--author", "ada", "--home", str(catalog.home)]
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert run(["forget", KEY, *options]) == 2
    assert "nobody confirmed it" in capsys.readouterr().err
    assert run(["forget", "pictures/99999", "--yes", *options]) == 2
    assert "no such sample" in capsys.readouterr().err
    assert run(["forget", KEY, "--yes", *options]) == 0
    out = capsys.readouterr().out
    assert "1 plans and 1 runs withdrawn" in out
    assert "left for you to delete" in out


def test_runs_that_read_features_of_a_withdrawn_run_are_withdrawn(tmp_path: Path) -> None:
    for name, plan, trunk, parent in (
        ("first", "p", "efficientnet_lite0", ""), ("second", "q", "run:first", ""),
        ("third", "q", "efficientnet_lite0", "second"), ("other", "q", "efficientnet_lite0", ""),
    ):  # fmt: skip
        Run(id=name, plan=plan, commit=1, recipe=Recipe(trunk=trunk), parent=parent).save(tmp_path)
    assert withdraw_runs(tmp_path, ["p"]) == ("first", "second", "third")
