"""What verbs found, as views of the App on a real mongod."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from support.homes import make_home
from support.mirrors import document, show

from curation.fiftyone_app import views
from curation.fiftyone_app.columns import Finding, Overlay

pytestmark = pytest.mark.filterwarnings("ignore")  # of FiftyOne itself


@pytest.mark.parametrize("ordered", [True, False])
def test_findings_are_the_first_views_and_a_field(
    tmp_path: Path, database: Any, ordered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not ordered:
        monkeypatch.setattr(views, "ORDERED", 1)
    catalog, name = make_home(tmp_path, samples=20), f"test-{uuid4().hex}"
    keys = tuple(f"pictures/{number:05d}" for number in (7, 3, 11))
    findings = (
        Finding(name="doubts color", keys=keys, told="likely wrong"),
        Finding(name="block: night of color", keys=(keys[1], "gone"), told="a drop", bad=True),
    )
    show(catalog, name, Overlay(findings=findings))
    dataset = database.load_dataset(name)
    assert dataset.list_saved_views()[:2] == [finding.name for finding in findings]
    infos = [dataset.get_saved_view_info(finding.name) for finding in findings]
    assert [(info["description"], info["color"]) for info in infos] == [("likely wrong", None), ("a drop", "#EE0000")]
    shown = dataset.load_saved_view("doubts color").values("key")
    assert (shown == list(keys)) if ordered else (sorted(shown) == sorted(keys))
    assert dataset.load_saved_view("block: night of color").values("key") == [keys[1]]
    assert document(dataset, keys[1])["found"] == ["doubts color", "block: night of color"]
    assert show(catalog, name, Overlay(findings=findings)).written == 0
    assert show(catalog, name).since is None
    assert "found" not in database.load_dataset(name).get_field_schema()
