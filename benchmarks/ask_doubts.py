"""Labels that are likely wrong: bursts labelled as another class, and boxes that are missing or shifted."""

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.table import Row, small
from curation.arrays import Floats, Ints
from curation.catalog.tasks import Task
from samplers.plan.plan import PlanTask
from training.evaluation.box_matching import Boxes, overlaps
from training.judging.box_doubts import doubted_boxes
from training.judging.doubts import doubted_classes
from training.loop.exact_heads import held_out_outputs
from training.loop.task_labels import TaskLabels
from training.network.folds import folds_of

__all__ = ["doubt_rows"]

SEEDS = int(os.environ.get("RUNS", "2" if small() else "10"))
FIRST = int(os.environ.get("FIRST_SEED", "1000"))
BURSTS, PER, CLASSES, WIDTH = 400, 5, 5, 64
WRONG = 0.08
IMAGES = 400
RIDGE = 1e-2
PEER = Path(".venv-ask-peers/bin/python")


def doubt_rows() -> list[Row]:
    """Precision among as many doubts as labels are wrong; and how many clean labels are doubted."""
    classes = np.array([_bursts(FIRST + seed) for seed in range(SEEDS)])
    boxes = np.array([_boxes(FIRST + seed) for seed in range(SEEDS)])
    clean = np.array([_clean(FIRST + seed) for seed in range(SEEDS)])
    return [
        _row("8% of bursts labelled wrong: precision at k", classes[:, 0], 75,
             {"cleanlab, grouped folds %": classes[:, 1], "cleanlab, plain folds %": classes[:, 2]}),
        _row("5% of boxes removed: precision at k", boxes[:, 0], 60, {"ObjectLab %": boxes[:, 2]}),
        _row("5% shifted by half their size: precision at k", boxes[:, 1], 60, {"ObjectLab %": boxes[:, 3]}),
        Row(what="clean bursts that are surely doubted", value=100 * float(clean[:, 0].mean()), unit="%",
            peers={"another class is likelier %": 100 * float(clean[:, 1].mean())}),
    ]  # fmt: skip


def _row(what: str, found: Floats, asked: float, peers: dict[str, Floats]) -> Row:
    """The mean over seeds, with the smallest and the largest."""
    value = 100 * float(found.mean())
    return Row(
        what=what, value=value, unit="%", low=100 * float(found.min()), high=100 * float(found.max()),
        asked=f"at least {asked:.0f}%", met=value >= asked,
        peers={name: 100 * float(part.mean()) for name, part in peers.items()},
    )  # fmt: skip


def _made(seed: int, wrong: float) -> tuple[Ints, Ints, Floats, Ints]:
    """The true and the given class of each frame, features in which bursts differ more than frames, and bursts."""
    generator = np.random.default_rng(seed)
    truth = generator.choice(CLASSES, BURSTS, p=[0.4, 0.25, 0.15, 0.12, 0.08])
    said = truth.copy()
    bad = generator.choice(BURSTS, round(wrong * BURSTS), replace=False)
    said[bad] = (truth[bad] + generator.integers(1, CLASSES, len(bad))) % CLASSES
    bursts = np.repeat(np.arange(BURSTS), PER)
    centres = 0.6 * generator.normal(size=(CLASSES, WIDTH))
    own, of_burst = generator.normal(size=(len(bursts), WIDTH)), generator.normal(size=(BURSTS, WIDTH))
    features = centres[truth[bursts]] + of_burst[bursts] + own
    return truth[bursts], said[bursts], features, bursts


def _chances(said: Ints, features: Floats, bursts: Ints, held: Ints) -> Floats:
    """Held-out probabilities [n, C] of exact heads, in folds of whole `held` groups."""
    task = PlanTask(
        task=Task(name="kind", kind="categorical", classes=tuple("abcde"), owner="bench"), share=1, importance=1.0,
        constant_loss=1.0, mean=0.0, deviation=1.0, labelled=(), owner="bench", rule="natural", class_factor=None,
        strata=(),
    )  # type: ignore[arg-type]  # fmt: skip
    labels = TaskLabels(
        task=task, rows=np.arange(len(said)), values=said.astype(np.float64),
        weights=np.full(len(said), 1 / len(said)), names=bursts.astype(str),
    )  # fmt: skip
    folds = folds_of(held, labels.strata)
    return np.asarray(held_out_outputs(labels, torch.from_numpy(features), folds, ridge=RIDGE).softmax(1).numpy())


def _bursts(seed: int) -> tuple[float, float, float]:
    """Precision among as many frames as are wrong: ours, and cleanlab's with grouped and with plain folds."""
    truth, said, features, bursts = _made(seed, WRONG)
    grouped = _chances(said, features, bursts, bursts)
    plain = _chances(said, features, bursts, np.arange(len(said)))
    wrong = truth != said
    k = int(wrong.sum())
    ours = np.concatenate([part.rows for part in doubted_classes(said, grouped, bursts)])[:k]
    theirs = _peer({"said": said, "grouped": grouped, "plain": plain})
    return float(wrong[ours].sum() / k), *(float(wrong[theirs[name][:k]].mean()) for name in ("grouped", "plain"))


def _clean(seed: int) -> tuple[float, float]:
    """The shares of right bursts that are surely doubted, and doubted at all."""
    _, said, features, bursts = _made(seed, 0.0)
    found = doubted_classes(said, _chances(said, features, bursts, bursts), bursts)
    return sum(part.sure for part in found) / BURSTS, len(found) / BURSTS


def _boxes(seed: int) -> tuple[float, float, float, float]:
    """Precision of missing and of badly placed boxes among as many as there are: ours, then ObjectLab's."""
    known, predicted, gone, shifted = _planted_boxes(np.random.default_rng(seed))
    found = doubted_boxes(known, predicted)
    missing = [part for part in found if part.what == "missing"][: len(gone.codes)]
    placed = [part for part in found if part.what == "badly placed"][: int(shifted.sum())]
    moved = {(int(known.images[at]), tuple(known.corners[at])) for at in np.flatnonzero(shifted).tolist()}
    sides = {"known": known, "predicted": predicted}
    theirs = _peer({f"{side}_{name}": value for side, part in sides.items() for name, value in vars(part).items()})
    first = theirs["overlooked"][: len(gone.codes)]
    return (
        _lies_on(np.array([part.image for part in missing]), np.array([part.corners for part in missing]), gone),
        sum((part.image, part.corners) in moved for part in placed) / max(1, int(shifted.sum())),
        _lies_on(predicted.images[first], predicted.corners[first], gone),
        float(shifted[theirs["badloc"][: int(shifted.sum())]].sum() / max(1, int(shifted.sum()))),
    )  # fmt: skip


def _lies_on(images: Ints, corners: Floats, gone: Boxes) -> float:
    """The share of the removed boxes on which a box lies, of any class."""
    named = Boxes(images=images, codes=np.zeros(len(images), np.int64), corners=corners.reshape(-1, 4),
                  scores=np.ones(len(images)), crowd=np.zeros(len(images), np.bool_))  # fmt: skip
    boxes, _, overlap = overlaps(named, Boxes(**{**vars(gone), "codes": np.zeros(len(gone.codes), np.int64)}))
    return len(np.unique(boxes[overlap > 0.5])) / max(1, len(gone.codes))


def _planted_boxes(generator: "np.random.Generator") -> tuple[Boxes, Boxes, Boxes, Any]:
    """Labels with errors, boxes of a detector that finds 90% and sees some that are not there, what was removed, and
    which labels [n] are shifted."""
    counts = generator.integers(1, 7, IMAGES)
    images = np.repeat(np.arange(IMAGES), counts)
    size = len(images)
    codes, sides = generator.integers(0, 3, size), generator.uniform(15, 80, (size, 2))
    corners = np.concatenate([generator.uniform(0, 300, (size, 2)), sides], axis=1)
    seen = generator.random(size) < 0.9
    found = corners[seen].copy()
    found[:, :2] += generator.normal(0, 0.05, (len(found), 2)) * sides[seen]
    found[:, 2:] *= np.exp(generator.normal(0, 0.08, (len(found), 2)))
    false = int(0.4 * size)
    more = np.concatenate([generator.uniform(0, 300, (false, 2)), generator.uniform(15, 80, (false, 2))], axis=1)
    predicted = Boxes(
        images=np.r_[images[seen], generator.integers(0, IMAGES, false)],
        codes=np.r_[codes[seen], generator.integers(0, 3, false)], corners=np.concatenate([found, more]),
        scores=np.r_[generator.beta(6, 3, len(found)), generator.beta(1.5, 6, false)],
        crowd=np.zeros(len(found) + false, np.bool_),
    )  # fmt: skip
    chance = generator.random(size)
    removed, shifted = chance < 0.05, (chance >= 0.05) & (chance < 0.1)
    labelled, side = corners.copy(), generator.integers(0, 2, size)
    moved = np.flatnonzero(shifted)
    labelled[moved, side[moved]] += 0.5 * sides[moved, side[moved]]
    every = Boxes(images=images, codes=codes, corners=labelled, scores=np.ones(size), crowd=np.zeros(size, np.bool_))
    return every.taken(~removed), predicted, every.taken(removed), shifted[~removed]


def _peer(given: dict[str, Any]) -> dict[str, Ints]:
    """What cleanlab ranks, the worst first."""
    with tempfile.TemporaryDirectory(prefix="bench-ask-") as name:
        given_file, out = Path(name) / "in.npz", Path(name) / "out.npz"
        np.savez(given_file, **given)
        subprocess.run([PEER, "benchmarks/ask_peers.py"], input=f"{given_file} {out}\n", text=True, check=True,
                       capture_output=True)  # fmt: skip
        with np.load(out) as found:
            return {key: found[key] for key in found.files}
