"""Plans of tasks of boxes: weights as for other kinds, the boxes of draws, and the constant that divides their loss."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from support.drawn_boxes import SIGNS, boxes_catalog
from support.plans import written_plan

from curation import Catalog
from samplers import Pack, Plan, Policy, make_pack
from samplers.plan.box_constants import CELLS
from samplers.plan.boxes import PlanBoxes, has_boxes
from samplers.plan.rates import SHARE_UNITS
from samplers.streaming.batches import batches


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return boxes_catalog(tmp_path_factory.mktemp("boxes"), images=80, known=0.6)


@pytest.fixture(scope="module")
def pack(catalog: Catalog) -> Pack:
    return make_pack(catalog)


def policy_of(shares: dict[str, float], **fields: object) -> Policy:
    total = sum(shares.values())
    sections = {name: {"owner": "ada", "share": s / total, "importance": s / total} for name, s in shares.items()}
    sections["signs"] |= fields
    return Policy.model_validate({"task": sections})


@settings(max_examples=25, deadline=None)
@given(
    share=st.floats(0.05, 20), cap=st.none() | st.floats(1, 8), draws=st.integers(50, 1500),
    rule=st.sampled_from(["natural", "balanced", "power", "effective_number", "repeat_factor"]),
)  # fmt: skip
def test_weights_are_unbiased_bounded_and_exact(
    catalog: Catalog, pack: Pack, share: float, rule: str, cap: float | None, draws: int
) -> None:
    plan = written_plan(catalog, policy_of({"signs": share, "dark": 1.0}, rule=rule, cap=cap), pack, draws=draws)
    code = next(code for code, task in enumerate(plan.tasks) if task.name == "signs")
    mine = plan.label_task == code
    mass = (plan.probabilities()[plan.label_sample] * plan.label_weights())[mine]
    pi = np.array([row["pi"] for row in plan.rates() if row["task"] == "signs"])
    assert np.bincount(plan.label_stratum[mine], mass, minlength=len(pi)) == pytest.approx(pi, rel=1e-12, abs=1e-12)
    assert plan.label_weights()[mine].max() <= SHARE_UNITS / plan.tasks[code].share * (1 + 1e-12)


@pytest.fixture(scope="module")
def plan(catalog: Catalog, pack: Pack) -> Plan:
    return written_plan(catalog, policy_of({"signs": 1.0, "dark": 1.0}), pack, draws=160)


def test_a_batch_has_the_boxes_of_its_draws_on_any_rank(plan: Plan) -> None:
    lists = plan.label_lists["boxes"].to_pylist()
    code = [task.name for task in plan.tasks].index("signs")
    known = {int(s): lists[at] for at, s in enumerate(plan.label_sample) if plan.label_task[at] == code}
    whole = list(batches(plan, 16))
    halves = [list(batches(plan, 16, rank=rank, world_size=2)) for rank in range(2)]
    for number, batch in enumerate(whole):
        assert batch.boxes is not None
        for draw, row in enumerate(batch.rows.tolist()):
            found = batch.boxes.taken(batch.boxes.draws == draw)
            assert found.corners.tolist() == [[box[side] for side in "xywh"] for box in known.get(row, [])]
            assert found.codes.tolist() == [box["code"] for box in known.get(row, [])]
            assert bool(batch.known[draw, code]) == (row in known)
        assert set(batch.boxes.tasks.tolist()) <= {code}
        parts = [half[number].boxes for half in halves]
        joined = np.concatenate([part.corners for part in parts if part is not None])
        assert np.array_equal(joined, batch.boxes.corners)


def test_padding_has_no_boxes_and_a_plan_without_such_a_task_none(catalog: Catalog, pack: Pack, plan: Plan) -> None:
    found = PlanBoxes(plan).of(np.array([-1, -1], np.int32))
    assert (len(found.draws), found.corners.shape) == (0, (0, 4))
    part = {"owner": "ada", "share": 1.0, "importance": 1.0}
    other = written_plan(catalog, Policy.model_validate({"task": {"dark": part}}), pack, draws=32)
    assert not has_boxes(other)
    assert next(batches(other, 16)).boxes is None


def test_the_constant_is_the_loss_of_the_best_constant_map(catalog: Catalog, pack: Pack) -> None:
    plan = written_plan(catalog, policy_of({"signs": 1.0}, rule="natural"), pack, draws=64)
    lists = [boxes for boxes in plan.label_lists["boxes"].to_pylist() if boxes is not None]
    found = 0.0
    for code in range(len(SIGNS.classes)):

        def loss(p: float, code: int = code) -> float:
            each = [
                (sum(box["code"] == code for box in boxes) * (1 - p) ** 2 * -np.log(p) - CELLS * p**2 * np.log(1 - p))
                / max(1, len(boxes))
                for boxes in lists
            ]
            return float(np.mean(each))

        found += minimize_scalar(loss, bounds=(1e-6, 0.5), method="bounded", options={"xatol": 1e-9}).fun
    each = np.array([1 / len(boxes) / len(lists) for boxes in lists for _ in boxes])
    for side in "wh":
        logs = np.log([box[side] for boxes in lists for box in boxes])
        found += min((each * np.abs(logs - middle)).sum() for middle in logs)
    assert plan.tasks[0].constant_loss == pytest.approx(found + 0.5 * each.sum(), rel=1e-5)


def test_labels_without_any_box_have_a_constant(tmp_path: Path) -> None:
    catalog = boxes_catalog(tmp_path, images=12, most=0)
    plan = written_plan(catalog, policy_of({"signs": 1.0}), make_pack(catalog), draws=16)
    assert (plan.tasks[0].constant_loss, plan.tasks[0].strata) == (0.01, ("none",))
