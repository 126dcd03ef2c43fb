"""Declarations of data sets: their reference page, missing fields, splits without fractions, and groups from a path."""

import re
import tomllib
from pathlib import Path

import pytest
from support.sources import Json, Scene, coco, content, draw, ingested, refused

from curation import Catalog, Dataset, Task
from curation.errors import BadInput
from curation.files.toml_files import parse
from curation.ingestion import reference
from curation.ingestion.ingest import ingest

ROOT = Path(__file__).parents[3]
LINES = {
    "name": 'name = "d"', "title": 'title = "t"', "licence": 'licence = "l"', "source": 'source = "s"',
    "reader.coco.file": '[reader]\nkind = "coco"\ntask = "objects"\nfile = "coco.json"',
    "task.0.owner": '[[task]]\nname = "objects"\nkind = "detection"\nclasses = ["car"]\nowner = "o"',
    "split.by": '[split]\nby = "group"',
}  # fmt: skip


def test_the_reference_is_what_the_models_say() -> None:
    assert (ROOT / "docs" / "dataset-toml.md").read_text() == reference.page(), (
        "write it again: python -m curation.ingestion.reference docs/dataset-toml.md"
    )


def test_every_field_of_the_reference_has_a_meaning() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| ?(.*?) \|$", reference.page(), re.MULTILINE)
    assert len(rows) > 100
    assert [name for name, meaning in rows if not meaning] == []


def test_the_example_of_the_reference_is_ingested(tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg"])
    coco(tmp_path, [Scene("a.jpg", [("light", 1, 2, 3, 4)])])
    (tmp_path / "coco.json").rename(tmp_path / "instances.json")
    (text,) = re.findall(r"^```toml\n(.*?)^```", reference.page(), re.MULTILINE | re.DOTALL)
    data = parse(Dataset, {**tomllib.loads(text), "folder": tmp_path}, where="dataset.toml")
    catalog = Catalog.create(tmp_path / "home")
    ingest(catalog, data, author="ada")
    with catalog.read() as now:
        found = {name: len(now.members(part.predicate)) for name, part in now.slices().items()}
    assert found == {"far_lights": 1, "crowded": 0}


@pytest.mark.parametrize("field", LINES)
def test_a_missing_field_is_one_short_line(field: str, tmp_path: Path) -> None:
    lines = {name: text.rpartition("\n")[0] if name == field else text for name, text in LINES.items()}
    (tmp_path / "dataset.toml").write_text("\n".join(lines.values()))
    with pytest.raises(BadInput, match=rf"^\S+dataset.toml: {field} is missing; [^\n]*$"):
        Dataset.load(tmp_path)


@pytest.mark.parametrize(
    ("line", "problem"),
    [("", r"reader.kind is missing"), ('kind = "yolov8"', r"reader.kind = 'yolov8': must be one of .*voc.*yolo")],
)
def test_a_reader_of_no_kind_is_one_short_line(line: str, problem: str, tmp_path: Path) -> None:
    reader = f'[reader]\n{line}\ntask = "objects"\nfile = "coco.json"'
    (tmp_path / "dataset.toml").write_text("\n".join((LINES | {"reader.coco.file": reader}).values()))
    with pytest.raises(BadInput, match=rf"^\S+dataset.toml: {problem}[^\n;]*; fix the file$"):
        Dataset.load(tmp_path)


@pytest.mark.parametrize("by", ["group", "near_duplicates"])
def test_a_split_without_fractions_says_so(by: str, tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg"])
    reader = {"kind": "image_folder", "folder": "images"}
    notes = ingested(tmp_path, reader, split={"by": by}).notes
    assert any(note.startswith(f'[split] by = "{by}" without test and validation') for note in notes)
    assert not any("[split]" in note for note in ingested(tmp_path, reader, split={"by": by, "test": 0.2}).notes)


@pytest.mark.parametrize("name", ["a\x00b", "\x1b[31m", "a\ufffeb", "\x08"])
def test_classes_hold_characters_of_xml(name: str) -> None:
    with pytest.raises(BadInput, match="XML does not allow"):
        parse(Task, {"name": "t", "kind": "categorical", "classes": ["a", name], "owner": "o"}, where="t")


# Groups from a path

PATHS = ["red/7_1.jpg", "red/7_2.jpg", "green/7_1.jpg"]
PATTERN = "{label}/{attr:group}_{name}"


def lamps(folder: Path, **options: object) -> Json:
    draw(folder, PATHS)
    return {"kind": "class_folders", "folder": "images", "pattern": PATTERN, "task": "color"} | options


def groups(folder: Path, reader: Json) -> list[str]:
    return sorted(set(content(folder, reader).samples["group"].to_pylist()))


@pytest.mark.parametrize("parts", [["label", "group"], ["label", "attr:group"]])
def test_a_group_is_composed_of_several_parts(parts: list[str], tmp_path: Path) -> None:
    assert groups(tmp_path, lamps(tmp_path, group=parts)) == ["green/7", "red/7"]
    assert groups(tmp_path, lamps(tmp_path)) == ["7"]


def test_a_group_of_an_image_folder_is_composed_too(tmp_path: Path) -> None:
    lamps(tmp_path)
    reader = {"kind": "image_folder", "folder": "images", "pattern": "{attr:lamp}/{attr:take}_{name}"}
    assert groups(tmp_path, reader | {"group": ["lamp", "take"]}) == ["green/7", "red/7"]
    assert groups(tmp_path, reader | {"group": ["take"]}) == ["7"]
    refused(tmp_path, reader | {"group": ["drive"]}, "group 'drive': the pattern .* has no such placeholder")


@pytest.mark.parametrize(
    ("kind", "what"), [("class_folders", r"2 classes \(green, red\)"), ("image_folder", r"2 folders \(green, red\)")]
)
def test_a_group_across_classes_or_folders_is_reported(kind: str, what: str, tmp_path: Path) -> None:
    reader = lamps(tmp_path)
    if kind == "image_folder":
        reader = {"kind": kind, "folder": "images", "pattern": "{attr:lamp}/{attr:group}_{name}"}
    notes = ingested(tmp_path, reader).notes
    assert any(re.match(rf"group '7' spans {what}; if they are different groups, compose", note) for note in notes)
    parts = ["label", "group"] if kind == "class_folders" else ["lamp", "group"]
    assert not any("spans" in note for note in ingested(tmp_path, reader | {"group": parts}).notes)
