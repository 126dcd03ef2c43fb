"""Predictions for images that are not in the catalog, and how unlike the training images each is."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from curation.arrays import Float32s, Floats, Ints, Pixels
from curation.catalog.catalog import Catalog
from curation.catalog.frames_before import frames_before
from curation.catalog.tasks import Task
from curation.errors import BadInput, NotFound
from curation.files.locations import read_bytes
from curation.files.progress import StageProgress
from curation.images.decoding import Quarantined, sizes
from curation.images.embeddings import statistics
from curation.ingestion.dataset import Dataset
from curation.ingestion.read_dataset import read
from curation.ingestion.readers.findings import Findings
from curation.ingestion.readers.image_paths import EXTENSIONS, images_in
from samplers.pack.pack import Pack
from samplers.plan.interleave import hash64
from samplers.plan.plan import Plan
from samplers.streaming.frame_pairs import gap_of
from training.deployment.deployed import Deployed, deployed
from training.deployment.unlikeness import UNLIKE, Unlikeness
from training.evaluation.evaluation import current_task
from training.evaluation.features import fitted_images, fitted_pixels
from training.evaluation.labelled_classes import any_class_table
from training.evaluation.predicted_boxes import BOX, found_boxes, likeliest
from training.evaluation.predictions import number_table
from training.loop.task_labels import groups_of
from training.network.model import Standardise
from training.network.trunks import EfficientNetLite0, load_frozen
from training.run import Run

__all__ = ["Comparison", "Image", "Predicted", "images_of", "predict_images"]

BATCH = 64
KNOWN = 1500
"""Training images at most that others are compared with."""

DEEP = 32


class Comparison:
    """How unlike a run's training images others are, by features of the pretrained trunk, whatever the run's own is.

    A trunk that learned from a plan's labels does not show what it has learned to ignore (docs/log.md). Of more than
    1,500 training images as many are taken, by hash.
    """

    def __init__(self, run: Run, catalog: Catalog, device: torch.device, report: StageProgress) -> None:
        plan = Plan.open(catalog.home, run.plan)
        self._trunk = load_frozen(EfficientNetLite0.name).to(device)
        with catalog.read(plan.commit) as then:
            groups = np.unique(np.array(groups_of(then, plan)), return_inverse=True)[1]
        chosen = np.argsort(hash64(0, np.arange(len(groups))), kind="stable")[:KNOWN]
        pack = Pack.open(catalog.home, plan.pack_hash)
        rows = np.asarray(pack.rows(plan.keys.take(pa.array(chosen)).to_pylist()), np.int32)
        group = dict(zip(rows.tolist(), groups[chosen].tolist(), strict=True))
        found, codes = list[Float32s](), list[int]()
        for part, images in fitted_images(pack, run.recipe, rows):
            found.append(self._features(torch.from_numpy(images).to(device)))
            codes += [group[row] for row in part.tolist()]
            report("compare", len(codes), len(rows))
        vectors, blocks = np.concatenate(found), self._trunk.blocks
        widths = [width for _, width in blocks for _ in range(width)]
        self._scaled = Standardise(*statistics(vectors.astype(np.float16), blocks), widths)
        self._known = Unlikeness(self._standardised(vectors), np.array(codes))

    def of(self, images: Tensor) -> tuple[Floats, Floats]:
        """Distances and ranks [n] of uint8 images [n, 3, H, W]."""
        return self._known.of(self._standardised(self._features(images)))

    def _standardised(self, vectors: Float32s) -> Float32s:
        """The blocks of the trunk with the same weight each, whatever their width."""
        return np.asarray(self._scaled(torch.from_numpy(vectors)).numpy(), np.float32)

    def _features(self, images: Tensor) -> Float32s:
        return np.asarray(self._trunk.features(images).float().cpu().numpy(), np.float32)


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image to predict: the key that names it in the results, and its location (`curation.files.locations`).

    `group` and `captured_at` (microseconds since 1970) say which image of a data set is the frame before it.
    """

    key: str
    location: str
    group: str = ""
    captured_at: int | None = None


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Predictions of a run for n images, and the files that are no images.

    `table` has a row for each image and task: key, location, task, class, code, number, confidence, probabilities,
    distance and rank (`Unlikeness`), and `boxes` in pixels of the upright image where a task is one of boxes.
    """

    table: pa.Table
    images: int
    unreadable: list[Quarantined]
    paired: int | None = None
    """Where a task reads two frames, how many of the images have a frame before."""

    @property
    def unlike(self) -> float:
        """The part of the images whose rank is above `UNLIKE`; NaN where there are no ranks."""
        ranks = self.table["rank"].to_numpy()
        return float(np.mean(ranks > UNLIKE)) if np.isfinite(ranks).all() else float("nan")

    @property
    def unlike_text(self) -> str:
        """The same in words."""
        if np.isnan(self.unlike):
            return "All training images are one group, so nothing says how unlike them these images are."
        return (
            f"{self.unlike:.1%} of the images are less like the training images than {UNLIKE:.0%} of held-out training "
            f"groups are ({1 - UNLIKE:.0%} would be usual)."
        )


def images_of(place: Path, report: StageProgress) -> tuple[list[Image], list[str]]:
    """The images of a declared data set, or of any folder, and the entries of the declaration that are refused.

    Keys are those of the data set, or paths inside the folder. NotFound for a folder that is not there, BadInput where
    it holds no image.
    """
    if not place.is_dir():
        raise NotFound(f"{place}: no such folder; check the path")
    if (place / "dataset.toml").is_file():
        findings = Findings(quarantine=True)
        found = _declared(read(Dataset.load(place), report, findings).samples)
        refused = [part.reason for part in findings.aside]
    else:
        root, refused = place.absolute(), []
        found = [Image(key=str(path), location=str(root / path)) for path in sorted(images_in(root, DEEP))]
    if not found:
        raise BadInput(f"{place}: holds no image ({', '.join(EXTENSIONS)}); name a folder with images")
    return found, refused


def _declared(samples: pa.Table) -> list[Image]:
    """The images among the samples of a data set, with their groups and times where it gives them."""
    columns = [name for name in ("key", "location", "group") if name in samples.column_names]
    rows = samples.select(columns).to_pylist()
    times: list[int | None] = [None] * len(rows)
    if "captured_at" in samples.column_names:
        times = samples["captured_at"].cast(pa.timestamp("us")).cast(pa.int64()).to_pylist()
    return [
        Image(key=row["key"], location=row["location"], group=row.get("group") or row["key"], captured_at=time)
        for row, time in zip(rows, times, strict=True) if row["location"]
    ]  # fmt: skip


@torch.inference_mode()
def predict_images(
    run: Run, catalog: Catalog, images: Sequence[Image], *, device: torch.device | None = None,
    progress: StageProgress | None = None,
) -> Predicted:  # fmt: skip
    """Predict every task of `run` for these images, by the tasks' present decision rules.

    Each image is decoded and fitted as the run's own images were. What cannot be read is in `unreadable`. `progress` is
    told of the stages "compare" (training images) and "predict". Tasks of two frames also read the frame before each
    image, if it is among the images. BadInput where no image can be read.
    """
    report = progress or (lambda stage, done, total: None)
    torch.set_num_threads(run.recipe.threads)
    network = deployed(run, catalog).to(device or torch.device("cpu"))
    known = Comparison(run, catalog, network.device, report)
    with catalog.read() as now:
        tasks = [current_task(now, task.task) for task in network.tasks]
    earlier = _frames_before(network, images)
    unreadable, parts, done = list[Quarantined](), list[pa.Table](), 0
    with ThreadPoolExecutor(run.recipe.threads) as pool:
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            found = list(pool.map(lambda image: _pixels(image, run), batch))
            unreadable += [part for part in found if isinstance(part, Quarantined)]
            usable = [at for at, part in enumerate(found) if isinstance(part, np.ndarray)]
            if usable:
                before = None
                if earlier is not None:
                    frames = [earlier[start + at] for at in usable]
                    before = list(pool.map(lambda image: None if image is None else _pixels(image, run), frames))
                pixels = [part for part in found if isinstance(part, np.ndarray)]
                shown = [batch[at] for at in usable]
                whole = _sizes(shown) if any(task.kind == "detection" for task in tasks) else np.zeros((0, 2), np.int64)
                parts += _rows(network, known, tasks, shown, pixels, before, whole)
            done += len(batch)
            report("predict", done, len(images))
    if not parts:
        raise BadInput(f"{unreadable[0].path}: {unreadable[0].reason}; none of {len(images):,} images can be read")
    table = pa.concat_tables(parts, promote_options="default").sort_by([("task", "ascending"), ("key", "ascending")])
    paired = None if earlier is None else sum(image is not None for image in earlier)
    return Predicted(table=table, images=len(images) - len(unreadable), unreadable=unreadable, paired=paired)


def _frames_before(network: Deployed, images: Sequence[Image]) -> list[Image | None] | None:
    """The frame before each image; None where no task reads two frames."""
    if not network.paired:
        return None
    times = np.array([image.captured_at or 0 for image in images], np.int64)
    there = np.array([image.captured_at is not None for image in images], np.bool_)
    gap = gap_of([task.task for task in network.tasks])
    rows = frames_before([image.group for image in images], times, there, gap, names=[image.key for image in images])
    return [images[row] if row >= 0 else None for row in rows.tolist()]


def _pixels(image: Image, run: Run) -> Pixels | Quarantined:
    """An image as the network sees it, uint8 [3, H, W]; why not, where it cannot be read."""
    try:
        return fitted_pixels(read_bytes(image.location), run.recipe)
    except BadInput as error:
        return Quarantined(path=image.location, reason=str(error))


def _sizes(images: Sequence[Image]) -> Ints:
    """Width and height [n, 2] of upright images that can be read."""
    return np.array([size or (0, 0) for size in sizes([image.location for image in images])], np.int64)


def _rows(
    network: Deployed, known: Comparison, tasks: Sequence[Task], images: Sequence[Image], pixels: Sequence[Pixels],
    before: Sequence[Pixels | Quarantined | None] | None, whole: Ints,
) -> Iterator[pa.Table]:  # fmt: skip
    """The rows of a batch of images for each task; a frame before that cannot be read counts as none. `whole` [n, 2]
    are their widths and heights, if one is of boxes."""
    inputs = torch.from_numpy(np.stack(pixels)).to(network.device)
    if before is None:
        answers = network(inputs)
    else:
        there = np.array([isinstance(part, np.ndarray) for part in before], np.bool_)
        earlier = np.stack([part if isinstance(part, np.ndarray) else np.zeros_like(pixels[0]) for part in before])
        answers = network(inputs, *(torch.from_numpy(part).to(network.device) for part in (earlier, there)))
    distances, ranks = known.of(inputs)
    keys, locations = (pa.array([getattr(image, name) for image in images]) for name in ("key", "location"))
    for task, trained in zip(tasks, network.tasks, strict=True):
        found, prior = answers[task.name].double().cpu().numpy(), network.priors[task.name]
        if task.kind == "detection":
            likely = likeliest(found[..., BOX:], trained.attributes)
            found = np.concatenate([found[..., :BOX], likely], axis=-1)
            rows = found_boxes(task.name, keys, found, whole, network.run_id, trained.attributes)
            rows = rows.add_column(1, "location", locations).add_column(3, "class", pa.nulls(len(keys), pa.string()))
            yield rows.append_column("distance", pa.array(distances)).append_column("rank", pa.array(ranks))
            continue
        rows = any_class_table(task, keys, found, prior) if task.classes else number_table(task.name, keys, found)
        names = [None if code is None else task.classes[code] for code in rows["code"].to_pylist()]
        if task.kind == "multilabel":
            names = ["; ".join(task.classes[code] for code in codes) for codes in rows["codes"].to_pylist()]
            rows = rows.drop_columns("codes")
        rows = rows.add_column(1, "location", locations).add_column(3, "class", pa.array(names, pa.string()))
        yield rows.append_column("distance", pa.array(distances)).append_column("rank", pa.array(ranks))
