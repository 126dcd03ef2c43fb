"""Where the loop's budget goes: by the policy's importances, and again for labels that came back without a value."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.lamps import ingested

from amber.cli import run
from amber.loop import Loop, run_loop
from curation import BadInput, Catalog, Task
from curation.catalog.event_tables import LABELS
from samplers import Policy
from training.recipe import Recipe

FAST = {"rounds": 1, "start": 12, "budget": 6, "draws": 128, "recipe": Recipe(size=(32, 32), threads=1)}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ingested(tmp_path_factory.mktemp("budget"))


@pytest.fixture
def catalog(template: Path, tmp_path: Path) -> Catalog:
    """Lamps with a second task, `night`, of which the oracle knows what it knows of color."""
    shutil.copytree(template, tmp_path / "home")
    catalog = Catalog.open(tmp_path / "home")
    with catalog.commit(author="ada", message="night") as change:
        change.add_tasks([Task(name="night", kind="binary", owner="bob")])
    held = pq.read_table(catalog.home / "oracle.parquet").cast(LABELS).to_pylist()
    held += [{**row, "task": "night", "text": "true" if row["text"] == "red" else "false"} for row in held]
    pq.write_table(pa.Table.from_pylist(held, LABELS), catalog.home / "oracle.parquet")
    return catalog


def requested(catalog: Catalog, state: str | None = None) -> dict[str, int]:
    with catalog.read() as now:
        tasks = now.requests(state)["task"].to_pylist()
    return {name: tasks.count(name) for name in ("color", "night")}


def policy(color: float, night: float) -> Policy:
    parts = {"color": color, "night": night}
    return Policy.model_validate(
        {"task": {name: {"owner": "ada", "share": share, "importance": share} for name, share in parts.items()}}
    )


def go(catalog: Catalog, **changed: Any) -> list[Any]:
    return list(run_loop(catalog, Loop(**{**FAST, **changed}), author="ada"))


def test_a_task_of_share_0_gets_no_label(catalog: Catalog) -> None:
    go(catalog, policy=policy(1.0, 0.0))
    assert requested(catalog) == {"color": 18, "night": 0}


def test_importance_weighs_the_requests(catalog: Catalog) -> None:
    go(catalog, policy=policy(0.25, 0.75), rounds=0, random_share=1.0)
    assert requested(catalog) == {"color": 3, "night": 9}


def test_what_came_back_without_a_value_is_requested_again(catalog: Catalog) -> None:
    held = pq.read_table(catalog.home / "oracle.parquet").to_pylist()
    for number, row in enumerate(held):  # a third cannot be told, and a sixth is unknown to the oracle
        row.update({"state": "unsure", "text": None} if number % 3 == 0 else {})
    kept = [row for number, row in enumerate(held) if number % 6 != 1]
    pq.write_table(pa.Table.from_pylist(kept, LABELS), catalog.home / "oracle.parquet")
    steps = go(catalog)
    with catalog.read() as now:
        known = sum(
            int(row["state"] == 1 and row["source"] == "oracle")
            for name in ("color", "night") for row in now.labels(name).to_pylist()
        )  # fmt: skip
    assert 16 <= known <= 18  # half of the answers have a value: without refills 9
    assert steps[-1].labels > 18
    assert go(catalog) == steps


def test_the_table_says_where_the_budget_went_and_why_not_more(
    catalog: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    written = "\n".join(
        f'[task.{name}]\nowner = "ada"\nshare = {share}\nimportance = {share}' for name, share in
        (("color", 1.0), ("night", 0.0))
    )  # fmt: skip
    (tmp_path / "policy.toml").write_text(written)
    with catalog.read() as now:
        pool = len(now.training_ids())
    words = ["--author", "ada", "--home", str(catalog.home), "--policy", str(tmp_path / "policy.toml")]
    assert run(["request", "--budget", str(pool + 1), *words]) == 2
    assert f"only {pool} labels can be requested" in capsys.readouterr().err
    assert run(["request", "--budget", str(pool), *words]) == 0
    shown = capsys.readouterr().out
    assert f"{pool} of {pool} labels requested" in shown
    assert "no sample left" in shown
    assert "importance 0" in shown


def test_an_example_is_a_key_or_an_image_file(catalog: Catalog, tmp_path: Path) -> None:
    Image.new("RGB", (48, 32), (200, 190, 30)).save(tmp_path / "yellow.png")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    go(catalog, rounds=0, like=str(tmp_path / "yellow.png"), start_random_share=0.0)
    with catalog.read() as now:
        asked = now.requests().to_pylist()
        yellow = set(now.members("label.color = 'yellow'").tolist())
    liked = {row["sample_id"] for row in asked if row["arm"] == "like"}
    assert len(liked & yellow) > 0
    for like, why in ((str(tmp_path / "broken.jpg"), "cannot be read as an image"), ("lamps/nosuch", "neither")):
        with pytest.raises(BadInput, match=f"^--like .*{why}") as refused:
            go(catalog, seed=1, like=like)
        assert "\n" not in str(refused.value)
