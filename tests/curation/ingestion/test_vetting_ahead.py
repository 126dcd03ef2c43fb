"""Ingest vets predicates before it takes the write lock: others commit meanwhile."""

from pathlib import Path

import pytest
from support.sources import TASKS, draw, ingested

from curation.catalog.catalog import Catalog
from curation.catalog.vetting_process import vet_in_child
from curation.errors import BadInput

READER = {"kind": "tables", "images": "images", "table": [{"file": "t.csv", "rows": "samples"}]}
LANE = {"name": "lane", "kind": "binary", "owner": "bob", "applies": "attr.number > 2 AND label.wet"}
SLICES = [{"name": "late", "predicate": "attr.number > 1 AND label.color = 'red'", "task": "color"}]


def test_writers_do_not_wait_for_the_vetting_of_an_ingest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path, ["a.png", "b.png"])
    (tmp_path / "t.csv").write_text("filename,color,number,wet\na.png,red,3,1\nb.png,green,1,0\n")
    vetted = []

    def watched(predicate: str, frame: object) -> str:
        with Catalog(tmp_path / "home", patience=0.5).commit(author="eve", message="meanwhile"):
            vetted.append(predicate)
        return vet_in_child(predicate, frame)  # type: ignore[arg-type]

    monkeypatch.setattr("curation.catalog.slice_vetting.vet_in_child", watched)
    ingested(tmp_path, READER, task=[*TASKS, LANE], slice=SLICES)
    assert sorted(vetted) == sorted([LANE["applies"], SLICES[0]["predicate"]])
    with Catalog.open(tmp_path / "home").read() as now:
        assert len(now.members(now.slice("late").predicate)) == 1
        assert now.task("lane").applies == '((attr.number > 2) AND "label".wet)'


def test_a_bad_predicate_stops_an_ingest_before_anything_is_written(tmp_path: Path) -> None:
    draw(tmp_path, ["a.png"])
    (tmp_path / "t.csv").write_text("filename,color\na.png,red\n")
    with pytest.raises(BadInput, match=r"there is no attr\.nosuch"):
        ingested(tmp_path, READER, slice=[{"name": "late", "predicate": "attr.nosuch > 1"}])
    with Catalog.open(tmp_path / "home").read() as now:
        assert now.commit == 0
