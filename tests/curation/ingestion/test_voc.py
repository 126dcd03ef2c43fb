"""The reader of Pascal VOC."""

from pathlib import Path

import pytest
from support.sources import HEIGHT, WIDTH, Json, boxes_in, content, draw, ingested, label_rows, refused

OBJECT = """<object><name>{}</name><pose>Left</pose><truncated>1</truncated><difficult>0</difficult>
<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>
<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>
<attributes><attribute><name>lamp</name><value>red</value></attribute></attributes></object>"""


def voc(folder: Path, *objects: str, filename: str = "a.jpg", names: tuple[str, ...] = ("a.jpg", "b.jpg")) -> Json:
    draw(folder, names)
    (folder / "Annotations").mkdir(exist_ok=True)
    text = f"<annotation><folder>x</folder><filename>{filename}</filename>{''.join(objects)}</annotation>"
    (folder / "Annotations" / "a.xml").write_text(text)
    return {"kind": "voc", "images": "images", "task": "objects"}


def test_pixels_are_counted_from_one_and_the_last_belongs_to_the_box(tmp_path: Path) -> None:
    found = content(tmp_path, voc(tmp_path, OBJECT.format("car", 1, 2, 4, 6)))
    (box,) = label_rows(found, "boxes")[0][0]
    assert (box["class"], *(box[side] for side in "xywh")) == ("car", 0, 1, 4, 5)
    assert dict(box["attributes"]) == {"pose": "Left", "truncated": "true", "difficult": "false", "lamp": "red"}


def test_edges_may_be_counted_from_zero(tmp_path: Path) -> None:
    reader = voc(tmp_path, OBJECT.format("car", 0, 2, 4, 6))
    ingested(tmp_path, reader | {"first_pixel": 0})
    assert boxes_in(tmp_path) == {"d/a": [("car", 0, 2, 4, 4)]}
    with pytest.raises(Exception, match=r"Annotations/a.xml object 1: box -1, 1, 5, 5 lies 1 pixels outside"):
        ingested(tmp_path, reader)


def test_boxes_may_be_fractions(tmp_path: Path) -> None:
    reader = voc(tmp_path, OBJECT.format("car", 0.25, 0.5, 0.75, 1))
    with pytest.raises(Exception, match=r"Annotations/a.xml object 1: .* look like fractions; set fractions = true"):
        ingested(tmp_path, reader)
    ingested(tmp_path, reader | {"fractions": True})
    assert boxes_in(tmp_path) == {"d/a": [("car", WIDTH / 4, HEIGHT / 2, WIDTH / 2, HEIGHT / 2)]}


def test_a_file_without_objects_means_none_and_no_file_unknown(tmp_path: Path) -> None:
    reader = voc(tmp_path)
    assert label_rows(content(tmp_path, reader), "key", "boxes") == [("d/a", [])]
    assert label_rows(content(tmp_path, reader | {"missing": "none"}), "key") == [("d/a",), ("d/b",)]
    assert content(tmp_path, reader).samples["key"].to_pylist() == ["d/a", "d/b"]


def test_lists_give_the_splits(tmp_path: Path) -> None:
    reader = voc(tmp_path, names=("a.jpg", "b.jpg", "c.jpg"))
    (tmp_path / "train.txt").write_text("a\n")
    (tmp_path / "val.txt").write_text("b  1\nc -1\n")
    found = content(tmp_path, reader | {"splits": {"train": "train.txt", "validation": "val.txt"}})
    assert found.samples.select(["key", "split"]).to_pylist() == [
        {"key": "d/a", "split": "train"}, {"key": "d/b", "split": "validation"},
    ]  # fmt: skip
    (tmp_path / "val.txt").write_text("b\na\n")
    refused(tmp_path, reader | {"splits": {"train": "train.txt", "validation": "val.txt"}}, "val.txt line 2: 'a'")


@pytest.mark.parametrize("filename", ["", "gone.jpg", "C:\\\\x\\\\a.jpg", "/home/x/a.jpg"])
def test_the_image_has_the_name_of_its_file(filename: str, tmp_path: Path) -> None:
    found = content(tmp_path, voc(tmp_path, filename=filename))
    assert found.samples["location"].to_pylist()[0] == f"{tmp_path}/images/a.jpg"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<annotation><object></annotation>", "a.xml line 1: not valid XML"),
        ("", "not valid XML"),
        ("<html/>", "a.xml: <html> is not an <annotation>"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><annotation/>', "a.xml: holds a DOCTYPE"),
        ("<annotation><object><name>car</name></object></annotation>", "a.xml object 1: xmin = None, .* is no box"),
        ("<annotation><object/></annotation>", "a.xml object 1: has no name"),
    ],
)
def test_refused_voc(text: str, why: str, tmp_path: Path) -> None:
    reader = voc(tmp_path)
    (tmp_path / "Annotations" / "a.xml").write_text(text)
    refused(tmp_path, reader, why)


def test_other_files_are_counted(tmp_path: Path) -> None:
    reader = voc(tmp_path)
    (tmp_path / "Annotations" / "notes.txt").write_text("x")
    assert "Annotations: passed over 1 file: 1 no XML" in ingested(tmp_path, reader).notes
