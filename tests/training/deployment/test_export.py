"""Exported networks give what their run recorded, or no folder appears."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from support.homes import make_home
from support.networks import recorded, trained

from curation import BadInput, Catalog, NotFound
from curation.errors import Damaged, Failed
from curation.files.read_back import sha256_of
from training import Run, evaluate
from training.deployment.export import Exported, export_model

TREE = {"tasks": ["*"], "branch": {"marks": {"width": 8, "tasks": ["color"], "parent": "trunk:stage2"}}}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("export"), samples=60)


@pytest.fixture(scope="module")
def learned(catalog: Catalog) -> Run:
    """A tree on a trunk that learned from pixels."""
    run = trained(catalog, trunk="small", tree=TREE, learning_rate=0.01)
    evaluate(run, catalog, author="ada")
    return run


@pytest.fixture(scope="module")
def whole(catalog: Catalog, learned: Run) -> Exported:
    return export_model(learned, catalog, catalog.home.parent / "whole")


def onnx_answers(folder: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    names = [part.name for part in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": images}), strict=True))


def pictures(catalog: Catalog, size: tuple[int, int]) -> tuple[list[str], np.ndarray]:
    """Keys, and images of the size as `model.json` says how they are made: JPEGs of 48 x 32, so only decoded."""
    with catalog.read() as now:
        rows = now.samples().to_pylist()[:7]
    resized = [Image.open(row["location"]).convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR) for row in rows]
    return [row["key"] for row in rows], np.stack([np.asarray(image).transpose(2, 0, 1) for image in resized])


def test_onnx_gives_the_recorded_predictions(catalog: Catalog, learned: Run, whole: Exported) -> None:
    keys, images = pictures(catalog, (32, 48))
    words = json.loads((whole.folder / "model.json").read_text())
    for batch in (images, images[:1]):
        for name, found in onnx_answers(whole.folder, batch).items():
            task = next(task for task in words["tasks"] if task["name"] == name)
            expected = recorded(catalog, learned, name, keys)[: len(batch)]
            assert found == pytest.approx(expected, abs=1e-4 * task.get("deviation", 1.0))
    assert np.ptp(recorded(catalog, learned, "car", keys)[:, 1]) > 0.1  # it learned something to be compared


def test_the_folder_says_what_its_files_mean(learned: Run, whole: Exported) -> None:
    words = json.loads((whole.folder / "model.json").read_text())
    assert {path.name for path in whole.folder.iterdir()} == {*words["files"], "model.json"}
    assert all(sha256_of(whole.folder / name) == sha256 for name, sha256 in words["files"].items())
    assert (words["run"], words["plan"], words["check"]["images"]) == (learned.id, learned.plan, 60)
    assert max(words["check"][name] for name in ("torch", "onnx", "onnx_recorded", "export")) <= 1e-4
    color, speed = words["tasks"][0], words["tasks"][-1]
    assert (color["classes"], color["decide"], len(color["prior"])) == (["red", "yellow", "green"], "balanced", 3)
    assert (speed["unit"], speed["shape"]) == ("km/h", ["batch"])
    model = onnx.load(whole.folder / "model.onnx")
    assert {part.key: part.value for part in model.metadata_props}["run"] == learned.id
    onnx.checker.check_model(model, full_check=True)


@pytest.fixture(scope="module")
def color(catalog: Catalog, learned: Run) -> Exported:
    return export_model(learned, catalog, catalog.home.parent / "color", tasks=["color"])


def test_one_path_is_a_part_of_the_whole(catalog: Catalog, whole: Exported, color: Exported) -> None:
    _, images = pictures(catalog, (32, 48))
    found, everything = onnx_answers(color.folder, images), onnx_answers(whole.folder, images)
    assert list(found) == ["color"]
    assert found["color"] == pytest.approx(everything["color"], abs=1e-5)
    parts, others = (load_file(made.folder / "weights.safetensors") for made in (color, whole))
    assert {name.split(".")[2] for name in parts if ".parts." in name} == {"trunk:stage1", "trunk:stage2", "marks"}
    assert all(torch.equal(value, others[name]) for name, value in parts.items() if ".parts." in name)


def test_torch_export_runs_without_amber(catalog: Catalog, whole: Exported) -> None:
    _, images = pictures(catalog, (32, 48))
    module = torch.export.load(whole.folder / "model.pt2").module()
    with torch.no_grad():
        found = module(torch.from_numpy(images))
    for name, expected in onnx_answers(whole.folder, images).items():
        assert found[name].numpy() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_exact_heads_start_at_pixels(catalog: Catalog) -> None:
    run = trained(catalog, trunk="efficientnet_lite0", heads="exact", size=(32, 32), mirrored=True)
    evaluate(run, catalog, author="ada")
    made = export_model(run, catalog, catalog.home.parent / "exact", tasks=["car"])
    keys, images = pictures(catalog, (32, 32))
    assert onnx_answers(made.folder, images)["car"] == pytest.approx(recorded(catalog, run, "car", keys), abs=2e-3)
    assert 0 < made.differences.onnx_recorded <= 1e-4  # on the images as the run decodes them


def test_what_cannot_be_exported(catalog: Catalog, learned: Run, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    with pytest.raises(BadInput, match="taken: exists already"):
        export_model(learned, catalog, taken)
    with pytest.raises(BadInput, match=r"task 'boat': .* its tasks are color, car"):
        export_model(learned, catalog, tmp_path / "new", tasks=["boat"])
    (tmp_path / "file").write_text("")
    with pytest.raises(Failed, match="not written"):
        export_model(learned, catalog, tmp_path / "file" / "new")
    new = trained(catalog, trunk="small", tree="shared", seed=3)
    with pytest.raises(NotFound, match="evaluate it first"):
        export_model(new, catalog, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file", "taken"]


@pytest.mark.parametrize("change", ["gone", "altered", "cut"])
def test_weights_that_are_not_those_that_were_trained(
    catalog: Catalog, learned: Run, tmp_path: Path, change: str
) -> None:
    path = catalog.home / "runs" / learned.id / "checkpoints" / "last.pt"
    shutil.copy(path, tmp_path / "kept.pt")
    if change == "gone":
        path.unlink()
    elif change == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        weights = torch.load(path)
        weights["heads.trunk.bias"][0] += 0.01
        torch.save(weights, path)
    try:
        with pytest.raises(Damaged, match=r"train (it|run \w+) again"):
            export_model(learned, catalog, tmp_path / "new")
    finally:
        shutil.copy(tmp_path / "kept.pt", path)
    assert not (tmp_path / "new").exists()


def branching() -> torch.nn.Module:
    """A trunk of one's own whose way depends on pixels, which no graph can hold."""
    from training.network.trunks import SmallTrunk

    class Branching(SmallTrunk):
        @property
        def stages(self) -> list[tuple[str, torch.nn.Module]]:
            return [("whole", self)]

        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = super().forward(maps)
            return found * 2 if float(maps.mean()) > 2 else found

    return Branching()


def test_a_trunk_that_no_graph_can_hold(catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "my_trunks", sys.modules[__name__])
    run = trained(catalog, trunk="my_trunks:branching", tree="shared")
    evaluate(run, catalog, author="ada")
    with pytest.raises(BadInput, match="my_trunks:branching cannot be exported") as caught:
        export_model(run, catalog, tmp_path / "new")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
