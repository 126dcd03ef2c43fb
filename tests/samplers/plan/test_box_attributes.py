"""Attributes of boxes in plans: constants of their losses, values of draws, and plans without any."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from support.described_boxes import MARKS, described_catalog
from support.drawn_boxes import boxes_catalog, boxes_plan

from curation import Catalog
from curation.analysis.box_attributes import stated_values
from samplers import Pack, Plan, Policy
from samplers.plan.boxes import PlanBoxes, learned_of
from samplers.plan.build import draft_plan


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return described_catalog(tmp_path_factory.mktemp("described"), images=60)


@pytest.fixture(scope="module")
def plan(catalog: Catalog) -> Plan:
    return boxes_plan(catalog, draws=64, plates=1.0)[0]


def test_what_no_box_states_is_not_learned(plan: Plan) -> None:
    assert [each.name for each in plan.tasks[0].attributes] == ["mark", "shade"]


def test_the_constant_is_the_expected_loss_of_the_best_constant(plan: Plan) -> None:
    mark, shade = plan.tasks[0].attributes
    q = plan.q[0, plan.cell(plan.label_task, plan.label_stratum)]
    stated: dict[str, list[tuple[float, str]]] = {"mark": [], "shade": []}
    for chance, boxes in zip(q.tolist(), plan.label_lists["boxes"].to_pylist(), strict=True):
        for box in boxes:
            for name, value in box["attributes"] or ():
                stated[name].append((chance / len(boxes), value))
    weights = np.array([weight for weight, _ in stated["mark"]])
    shares = [sum(w for w, value in stated["mark"] if value == name) / weights.sum() for name in MARKS]
    entropy = -sum(share * np.log(share) for share in shares)
    assert mark.constant_loss == pytest.approx(entropy * weights.sum(), rel=1e-6)
    numbers = np.array([float(value) for _, value in stated["shade"]])
    weights = np.array([weight for weight, _ in stated["shade"]])
    centre = np.average(numbers, weights=weights)
    half = 0.5 * (weights * (numbers - centre) ** 2).sum() / numbers.std() ** 2
    assert shade.constant_loss == pytest.approx(half, rel=1e-6)
    assert (shade.mean, shade.deviation) == pytest.approx((numbers.mean(), numbers.std()), rel=1e-6)
    assert sum(mark.labelled) == len(stated["mark"])


def test_values_of_draws_are_codes_and_standardised_numbers(plan: Plan) -> None:
    boxes, shade = PlanBoxes(plan).of(plan.draws), plan.tasks[0].attributes[1]
    lists = plan.label_lists["boxes"].to_pylist()
    wanted = [dict(box["attributes"] or ()) for row in plan.draws.tolist() for box in lists[row]]
    assert len(boxes.values) == len(wanted)
    for (mark, number), said in zip(boxes.values.tolist(), wanted, strict=True):
        assert np.isnan(mark) if "mark" not in said else MARKS[int(mark)] == said["mark"]
        if "shade" in said:
            assert number * shade.deviation + shade.mean == pytest.approx(float(said["shade"]))
        else:
            assert np.isnan(number)


def test_a_plan_opens_as_it_was_made_and_without_attributes_says_nothing_of_them(
    catalog: Catalog, plan: Plan, tmp_path: Path
) -> None:
    policy = Policy.model_validate(plan.header["policy"])
    draft = draft_plan(catalog, policy, Pack.open(catalog.home, plan.pack_hash), draws=64)
    assert learned_of(plan) == learned_of(draft)
    other = boxes_plan(boxes_catalog(tmp_path, images=16), draws=32)[0]
    assert "attributes" not in json.loads((other.folder / "plan.json").read_text())["tasks"][0]
    assert learned_of(other) == [()]


def test_numbers_that_are_none_and_undeclared_classes_are_unknown() -> None:
    kind = pa.struct([("attributes", pa.map_(pa.string(), pa.string()))])
    said = ["nan", "inf", "1e999", "12", "-3.5e1", "tall", ""]
    boxes = pa.array([([("a", each)],) for each in said], kind)
    assert pc.sum(pa.array(np.isfinite(stated_values(boxes, "a")))).as_py() == 2
    assert np.isnan(stated_values(boxes, "b", ("x", "y"))).all()
