"""Models that Amber did not train, from the file of their predictions to the gate, to people and to the App."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from support.foreign import box_home, class_file, coco_files
from support.homes import make_home
from support.label_requests import items, pushed
from support.mirrors import document, show
from support.studio import Studio

from amber.cli import run
from amber.run_overlay import overlay_of
from curation.catalog.catalog import Catalog
from curation.labelstudio.client import LabelStudioClient

pytestmark = pytest.mark.filterwarnings("ignore")  # of FiftyOne itself


def asked(catalog: Catalog, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    assert run([*words, "--home", str(catalog.home), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def items_of(catalog: Catalog, server: LabelStudioClient, studio: Studio, **options: Any) -> list[dict[str, Any]]:
    """Push the open requests; the items as the server has them, with their pre-annotations."""
    pushed(catalog, server, prefill=True, **options)
    with studio.admin() as admin:
        return [dict(admin.get(f"/api/tasks/{item.item}/").json()) for item in items(catalog, server)]


def test_a_foreign_classifier(
    tmp_path: Path, server: LabelStudioClient, studio: Studio, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two models one is worse: the gate blocks it. What it is unsure of is asked, with its view."""
    catalog = make_home(tmp_path, samples=240)
    runs = []
    for name, right in (("good", 0.98), ("bad", 0.3)):
        file = class_file(catalog, tmp_path / f"{name}.parquet", right=right)
        words = ["predictions", "import", str(file), "--name", name, "--author", "bo"]
        runs.append(asked(catalog, capsys, *words)["run"])
    assert {row["model"] for row in asked(catalog, capsys, "runs")} == {"bad", "good"}
    (tmp_path / "gate.toml").write_text('[[judge]]\ntask = "color"\nmetric = "accuracy"\nmargin = "5 points"\n')
    words = ["--gate", str(tmp_path / "gate.toml"), "--out", str(tmp_path / "gate.md"), "--author", "bo"]
    verdict = asked(catalog, capsys, "gate", runs[1], "--against", runs[0], *words, code=10)
    assert verdict["outcome"] == "block"
    assert set(verdict["beside"].values()) == {"trained on: unknown"}
    requests = asked(catalog, capsys, "request", "--budget", "8", "--run", runs[1], "--author", "bo")
    assert "mined" in {row["arm"] for row in requests}
    sent = items_of(catalog, server, studio)
    views = [text for item in sent for name, text in item["data"].items() if name.startswith("model_")]
    assert any(text.startswith("model: ") and "confidence" in text for text in views)
    assert any(item["predictions"] and item["predictions"][0]["result"] for item in sent)


def test_a_foreign_detector(
    tmp_path: Path, server: LabelStudioClient, studio: Studio, database: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worse one is blocked. Its boxes are asked where they are in doubt, filled in for people, shown in the App."""
    catalog = box_home(tmp_path, samples=144)
    runs = []
    for name, found in (("good", 1), ("worse", 2)):
        results, annotations = coco_files(tmp_path / name, samples=144, found=found)
        words = ["--annotations", str(annotations), "--name", name, "--author", "bo"]
        runs.append(asked(catalog, capsys, "predictions", "import", str(results), *words))
    made = runs[1]
    (tmp_path / "gate.toml").write_text('[[judge]]\ntask = "things"\nmetric = "ap50"\nmargin = "5 points"\n')
    words = ["--gate", str(tmp_path / "gate.toml"), "--out", str(tmp_path / "gate.md"), "--author", "bo"]
    verdict = asked(catalog, capsys, "gate", made["run"], "--against", runs[0]["run"], *words, code=10)
    assert verdict["figures"][0]["drop"] > 10
    requests = asked(catalog, capsys, "request", "--budget", "10", "--run", made["run"], "--author", "bo")
    boxes = [row for row in requests if row["task"] == "things" and row["arm"] == "mined"]
    assert boxes
    assert boxes[0]["reason"].startswith("boxes in doubt: sum of min(score, 1 - score) = 0.")
    (item, *_) = [
        item for item in items_of(catalog, server, studio, tasks=("things",))
        if item["meta"]["amber"]["sample"] == boxes[0]["key"]
    ]  # fmt: skip
    rectangle = next(part for part in item["predictions"][0]["result"] if part["type"] == "rectanglelabels")
    assert rectangle["value"]["rectanglelabels"] == ["light"]
    assert item["data"]["model_things"] == "model: 1 light"
    with catalog.read() as now:
        scene = overlay_of(catalog.home, now, made["run"], "")
    name = f"test-{uuid4().hex}"
    show(catalog, name, scene)
    found = document(database.load_dataset(name), "pictures/00004")
    (shown,) = found["pred_things"]["detections"]
    assert (shown["label"], shown["confidence"]) == ("light", pytest.approx(0.896))
    assert shown["bounding_box"] == pytest.approx([4 / 48, 4 / 32, 8 / 48, 10 / 32])
