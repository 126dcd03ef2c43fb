"""Boxes as people have them, from COCO with crowds to batches and targets: crowds train nothing, empty images do."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from curation import Catalog
from curation.ingestion.dataset import Dataset
from curation.ingestion.ingest import ingest
from samplers import Policy, make_pack
from samplers.plan.build import draft_plan
from samplers.streaming.batches import batches
from samplers.streaming.materialize import materialize
from training.loop.shard_feed import Shards
from training.network.detection import box_losses
from training.network.objects import Objects

DECLARED = """
name = "street"
title = "Eight pictures"
licence = "Apache-2.0"
source = "drawn by the tests"

[reader]
kind = "coco"
task = "things"
file = { train = "train.json" }
images = "images"

[[task]]
name = "things"
kind = "detection"
classes = ["car", "bus"]
owner = "ada"

[split]
by = "given"
"""


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    folder = tmp_path_factory.mktemp("coco")
    (folder / "images").mkdir()
    for number in range(8):
        Image.new("RGB", (80, 40), (30 * number, 80, 80)).save(folder / "images" / f"{number}.jpg")
    boxes = [[8.0, 8.0, 16.0, 16.0], [40.0, 8.0, 32.0, 24.0]]
    annotations = [
        {"id": 2 * n + k, "image_id": n, "category_id": k + 1, "bbox": boxes[k], "area": 1.0, "iscrowd": k}
        for n in range(6) for k in range(2)
    ]  # fmt: skip
    document = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 80, "height": 40} for n in range(8)],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "bus"}], "annotations": annotations,
    }  # fmt: skip
    (folder / "train.json").write_text(json.dumps(document))
    (folder / "dataset.toml").write_text(DECLARED)
    catalog = Catalog.create(folder / "home")
    ingest(catalog, Dataset.load(folder), author="ada")
    return catalog


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves shards to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_crowds_train_nothing_and_empty_images_the_background(catalog: Catalog, tmp_path: Path) -> None:
    with catalog.read() as now:
        policy = Policy.for_labelled(now)
    pack = make_pack(catalog)
    plan = draft_plan(catalog, policy, pack, draws=16).save()
    assert (plan.tasks[0].strata, plan.tasks[0].labelled) == (("car", "none"), (6.0, 0.0))
    batch = next(batches(plan, 16))
    materialize(plan, pack, tmp_path / "draws")
    (other,) = Shards(folder=tmp_path / "draws").batches(plan, 16, (40, 80))
    assert batch.boxes is not None
    assert other.boxes is not None
    assert np.array_equal(batch.boxes.ignored, other.boxes.ignored)
    assert batch.boxes.ignored.tolist() == (batch.boxes.codes == 1).tolist()
    objects = Objects.of(batch.boxes, np.tile([80, 40], (16, 1)))
    maps = torch.zeros(16, 6, 5, 10, requires_grad=True)
    box_losses(maps, objects).sum().backward()
    assert maps.grad is not None
    counts = np.bincount(batch.boxes.draws, minlength=16)
    crowded, empty = int(counts.argmax()), int(counts.argmin())
    assert counts[empty] == 0
    assert maps.grad[crowded, 1, 2, 7] == 0  # inside the crowd of buses
    assert maps.grad[crowded, 0, 2, 7] > 0
    assert maps.grad[crowded, 0, 2, 2] < 0  # the car's centre
    assert (maps.grad[empty, :2] > 0).all()
