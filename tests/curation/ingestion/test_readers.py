"""Properties of every reader: each format gives the same labels, and every fault is one line."""

import doctest
import re
import shutil
import tomllib
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from support.sources import CLASSES, FORMATS, HEIGHT, WIDTH, Box, Scene, content, declared, draw

from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import LABELS
from curation.errors import AmberError, BadInput
from curation.images.decoding import inspect
from curation.ingestion import splits
from curation.ingestion.ingest import ingest
from curation.ingestion.readers import box_forms, content_builder, findings, image_paths
from curation.ingestion.readers.declared import Reader

NAMES = ("a.jpg", "drive/b.jpg", "drive/c d.png")
SCENES = [
    Scene(NAMES[0], [("car", 1.0, 2.0, 10.0, 4.0), ("light", 0.0, 0.0, float(WIDTH), float(HEIGHT))]),
    Scene(NAMES[1], []),
    Scene(NAMES[2], None),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sources")
    draw(made, NAMES)
    return made


@st.composite
def boxes(draw_: st.DrawFn) -> Box:
    x = draw_(st.floats(0, WIDTH - 1))
    y = draw_(st.floats(0, HEIGHT - 1))
    return (
        draw_(st.sampled_from(CLASSES)), x, y, draw_(st.floats(0.5, WIDTH - x)), draw_(st.floats(0.5, HEIGHT - y))
    )  # fmt: skip


def rows(scenes: list[Scene], format_: str) -> list[tuple[str, list[tuple[str, list[float]]]]]:
    """The expected boxes of each known image."""
    known = [scene for scene in scenes if scene.boxes is not None or format_ == "coco"]
    keys = {NAMES[0]: "d/a", NAMES[1]: "d/drive/b", NAMES[2]: "d/drive/c-20d"}
    return [(keys[scene.name], [(name, list(corner)) for name, *corner in scene.boxes or ()]) for scene in known]


@pytest.mark.parametrize("format_", FORMATS)
@given(boxed=st.lists(st.none() | st.lists(boxes(), max_size=3), min_size=3, max_size=3))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_boxes_come_back_as_they_were_written(format_: str, boxed: list[list[Box] | None], folder: Path) -> None:
    scenes = [Scene(name, part) for name, part in zip(NAMES, boxed, strict=True)]
    found = content(folder, FORMATS[format_](folder, scenes))
    prefix = "d/images/" if format_ in ("yolo", "label_studio") else "d/"
    assert sorted(key.replace(prefix, "d/", 1) for key in found.samples["key"].to_pylist()) == [
        "d/a",
        "d/drive/b",
        "d/drive/c-20d",
    ]
    assert found.labels.schema == LABELS
    read = sorted(zip(found.labels["key"].to_pylist(), found.labels["boxes"].to_pylist(), strict=True))
    expected = sorted(rows(scenes, format_))
    assert [key.replace(prefix, "d/", 1) for key, _ in read] == [key for key, _ in expected]
    for (_, given_), (_, wanted) in zip(read, expected, strict=True):
        assert [box["class"] for box in given_] == [name for name, _ in wanted]
        for box, (_, corner) in zip(given_, wanted, strict=True):
            assert [box[side] for side in "xywh"] == pytest.approx(corner, abs=1e-6)


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_goes_into_the_ledger(format_: str, folder: Path, tmp_path: Path) -> None:
    data = declared(folder, FORMATS[format_](folder, SCENES))
    catalog = Catalog.create(tmp_path / "home")
    done = ingest(catalog, data, author="ada")
    assert (done.samples, done.new, done.quarantined) == (3, 3, ())
    assert done.labels == len(rows(SCENES, format_))
    again = ingest(catalog, data, author="ada")
    assert (again.commit, again.new, again.labels) == (done.commit, 0, 0)
    with catalog.read() as now:
        locations = dict(zip(now.samples()["key"].to_pylist(), now.samples()["location"].to_pylist(), strict=True))
    for name, (_, location) in zip(NAMES, sorted(locations.items()), strict=True):
        assert inspect(location) == inspect(folder / "images" / name)


@pytest.mark.parametrize("format_", FORMATS)
def test_labels_are_held_back_on_request(format_: str, folder: Path) -> None:
    reader = FORMATS[format_](folder, SCENES)
    known, held = content(folder, reader), content(folder, reader | {"held_back": True})
    assert known.labels == held.held_back
    assert held.labels.num_rows == known.held_back.num_rows == 0


@pytest.mark.parametrize("format_", FORMATS)
def test_a_box_outside_is_named_with_its_origin(format_: str, folder: Path, tmp_path: Path) -> None:
    scenes = [Scene(NAMES[0], [("car", 1.0, 2.0, 10.0, 4.0)]), Scene(NAMES[1], [("car", 20.0, 2.0, 30.0, 4.0)])]
    data = declared(folder, FORMATS[format_](folder, scenes))
    with pytest.raises(BadInput, match=r"^[^\n]*(json|txt|csv|parquet|feather|xml).*box 20, 2, 30, 4 [^\n]*; [^\n]*$"):
        ingest(Catalog.create(tmp_path / "home"), data, author="ada")


def test_every_reader_is_documented_with_a_valid_declaration() -> None:
    page = (Path(__file__).parents[3] / "docs" / "readers.md").read_text()
    declarations = re.findall(r"^## (\w+)$.*?^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    found = {name: TypeAdapter(Reader).validate_python(tomllib.loads(text)["reader"]) for name, text in declarations}
    assert {name: reader.kind for name, reader in found.items()} == {name: name for name in found}
    assert set(found) == {get_args(part.model_fields["kind"].annotation)[0] for part in get_args(get_args(Reader)[0])}


OTHER_FILES = {"yolo": "data.yaml", "fiftyone": "samples.json", "voc": "xml/a.xml"}


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("fault", ["missing", "empty", "broken", "latin"])
def test_a_missing_or_broken_file(fault: str, format_: str, tmp_path: Path) -> None:
    draw(tmp_path, NAMES)
    reader = FORMATS[format_](tmp_path, SCENES)
    table = reader.get("table", [{}])[0].get("file")
    name = reader.get("file") or table or OTHER_FILES.get(format_, "shard-0.tar")
    path = tmp_path / name
    if fault == "missing" and format_ == "voc":  # an image without a file is unknown
        shutil.rmtree(path.parent)
    elif fault == "missing":
        path.unlink()
        (tmp_path / "metadata.json").unlink(missing_ok=True)
    else:
        path.write_bytes({"empty": b"", "broken": b'{"a": [1,\n}', "latin": b'{"a": "M\xfcnchen"}'}[fault])
    with pytest.raises(AmberError, match=rf"^[^\n]*{name[:3]}[^\n]*; [^\n]*$"):
        content(tmp_path, reader)


@pytest.mark.parametrize(
    "module", [box_forms, content_builder, findings, image_paths, splits], ids=lambda module: module.__name__
)
def test_examples_in_docstrings_run(module: ModuleType) -> None:
    failed, tried = doctest.testmod(module)
    assert tried
    assert not failed
