"""Figures of boxes: equal to those of two COCO evaluations, from sums that merge, with intervals over groups."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO as SlowCOCO
from pycocotools.cocoeval import COCOeval

from training.evaluation.box_matching import MOST, Boxes, found_objects
from training.evaluation.box_sums import BoxSums, mean_figures

CLASSES = 3
SEEDS = st.integers(0, 2**32 - 1)


def scene(seed: int, images: int, *, digits: int = 2, crowds: float = 0.1, last: int = 0) -> tuple[Boxes, Boxes]:
    """Predicted and known boxes of images numbered from `last` on: most objects are found several times or nearly."""
    generator = np.random.default_rng([seed, last])
    rows: dict[str, list[Any]] = {"known": [], "predicted": []}
    for image in range(last, last + images):
        for _ in range(generator.integers(0, 5)):
            box, code = np.r_[generator.uniform(0, 60, 2), generator.uniform(5, 40, 2)], generator.integers(0, CLASSES)
            rows["known"].append((image, code, box, 1.0, generator.random() < crowds))
            for _ in range(generator.integers(0, 3)):
                near = box + generator.normal(0, 3, 4) * [1, 1, 0.5, 0.5]
                guess = code if generator.random() < 0.8 else generator.integers(0, CLASSES)
                rows["predicted"].append((image, guess, np.maximum(near, 1), generator.random(), False))
        for _ in range(generator.integers(0, 3)):
            box = np.r_[generator.uniform(0, 60, 2), generator.uniform(5, 40, 2)]
            rows["predicted"].append((image, generator.integers(0, CLASSES), box, generator.random(), False))
    return boxes(rows["predicted"], digits), boxes(rows["known"], digits)


def boxes(rows: list[Any], digits: int = 6) -> Boxes:
    images, codes, corners, scores, crowd = zip(*rows, strict=True) if rows else ((),) * 5
    return Boxes(
        images=np.array(images, np.int64), codes=np.array(codes, np.int64), crowd=np.array(crowd, np.bool_),
        corners=np.array(corners, np.float64).reshape(-1, 4), scores=np.round(np.array(scores, np.float64), digits),
    )  # fmt: skip


def sums_of(predicted: Boxes, known: Boxes, images: int = 1000, weights: Any = None) -> BoxSums:
    return BoxSums.of(predicted, known, np.ones(images) if weights is None else weights, np.arange(images))


REFERENCES: Any = {"pycocotools": (SlowCOCO, COCOeval), "faster-coco-eval": (COCO, COCOeval_faster)}


def reference(predicted: Boxes, known: Boxes, images: int, name: str) -> Any:
    annotations = [
        {"id": row + 1, "image_id": int(known.images[row]) + 1, "category_id": int(known.codes[row]) + 1,
         "bbox": known.corners[row].tolist(), "area": float(known.corners[row, 2:].prod()),
         "iscrowd": int(known.crowd[row])} for row in range(len(known.codes))
    ]  # fmt: skip
    results = [
        {"image_id": int(predicted.images[row]) + 1, "category_id": int(predicted.codes[row]) + 1,
         "bbox": predicted.corners[row].tolist(), "score": float(predicted.scores[row])}
        for row in range(len(predicted.codes))
    ]  # fmt: skip
    categories = [{"id": code + 1, "name": str(code)} for code in range(CLASSES)]
    listed = [{"id": image + 1} for image in range(images)]
    annotated, evaluation = REFERENCES[name]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = annotated()
        truth.dataset = {"info": {}, "images": listed, "categories": categories, "annotations": annotations}
        truth.createIndex()
        judged = evaluation(truth, truth.loadRes(results), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return judged


@pytest.mark.parametrize("name", REFERENCES)
@settings(deadline=None, max_examples=25)
@given(SEEDS, st.integers(1, 30), st.integers(0, 3))
def test_figures_equal_those_of_coco(name: str, seed: int, images: int, digits: int) -> None:
    """With crowds and equal scores; to the last digits but one."""
    predicted, known = scene(seed, images, digits=digits)
    if not len(predicted.codes) or known.crowd.all():
        return
    theirs, ours = reference(predicted, known, images, name), sums_of(predicted, known)
    assert ours.mean_average_precision() == pytest.approx(theirs.stats[:2], abs=1e-9)
    for code in range(CLASSES):
        precision = theirs.eval["precision"][:, :, code, 0, -1]
        own = ours.average_precisions(code)
        if own is None:
            assert (precision == -1).all()
        else:
            assert own == pytest.approx(precision.mean(axis=1), abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(1, 10), st.integers(1, 10))
def test_parts_merge_to_the_whole_in_any_order(seed: int, first: int, second: int) -> None:
    one, other = scene(seed, first, digits=1), scene(seed, second, digits=1, last=first)
    both = [boxes_of_both(part, rest) for part, rest in zip(one, other, strict=True)]
    whole = sums_of(*both).mean_average_precision()
    assert (sums_of(*one) + sums_of(*other)).mean_average_precision() == whole
    assert (sums_of(*other) + sums_of(*one)).mean_average_precision() == whole


def boxes_of_both(one: Boxes, other: Boxes) -> Boxes:
    return Boxes(**{name: np.concatenate([value, getattr(other, name)]) for name, value in vars(one).items()})


@settings(deadline=None, max_examples=20)
@given(SEEDS)
def test_a_weight_is_so_many_images(seed: int) -> None:
    """An image of inverse propensity 3 counts like three images with these boxes."""
    predicted, known = scene(seed, 6, digits=6)
    weights = np.where(np.arange(1000) % 2 == 0, 3.0, 1.0)
    thrice = [
        boxes_of_both(part, boxes_of_both(*(again(part, part.images % 2 == 0, offset) for offset in (100, 200))))
        for part in (predicted, known)
    ]
    weighed = sums_of(predicted, known, weights=weights).mean_average_precision()
    assert weighed == pytest.approx(sums_of(*thrice).mean_average_precision(), abs=1e-12) if weighed else True
    left_out = np.where(np.arange(1000) % 2 == 0, 0.0, 1.0)
    kept = [part.taken(part.images % 2 == 1) for part in (predicted, known)]
    assert (
        sums_of(predicted, known).weighted(left_out).mean_average_precision() == sums_of(*kept).mean_average_precision()
    )


def again(part: Boxes, here: Any, offset: int) -> Boxes:
    taken = part.taken(here)
    return Boxes(**{**vars(taken), "images": taken.images + offset})


def test_only_the_best_hundred_boxes_of_a_class_are_judged() -> None:
    many = boxes([(0, 0, np.array([0.0, 0, 9, 9]), score / 1000, False) for score in range(MOST + 50)])
    judged, found, _ = found_objects(many, boxes([(0, 0, np.array([0.0, 0, 9, 9]), 1.0, False)]))
    assert len(judged.codes) == MOST
    assert judged.scores.min() == pytest.approx(0.05)
    assert found[:, 0].tolist() == [True] + [False] * (MOST - 1)


def test_nothing_to_find_is_not_enough_data() -> None:
    predicted, _ = scene(3, 5)
    for found in mean_figures(sums_of(predicted, boxes([])), n=5, groups=5):
        assert (found.value, found.low, found.n, found.groups) == (None, None, 5, 5)
    none = mean_figures(sums_of(boxes([]), scene(3, 5, crowds=0)[1]), n=5, groups=5)
    assert [figure.value for figure in none] == [0.0, 0.0]
    assert none[0].high is not None
    assert none[0].high > 0


def test_precision_and_recall_at_a_score() -> None:
    here, away = np.array([0.0, 0, 10, 10]), np.array([50.0, 50, 10, 10])
    predicted = boxes([(0, 0, here, 0.9, False), (0, 0, away, 0.8, False), (1, 0, here, 0.4, False)])
    known = boxes([(0, 0, here, 1.0, False), (1, 0, here, 1.0, False)])
    sums = sums_of(predicted, known)
    assert (sums.precision(0, 0.5).value, sums.recall(0, 0.5).value) == (0.5, 0.5)
    assert (sums.precision(0, 0.3).value, sums.recall(0, 0.3).value) == (pytest.approx(2 / 3), 1.0)
    recall, precision, scores = sums.curve(0)
    assert recall.tolist() == [0.5, 0.5, 1.0]
    assert precision.tolist() == pytest.approx([1.0, 0.5, 2 / 3])
    assert scores.tolist() == [0.9, 0.8, 0.4]
    assert sums.precision(1, 0.5).value is None


def test_intervals_cover_the_mean_over_many_images() -> None:
    """15 samples of 60 images in groups of 3 that share their boxes: the interval holds the figure of 1,500 images."""
    truth = sums_of(*scene(1, 1500, digits=6), images=1500).mean_average_precision()
    assert truth is not None
    held = 0
    for seed in range(15):
        predicted, known = scene(1000 + seed, 20, digits=6)
        bursts = [
            boxes_of_both(part, boxes_of_both(*(shifted(part, n) for n in (1, 2)))) for part in (predicted, known)
        ]
        sums = BoxSums.of(*bursts, np.ones(60), np.arange(60) % 20)
        figure = mean_figures(sums, n=60, groups=20)[1]
        held += figure.low is not None and figure.high is not None and figure.low <= truth[1] <= figure.high
    assert held >= 13


def shifted(part: Boxes, burst: int) -> Boxes:
    return Boxes(**{**vars(part), "images": part.images + 20 * burst})
