"""Networks with a task of several classes outside of the catalog: exported, and predicting other files."""

import json
from pathlib import Path

import pytest
from support.marked import CLASSES, make_marked
from support.networks import trained

from curation import Catalog
from training import Run, evaluate
from training.deployment.export import export_model
from training.deployment.prediction import images_of, predict_images


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_marked(tmp_path_factory.mktemp("several"), samples=60, partial=0.2)


@pytest.fixture(scope="module")
def learned(catalog: Catalog) -> Run:
    """A tree on a trunk that learned from pixels; its draws have the rare classes more often than nature."""
    run = trained(catalog, trunk="small", tree="shared", learning_rate=0.01)
    evaluate(run, catalog, author="eve")
    return run


def test_an_export_gives_the_recorded_natural_probabilities(catalog: Catalog, learned: Run) -> None:
    made = export_model(learned, catalog, catalog.home.parent / "exported", tasks=["seen"])
    words = json.loads((made.folder / "model.json").read_text())
    assert max(words["check"][name] for name in ("torch", "onnx", "onnx_recorded", "export")) <= 1e-4
    (task,) = words["tasks"]
    assert (task["kind"], task["classes"], task["shape"]) == ("multilabel", list(CLASSES), ["batch", 4])
    assert any(abs(shift) > 0.1 for shift in task["adjustment"])


def test_other_files_get_the_classes_that_are_predicted(catalog: Catalog, learned: Run) -> None:
    def quiet(stage: str, done: int, total: int) -> None:
        """Nobody watches."""

    images, _ = images_of(Path(catalog.home.parent / "images"), quiet)
    rows = [row for row in predict_images(learned, catalog, images[:8]).table.to_pylist() if row["task"] == "seen"]
    for row in rows:
        named = [name for name, chance in zip(CLASSES, row["probabilities"], strict=True) if chance >= 0.5]
        assert row["class"] == "; ".join(named)
    assert len(rows) == 8
