"""The same small data set, written in every format that Amber reads."""

import csv
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import yaml
from support.pictures import SIZE, picture

from curation.catalog.catalog import Catalog
from curation.errors import AmberError
from curation.files.toml_files import parse
from curation.ingestion.dataset import Dataset
from curation.ingestion.ingest import Ingested, ingest
from curation.ingestion.read_dataset import read
from curation.ingestion.readers.content import Content

__all__ = [
    "CLASSES",
    "FORMATS",
    "HEIGHT",
    "TASKS",
    "WIDTH",
    "Box",
    "Json",
    "Scene",
    "boxes_in",
    "content",
    "declared",
    "draw",
    "ingested",
    "label_rows",
    "refused",
]

HEIGHT, WIDTH = SIZE
CLASSES = ("car", "light")
TASKS = [
    {"name": "objects", "kind": "detection", "classes": CLASSES, "owner": "ada"},
    {"name": "color", "kind": "categorical", "classes": ("red", "yellow", "green"), "owner": "ada"},
    {"name": "things", "kind": "multilabel", "classes": ("tree", "house"), "owner": "ada"},
    {"name": "speed", "kind": "regression", "unit": "km/h", "metric": "mae", "owner": "bob"},
    {"name": "wet", "kind": "binary", "owner": "bob"},
]

Json = dict[str, Any]
Box = tuple[str, float, float, float, float]
"""Class, left, top, width and height in pixels."""


@dataclass(frozen=True)
class Scene:
    """An image by its name, and its boxes: None if nobody looked."""

    name: str
    boxes: Sequence[Box] | None


def draw(folder: Path, names: Sequence[str]) -> None:
    """One image for each name, below `folder`/images."""
    for number, name in enumerate(names):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)


def declared(folder: Path, reader: Mapping[str, Any], **other: Any) -> Dataset:
    """A data set in `folder` with that reader and the tasks of this module."""
    facts = {"name": "d", "title": "t", "licence": "l", "source": "s", "task": TASKS, "split": {"by": "group"}}
    return parse(Dataset, facts | {"reader": reader, "folder": folder} | other, where="dataset.toml")


def content(folder: Path, reader: Mapping[str, Any]) -> Content:
    """The content that the reader finds in `folder`."""
    return read(declared(folder, reader), lambda stage, done, total: None)


def ingested(folder: Path, reader: Mapping[str, Any], *, quarantine: bool = False, **other: Any) -> Ingested:
    """The result of an ingest of `folder` into the workspace `folder`/home."""
    catalog = Catalog.create(folder / "home")
    return ingest(catalog, declared(folder, reader, **other), author="ada", quarantine=quarantine)


def boxes_in(folder: Path, task: str = "objects") -> dict[str, list[tuple[Any, ...]]]:
    """The boxes in the workspace `folder`/home, by key: class, x, y, w and h, rounded to 6 digits."""
    with Catalog.open(folder / "home").read() as now:
        keys = dict(zip(*(now.samples()[name].to_pylist() for name in ("sample_id", "key")), strict=True))
        found = now.column("boxes", task).to_pylist()
    return {
        keys[row["sample_id"]]: [(box["class"], *(round(box[side], 6) for side in "xywh")) for box in row["value"]]
        for row in found
        if row["value"] is not None
    }


def refused(folder: Path, reader: Json, why: str) -> None:
    """Check that the reader refuses the files in `folder` in one line that matches `why` and ends with the fix."""
    with pytest.raises(AmberError, match=rf"^[^\n]*{why}[^\n]*; [^\n]*$"):
        content(folder, reader)


def label_rows(found: Content, *columns: str) -> list[tuple[Any, ...]]:
    """These columns of the labels, as one tuple for each label."""
    return [tuple(row[name] for name in columns) for row in found.labels.to_pylist()]


def coco(folder: Path, scenes: Sequence[Scene]) -> dict[str, Any]:
    codes = {name: code + 5 for code, name in enumerate(CLASSES)}
    images = [{"id": number, "file_name": scene.name} for number, scene in enumerate(scenes)]
    annotations = [
        {"id": 100 * number + place, "image_id": number, "category_id": codes[name], "bbox": corner, "iscrowd": 0}
        for number, scene in enumerate(scenes)
        for place, (name, *corner) in enumerate(scene.boxes or ())
    ]
    categories = [{"id": code, "name": name} for name, code in codes.items()]
    document = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    (folder / "coco.json").write_text(json.dumps(document))
    return {"kind": "coco", "file": "coco.json", "images": "images", "task": "objects"}


def scalabel(folder: Path, scenes: Sequence[Scene]) -> dict[str, Any]:
    def labels(scene: Scene) -> list[dict[str, Any]] | None:
        if scene.boxes is None:
            return None
        return [
            {"category": name, "box2d": {"x1": x, "y1": y, "x2": x + w - 1, "y2": y + h - 1}}
            for name, x, y, w, h in scene.boxes
        ]

    frames = [{"name": scene.name, "labels": labels(scene)} for scene in scenes]
    (folder / "scalabel.json").write_text(json.dumps({"frames": frames}))
    return {"kind": "scalabel", "file": "scalabel.json", "images": "images", "task": "objects"}


def yolo(folder: Path, scenes: Sequence[Scene]) -> dict[str, Any]:
    for scene in scenes:
        path = folder / "labels" / Path(scene.name).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if scene.boxes is not None:
            lines = [
                f"{CLASSES.index(name)} {(x + w / 2) / WIDTH!r} {(y + h / 2) / HEIGHT!r} {w / WIDTH!r} {h / HEIGHT!r}\n"
                for name, x, y, w, h in scene.boxes
            ]
            path.write_text("".join(lines))
    (folder / "list.txt").write_text("".join(f"images/{scene.name}\n" for scene in scenes))
    (folder / "data.yaml").write_text(yaml.safe_dump({"train": "list.txt", "names": list(CLASSES)}))
    return {"kind": "yolo", "task": "objects"}


def fiftyone(folder: Path, scenes: Sequence[Scene]) -> dict[str, Any]:
    def detections(scene: Scene) -> dict[str, Any] | None:
        if scene.boxes is None:
            return None
        found = [
            {"_cls": "Detection", "label": name, "bounding_box": [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT]}
            for name, x, y, w, h in scene.boxes
        ]
        return {"_cls": "Detections", "detections": found}

    samples = [{"filepath": f"data/{scene.name}", "tags": [], "truth": detections(scene)} for scene in scenes]
    if not (folder / "data").exists():
        (folder / "data").symlink_to(folder / "images")
    (folder / "metadata.json").write_text("{}")
    (folder / "samples.json").write_text(json.dumps({"samples": samples}))
    return {"kind": "fiftyone", "fields": {"truth": "objects"}}


def label_studio(folder: Path, scenes: Sequence[Scene]) -> dict[str, Any]:
    def result(number: int, box: Box) -> dict[str, Any]:
        name, x, y, w, h = box
        place = {"x": 100 * x / WIDTH, "y": 100 * y / HEIGHT, "width": 100 * w / WIDTH, "height": 100 * h / HEIGHT}
        return {
            "id": f"r{number}", "from_name": "box", "to_name": "image", "type": "rectanglelabels", "image_rotation": 0,
            "original_width": WIDTH, "original_height": HEIGHT,
            "value": {**place, "rotation": 0, "rectanglelabels": [name]},
        }  # fmt: skip

    items = [
        {
            "id": number,
            "data": {"image": f"/data/local-files/?d=images/{scene.name}"},
            "annotations": []
            if scene.boxes is None
            else [{"id": number, "result": [result(place, box) for place, box in enumerate(scene.boxes)]}],
        }
        for number, scene in enumerate(scenes)
    ]
    (folder / "export.json").write_text(json.dumps(items))
    return {"kind": "label_studio", "file": "export.json", "tags": {"box": "objects"}, "missing": "none"}


def webdataset(folder: Path, scenes: Sequence[Scene]) -> dict[str, Any]:
    with tarfile.open(folder / "shard-0.tar", "w") as tar:
        for scene in scenes:
            tar.add(folder / "images" / scene.name, scene.name)
            boxes = None if scene.boxes is None else [_named(box) for box in scene.boxes]
            data = json.dumps({"boxes": boxes}).encode()
            head = tarfile.TarInfo(str(Path(scene.name).with_suffix(".json")))
            head.size = len(data)
            tar.addfile(head, io.BytesIO(data))
    return {"kind": "webdataset", "shards": "shard-*.tar", "fields": {"boxes": "objects"}}


def _named(box: Box) -> dict[str, Any]:
    return dict(zip(("class", "x", "y", "w", "h"), box, strict=True))


def csv_of_boxes(folder: Path, scenes: Sequence[Scene]) -> dict[str, Any]:
    with (folder / "images.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path"], *([scene.name] for scene in scenes)])
    with (folder / "boxes.csv").open("w", newline="") as file:
        rows: list[Sequence[object]] = [["path", "class", "x", "y", "w", "h"]]
        for scene in scenes:
            rows += [[scene.name, *box] for box in scene.boxes or ()]
            rows += [[scene.name, "", 0, 0, 0, 0]] if scene.boxes is not None else []
        csv.writer(file).writerows(rows)
    tables = [
        {"file": "images.csv", "rows": "samples"},
        {"file": "boxes.csv", "rows": "boxes", "task": "objects", "location": "path"},
    ]
    return {"kind": "tables", "images": "images", "table": tables}


def _wide(scenes: Sequence[Scene]) -> pa.Table:
    boxes = [None if scene.boxes is None else [_named(box) for box in scene.boxes] for scene in scenes]
    sides = [(side, pa.float64()) for side in "xywh"]
    type_ = pa.list_(pa.struct([("class", pa.string()), *sides]))
    return pa.table({"path": [scene.name for scene in scenes], "objects": pa.array(boxes, type_)})


def parquet(folder: Path, scenes: Sequence[Scene]) -> dict[str, Any]:
    pq.write_table(_wide(scenes), folder / "wide.parquet")
    return {"kind": "tables", "images": "images", "table": [{"file": "wide.parquet", "rows": "samples"}]}


def arrow(folder: Path, scenes: Sequence[Scene]) -> dict[str, Any]:
    feather.write_feather(_wide(scenes), folder / "wide.feather")
    return {"kind": "tables", "images": "images", "table": [{"file": "wide.feather", "rows": "samples"}]}


def voc(folder: Path, scenes: Sequence[Scene]) -> dict[str, Any]:
    shutil.rmtree(folder / "xml", ignore_errors=True)
    for scene in scenes:
        path = (folder / "xml" / scene.name).with_suffix(".xml")
        path.parent.mkdir(parents=True, exist_ok=True)
        objects = [
            f"<object><name>{name}</name><bndbox><xmin>{x!r}</xmin><ymin>{y!r}</ymin><xmax>{x + w!r}</xmax>"
            f"<ymax>{y + h!r}</ymax></bndbox></object>"
            for name, x, y, w, h in scene.boxes or ()
        ]
        if scene.boxes is not None:
            path.write_text(f"<annotation>{''.join(objects)}</annotation>")
    return {"kind": "voc", "annotations": "xml", "images": "images", "first_pixel": 0, "task": "objects"}


FORMATS: dict[str, Callable[[Path, Sequence[Scene]], dict[str, Any]]] = {
    "coco": coco,
    "scalabel": scalabel,
    "yolo": yolo,
    "fiftyone": fiftyone,
    "label_studio": label_studio,
    "voc": voc,
    "webdataset": webdataset,
    "csv": csv_of_boxes,
    "parquet": parquet,
    "arrow": arrow,
}
"""Writers by format; each returns the `[reader]` of what it wrote. COCO cannot express unknown."""
