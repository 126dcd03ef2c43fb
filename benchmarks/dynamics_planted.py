"""Planted tasks on cached vectors, for searches: families that read the same few directions, and unrelated tasks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from benchmarks.train_stopping import one_image_samples
from curation import Catalog, Task
from curation.arrays import Floats, Ints
from curation.catalog.event_tables import LABELS
from curation.images import embeddings
from curation.images.decoding import inspect
from samplers import Plan, Policy, make_pack, make_plan
from training.recipe import Recipe

__all__ = ["Planted", "planted_plan", "planted_words"]

SIZE = 64
"""Draws of a batch."""


@dataclass(frozen=True, kw_only=True)
class Planted:
    """T tasks of four classes on vectors of `width`; `families` [T] says which of them read the same directions.

    A family reads `units` of them. There are `labels` training labels a task, on images of its own choice, and `held`
    images each of validation and of test. Of unrelated tasks each is its own family; without a `signal` labels are
    drawn without looking at the image.
    """

    families: tuple[int, ...]
    width: int = 24
    units: int = 6
    labels: int = 400
    held: int = 600
    noise: float = 0.3
    signal: float = 1.0

    def catalog(self, folder: Path, seed: int) -> Catalog:
        """A workspace of these tasks with cached vectors."""
        generator = np.random.default_rng(seed)
        catalog = Catalog.create(folder / "home")
        path = folder / "one.png"
        Image.fromarray(generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)
        first = 2 * self.labels
        count = first + 2 * self.held
        keys = [f"made/{number:05d}" for number in range(count)]
        vectors = generator.normal(size=(count, self.width)).astype(np.float32)
        tasks = [
            Task(name=f"t{number:02d}", kind="categorical", classes=tuple("abcd"), owner="o")
            for number in range(len(self.families))
        ]
        rows = []
        for task, codes in zip(tasks, self._codes(vectors, generator), strict=True):
            train = generator.permutation(first)[: self.labels]
            for row in [*train.tolist(), *range(first, count)]:
                rows.append({"key": keys[row], "task": task.name, "state": "known", "text": task.classes[codes[row]],
                             "annotator": "made"})  # fmt: skip
        splits = ["train"] * first + ["validation"] * self.held + ["test"] * self.held
        with catalog.commit(author="o", message="made", batch="made") as change:
            change.add_tasks(tasks)
            change.add_samples(one_image_samples(keys, path, inspect(path)), dataset="made")
            change.add_attributes(pa.table({"key": keys, "group": keys, "split": splits}))
            change.add_labels(pa.Table.from_pylist(rows, LABELS), source="import")
        packed = make_pack(catalog).keys.to_pylist()
        name = Recipe.parse(planted_words(8)).embeddings
        with embeddings.writing(catalog.home, name, packed, [("made", self.width)]) as written:
            written[:] = vectors[[int(key.split("/")[1]) for key in packed]].astype(np.float16)
        return catalog

    def _codes(self, vectors: Floats, generator: np.random.Generator) -> list[Ints]:
        """The class of every image for each task [T][N]."""
        maps = {
            family: generator.normal(size=(self.width, self.units)) / self.width**0.5 for family in set(self.families)
        }
        found = []
        for family in self.families:
            seen = np.tanh(1.5 * vectors @ maps[family])
            logits = self.signal * seen @ generator.normal(size=(self.units, 4))
            found.append((logits + generator.gumbel(size=logits.shape) * self.noise).argmax(axis=1))
        return found


def planted_words(hidden: int, **changed: object) -> dict[str, object]:
    """A recipe for planted tasks, without a tree."""
    return {
        "heads": "drawn", "optimizer": "adamw", "size": (32, 32), "hidden": hidden, "global_batch": SIZE,
        "learning_rate": 0.01, "schedule": "cosine", "weight_decay": 0.01, "threads": 1, **changed,
    }  # fmt: skip


def planted_plan(catalog: Catalog, steps: int, importances: Mapping[str, float] | None = None) -> Plan:
    """Even shares, natural rules; `importances` are relative to 1."""
    with catalog.read() as now:
        policy = Policy.even(now.tasks().values(), rule="natural")
    if importances:
        given = {name: importances.get(name, 1.0) for name in policy.task}
        parts = {
            name: part.model_copy(update={"importance": given[name] / sum(given.values())})
            for name, part in policy.task.items()
        }
        policy = policy.model_copy(update={"task": parts})
    return make_plan(catalog, policy, make_pack(catalog), draws=SIZE * steps)
