"""Drift: what differs between two sets of images, in attributes, predictions and features."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.analysis import missingness
from curation.analysis.missingness import ORGANISING, CodedAttribute, aligned_attribute, coded_attribute
from curation.arrays import Bools, Float32s, Floats, Ints
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput
from curation.files.read_back import read_parquet
from curation.images.embeddings import Embeddings, principal_directions
from curation.requests.clusters import k_means
from curation.rows import tabled
from training.judging.group_shift import GroupMeans, exchange_p, most_found
from training.judging.trained_images import trained_images

__all__ = ["RATE", "UNSEEN", "Column", "Drift", "Drifted", "ImageSets", "drift", "feature_columns", "tested"]

RATE = 0.05
"""The false discovery rate among what is found."""
UNSEEN = ORGANISING | {"propensity", "captured_at"}
"""Attributes that say nothing about what an image shows."""
CLUSTERS, DIRECTIONS, WIDTH = 20, 8, 64
EXAMPLES, VALUES = 3, 3
"""Examples and values that are reported of each difference."""


@dataclass(frozen=True, kw_only=True)
class Drifted:
    """One value that was tested: an "attribute", a "prediction" or "features", by name.

    `p` is for this test alone, `q` the false discovery rate at which it is found among all (Benjamini & Hochberg 1995).
    `effect` is the largest change of a share (0 to 1), or for numbers the rank-biserial correlation (-1 to 1; above 0:
    the second set has higher values). `before` and `after` are shares of the values that changed most, every group
    counted once, or the medians of the numbers. `examples` are keys of the second set that show the change.
    """

    kind: str
    name: str
    images: int
    groups: int
    p: float
    q: float
    effect: float
    before: dict[str, float]
    after: dict[str, float]
    examples: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Drift:
    """All values that were tested, the surest difference first; how many images and groups each set has; and notes."""

    rows: list[Drifted]
    images: tuple[int, int]
    groups: tuple[int, int]
    notes: list[str]

    @property
    @tabled(Drifted)
    def found(self) -> list[Drifted]:
        """The differences with a false discovery rate of at most 5%."""
        return [row for row in self.rows if row.q <= RATE]


@dataclass(frozen=True, kw_only=True)
class ImageSets:
    """The N images of both sets: ids, keys, group codes [N], and which are in the `second` [N]."""

    ids: Ints
    keys: pa.Array
    groups: Ints
    second: Bools

    def at(self, here: Bools) -> "ImageSets":
        """Only the images that `here` [N] marks."""
        return ImageSets(
            ids=self.ids[here],
            keys=self.keys.filter(pa.array(here)),
            groups=self.groups[here],
            second=self.second[here],
        )


@dataclass(frozen=True, kw_only=True)
class Column:
    """A value of the images of two sets, as it is tested; `numbers` [N] are those of a number, NaN where unknown."""

    kind: str
    sets: ImageSets
    coded: CodedAttribute
    means: GroupMeans
    numbers: Floats | None

    @classmethod
    def of(cls, kind: str, name: str, value: pa.ChunkedArray, sets: ImageSets) -> "list[Column]":
        """The column of `value` [N], in a list that is empty where it has fewer than two values to tell apart."""
        coded = coded_attribute(name, value, sets.groups % missingness.CLUSTERS)
        if coded is None or (coded.rank is not None and not 0 < sets.second[coded.row].sum() < len(coded.row)):
            return []
        numbers = None if coded.rank is None else np.asarray(pc.cast(value, pa.float64()).to_numpy(), np.float64)
        means = GroupMeans.of(coded, sets.groups, sets.second)
        return [cls(kind=kind, sets=sets, coded=coded, means=means, numbers=numbers)]


def drift(
    now: Snapshot, home: Path, first: Ints, second: Ints, *, run: str = "", embeddings: str = "", seed: int = 0
) -> Drift:
    """What differs between the samples `first` and `second` (ids); excluded samples are left out.

    Predictions are those of `run` ("": none) on images that it was not trained on, features those of `embeddings` ("":
    none). BadInput where a set is empty or an image is in both; a part that covers one of the sets alone is left out
    with a note.
    """
    if len(both := np.intersect1d(first, second)):
        raise BadInput(f"{len(both):,} images are in both sets; compare two sets without a common image")
    sets = _sets_of(now, first, second)
    notes: list[str] = []
    columns = [*_attributes(now, sets)]
    if run:
        columns += _predictions(now, home, run, sets, notes)
    if embeddings:
        columns += _features(home, embeddings, sets, notes)
    sizes = tuple(len(np.unique(sets.groups[sets.second == side])) for side in (False, True))
    if columns and most_found(columns[0].means) * len(columns) > RATE:
        notes.append(f"{sizes[0]} and {sizes[1]} groups are too few for {len(columns)} tests to find anything")
    images = int((~sets.second).sum()), int(sets.second.sum())
    return Drift(rows=tested(columns, seed), images=images, groups=(sizes[0], sizes[1]), notes=notes)


def _sets_of(now: Snapshot, first: Ints, second: Ints) -> ImageSets:
    samples = now.samples().sort_by("sample_id")
    samples = samples.filter(pc.invert(samples["excluded"]))
    samples = samples.filter(pc.is_in(samples["sample_id"], value_set=pa.array(np.union1d(first, second))))
    ids = np.asarray(samples["sample_id"].to_numpy(), np.int64)
    inside = np.isin(ids, second)
    for name, count in (("first", int((~inside).sum())), ("second", int(inside.sum()))):
        if not count:
            raise BadInput(f"the {name} set has no image that is not excluded; choose another")
    groups = pc.dictionary_encode(samples["group"]).combine_chunks().indices.to_numpy()
    return ImageSets(ids=ids, keys=samples["key"].combine_chunks(), groups=groups.astype(np.int64), second=inside)


def _attributes(now: Snapshot, sets: ImageSets) -> Iterator[Column]:
    """Every attribute that is text, a flag or a number, and the size and format of the images."""
    ids = pa.array(sets.ids)
    for name, kind in now.attributes().items():
        if name not in UNSEEN and kind != "time":
            yield from Column.of("attribute", name, aligned_attribute(now.attribute(name), ids), sets)
    samples = now.samples()
    samples = samples.take(pc.index_in(ids, value_set=samples["sample_id"].combine_chunks()))
    sizes = [
        f"{width} x {height}"
        for width, height in zip(*(samples[n].to_pylist() for n in ("width", "height")), strict=True)
    ]
    yield from Column.of("attribute", "image size", pa.chunked_array([sizes], pa.string()), sets)
    yield from Column.of("attribute", "image format", samples["format"], sets)


def _predictions(now: Snapshot, home: Path, run: str, sets: ImageSets, notes: list[str]) -> Iterator[Column]:
    """The predicted class or number of each task, and its confidence, on images that the run was not trained on."""
    table = read_parquet(now.runs.predictions_file(home, run), "evaluate the run again")
    fresh = ~np.isin(np.asarray(sets.keys.to_pylist(), object), np.asarray(_trained_on(now, home, run, notes), object))
    for name, task in now.tasks().items():
        mine = table.filter(pc.equal(table["task"], name))
        where = pc.index_in(sets.keys, value_set=mine["key"].combine_chunks())
        here = np.asarray(where.is_valid(), np.bool_) & fresh
        if not len(mine) or not _covers(sets, here, f"run {run} predicts {name}", notes):
            continue
        part, mine = sets.at(here), mine.take(where.filter(pa.array(here)))
        if task.classes:
            classes = pa.array(task.classes, pa.string())
            yield from Column.of(
                "prediction", name, pa.chunked_array([classes.take(mine["code"].combine_chunks())]), part
            )
            yield from Column.of("prediction", f"confidence of {name}", mine["confidence"], part)
        else:
            yield from Column.of("prediction", name, mine["number"], part)


def _trained_on(now: Snapshot, home: Path, run: str, notes: list[str]) -> list[str]:
    """Keys of the images that a run was trained on, as far as is known."""
    found = trained_images(now, home, run)
    if found is None:
        notes.append(f"it is unknown what run {run} was trained on, where its predictions are surer than elsewhere")
    return [] if found is None else [str(key) for key in found.to_pylist()]


def _features(home: Path, model: str, sets: ImageSets, notes: list[str]) -> Iterator[Column]:
    """The columns of features, where both sets have some."""
    vectors = Embeddings.open(home, model)
    here = np.isin(np.asarray(sets.keys.to_pylist(), object), np.asarray(vectors.keys, object))
    if _covers(sets, here, f"embeddings {model} cover", notes):
        part, generator = sets.at(here), np.random.default_rng(0)
        yield from feature_columns(_projected(vectors, part.keys.to_pylist(), generator), part, generator)


def feature_columns(principal: Float32s, sets: ImageSets, generator: np.random.Generator) -> Iterator[Column]:
    """The cluster of each image, its distance from the mean, and its place on the first principal directions, from all
    its places on them [N, D]. What is tested is chosen without regard to the sets."""
    clusters = k_means(principal, min(CLUSTERS, len(principal)), generator)
    names = pa.chunked_array([[f"cluster {code}" for code in clusters.tolist()]], pa.string())
    yield from Column.of("features", "cluster", names, sets)
    distance = np.linalg.norm(principal - principal.mean(axis=0), axis=1)
    yield from Column.of("features", "distance from the mean", pa.chunked_array([distance.astype(np.float64)]), sets)
    for place in range(min(DIRECTIONS, principal.shape[1])):
        values = pa.chunked_array([principal[:, place].astype(np.float64)])
        yield from Column.of("features", f"direction {place + 1}", values, sets)


def _projected(vectors: Embeddings, keys: Sequence[str], generator: np.random.Generator) -> Float32s:
    """The vectors of these images on about 64 principal directions [N, 64]; the directions come from 20,000 at most."""
    rows = vectors.rows(keys)
    some = vectors.standardised(np.sort(generator.permutation(rows)[:20_000]))
    directions = principal_directions(some, WIDTH, generator)
    parts = [vectors.standardised(rows[at : at + 4_096]) @ directions for at in range(0, len(rows), 4_096)]
    return np.asarray(np.concatenate(parts), np.float32)


def _covers(sets: ImageSets, here: Bools, what: str, notes: list[str]) -> bool:
    """Whether both sets have an image that is marked `here` [N]; otherwise a note."""
    counts = [int((here & (sets.second == side)).sum()) for side in (False, True)]
    if not all(counts):
        notes.append(f"{what}: {counts[0]:,} images of the first set and {counts[1]:,} of the second; left out")
    return all(counts)


def tested(columns: Sequence[Column], seed: int) -> list[Drifted]:
    """A row for each column, the surest difference first."""
    from scipy import stats

    if not columns:
        return []
    p = exchange_p([column.means for column in columns], seed)
    q = stats.false_discovery_control(p)
    rows = [_row(column, *found) for column, *found in zip(columns, p.tolist(), q.tolist(), strict=True)]
    return sorted(rows, key=lambda row: (row.q, row.p, -abs(row.effect), row.kind, row.name))


def _row(column: Column, p: float, q: float) -> Drifted:
    coded, sets = column.coded, column.sets
    first, second = column.means.sides()
    change = second - first
    if column.numbers is not None and coded.rank is not None:
        numbers, inside = column.numbers[coded.row], sets.second[coded.row]
        before, after = {"median": float(np.median(numbers[~inside]))}, {"median": float(np.median(numbers[inside]))}
        order = np.argsort(-coded.rank * np.sign(change[0]), kind="stable")
        effect = float(2 * change[0])
    else:
        most = np.argsort(-np.abs(change), kind="stable")[:VALUES].tolist()
        before, after = ({coded.names[code]: float(side[code]) for code in most} for side in (first, second))
        order = np.flatnonzero(coded.code == int(change.argmax()))
        effect = float(np.abs(change).max())
    return Drifted(
        kind=column.kind, name=coded.name, images=len(coded.row), groups=len(column.means.second), p=p, q=q,
        effect=effect, before=before, after=after, examples=_examples(sets, coded.row[order]),
    )  # fmt: skip


def _examples(sets: ImageSets, rows: Ints) -> tuple[str, ...]:
    """Keys of the first of `rows` that are in the second set, of different groups."""
    rows = rows[sets.second[rows]]
    _, first = np.unique(sets.groups[rows], return_index=True)
    return tuple(str(sets.keys[int(row)]) for row in rows[np.sort(first)[:EXAMPLES]])
