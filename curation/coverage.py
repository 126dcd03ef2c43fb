"""Coverage: what is known, unsure and unknown, by task and slice, and which tasks are labelled together."""

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from curation.ledger.snapshot import Snapshot

__all__ = ["Cell", "Coverage", "coverage"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Counts of one (task, slice, split); `counts` are current labels by class, empty for numbers and boxes."""

    task: str
    slice: str
    split: str
    samples: int
    known: int
    unsure: int
    counts: dict[str, int]

    @property
    def unknown(self) -> int:
        """Samples without a current label."""
        return self.samples - self.known - self.unsure


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """`cells` for each task, slice ("" is everything) and split; `overlap[a][b]` counts those of train with both."""

    commit: int
    samples: int
    cells: tuple[Cell, ...]
    overlap: dict[str, dict[str, int]]

    def rows(self) -> list[dict[str, object]]:
        """The cells as plain rows."""
        return [{**asdict(cell), "unknown": cell.unknown} for cell in self.cells]


def coverage(now: Snapshot) -> Coverage:
    """Count every (task, slice, split) at this snapshot, and the co-labelling of every pair of tasks.

    Slices over predictions are left out: they say nothing of labels.
    """
    samples = now.samples()
    ids = np.asarray(samples["sample_id"].to_numpy(), np.int64)
    order = np.argsort(ids)
    splits = np.asarray(samples["split"].to_pylist(), dtype=object)
    slices = {
        name: part for name, part in now.slices().items()
        if not part.reads_predictions
    }  # fmt: skip
    inside: dict[str, npt.NDArray[np.bool_]] = {"": np.ones(len(ids), np.bool_)}
    inside |= {name: np.isin(ids, now.members(part.predicate)) for name, part in slices.items()}
    cells: list[Cell] = []
    known_of: dict[str, npt.NDArray[np.bool_]] = {}
    for name, task in now.tasks().items():
        labels = now.labels(name)
        places = order[np.searchsorted(ids[order], labels["sample_id"].to_numpy())]
        state = np.zeros(len(ids), np.int8)
        state[places] = labels["state"].to_numpy()
        code = np.full(len(ids), -1, np.int32)
        code[places] = pc.fill_null(labels["code"], -1).to_numpy()
        known_of[name] = state == 1
        for label, members in inside.items():
            if label and slices[label].task not in ("", name):
                continue
            for split in ("train", "validation", "test"):
                here = members & (splits == split)
                counts = np.bincount(code[here & (code >= 0)], minlength=len(task.classes))
                cells.append(
                    Cell(
                        task=name, slice=label, split=split, samples=int(here.sum()),
                        known=int((here & (state == 1)).sum()), unsure=int((here & (state == 2)).sum()),
                        counts={cls: int(n) for cls, n in zip(task.classes, counts, strict=False)},
                    )
                )  # fmt: skip
    train = splits == "train"
    overlap = {a: {b: int((known_of[a] & known_of[b] & train).sum()) for b in known_of} for a in known_of}
    return Coverage(commit=now.commit, samples=len(ids), cells=tuple(cells), overlap=overlap)
