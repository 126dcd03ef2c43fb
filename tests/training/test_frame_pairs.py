"""A task of two frames from draws and from solved heads to predictions, files for other programs, and new images."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from support.frames import GAP, LONG, make_frames
from support.networks import recorded, trained

from curation import BadInput, Catalog
from samplers import Plan
from samplers.pack.pack import Pack
from samplers.streaming.materialize import materialize
from training import Run, evaluate
from training.deployment.deployed import deployed
from training.deployment.export import export_model
from training.deployment.prediction import Image, predict_images
from training.loop.shard_feed import Shards
from training.loop.smoke import smoke
from training.loop.trainer import train

FIRST, LATER = ["frames/03-0", "frames/07-0"], ["frames/03-1", "frames/03-4", "frames/07-2"]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_frames(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def solved(catalog: Catalog) -> Run:
    run = trained(catalog, heads="exact")
    evaluate(run, catalog, author="ada")
    return run


@pytest.fixture(scope="module")
def drawn(catalog: Catalog) -> Run:
    run = trained(catalog, trunk="small", learning_rate=0.01, hidden=16, augment=True, global_batch=16)
    evaluate(run, catalog, author="ada")
    return run


def truth(catalog: Catalog, task: str) -> dict[str, float]:
    with catalog.read() as now:
        keys = dict(zip(now.samples()["sample_id"].to_pylist(), now.samples()["key"].to_pylist(), strict=True))
        return {keys[row["sample_id"]]: row["number"] for row in now.labels(task).to_pylist()}


def test_exact_heads_read_the_frame_before(catalog: Catalog, solved: Run) -> None:
    """A linear head of both frames' features knows the change; one of a single frame could not."""
    keys = [key for key in truth(catalog, "change") if int(key[7:9]) % 4 == 3 and not key.endswith("-0")]
    true = np.array([truth(catalog, "change")[key] for key in keys])
    found = recorded(catalog, solved, "change", keys)
    assert np.abs(found - true).mean() < 0.5 * np.abs(true).mean()
    assert {head.task: head.kind for head in solved.heads} == {"change": "exact", "level": "exact"}


def test_heads_that_learn_from_draws_train_and_predict(catalog: Catalog, drawn: Run) -> None:
    for task in ("change", "level"):
        assert np.isfinite(recorded(catalog, drawn, task, FIRST + LATER)).all()


def test_files_for_other_programs_take_both_frames(catalog: Catalog, drawn: Run, tmp_path: Path) -> None:
    folder = export_model(drawn, catalog, tmp_path / "model").folder
    words = json.loads((folder / "model.json").read_text())
    assert (words["frames"]["gap"], words["frames"]["tasks"]) == (GAP, ["change"])
    assert max(words["check"][name] for name in ("torch", "onnx", "onnx_recorded", "export")) <= 1e-4
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    assert [part.name for part in session.get_inputs()] == ["images", "before", "has_before"]
    images = np.random.default_rng(0).integers(0, 255, (3, 2, 3, 32, 48), np.uint8)
    answers = [
        session.run(["change", "level"], {"images": images[0], "before": before, "has_before": np.array([True, False])})
        for before in images[1:]
    ]
    assert answers[0][0][0] != answers[1][0][0]
    assert answers[0][0][1] == answers[1][0][1]
    assert np.array_equal(answers[0][1], answers[1][1])


@pytest.mark.parametrize("which", ["solved", "drawn"])
def test_a_task_of_one_frame_alone_takes_no_other(catalog: Catalog, which: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(which)
    whole, alone = deployed(run, catalog), deployed(run, catalog, ["level"])
    assert (whole.paired, alone.paired) == (True, False)
    images = torch.randint(0, 255, (2, 3, 32, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    both = whole(images, images.flip(-1), torch.tensor([True, False]))["level"]
    assert torch.allclose(alone(images)["level"], both, atol=1e-3)


@pytest.mark.parametrize("which", ["solved", "drawn"])
def test_new_images_are_paired_as_those_of_the_catalog(
    catalog: Catalog, which: str, request: pytest.FixtureRequest
) -> None:
    run = request.getfixturevalue(which)
    with catalog.read() as now:
        rows = now.samples().filter(pc.starts_with(now.samples()["key"], "frames/03")).to_pylist()
    images = [
        Image(
            key=row["key"], location=row["location"], group=row["group"],
            captured_at=int(row["captured_at"].timestamp() * 1e6),
        )
        for row in rows
    ]  # fmt: skip
    found = predict_images(run, catalog, images)
    assert found.paired == LONG - 1
    for task in ("change", "level"):
        mine = found.table.filter(pc.equal(found.table["task"], task)).sort_by("key")
        expected = recorded(catalog, run, task, mine["key"].to_pylist())
        assert mine["number"].to_numpy() == pytest.approx(expected, abs=0.05)
    alone = predict_images(run, catalog, [Image(key=row["key"], location=row["location"]) for row in rows])
    assert alone.paired == 0


def test_heads_can_memorise_pairs(catalog: Catalog, solved: Run) -> None:
    plan = Plan.open(catalog.home, solved.plan)
    assert all(head.fits for head in smoke(solved.recipe, plan, catalog))


def test_materialized_shards_hold_no_frame_before(catalog: Catalog, drawn: Run, tmp_path: Path) -> None:
    plan = Plan.open(catalog.home, drawn.plan)
    materialize(plan, Pack.open(catalog.home, plan.pack_hash), tmp_path / "shards")
    with pytest.raises(BadInput, match=re.escape("hold no frame before each image")):
        train(replace(drawn.recipe, seed=9), plan, catalog, shards=Shards(folder=tmp_path / "shards"))


def test_predictions_are_those_of_every_image(catalog: Catalog, drawn: Run) -> None:
    table = pq.read_table(catalog.home / "runs" / drawn.id / "predictions.parquet")
    assert len(table) == 2 * 24 * LONG
