"""Changing a plan during a run, exposure of delivered draws, and explanations of draws."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.homes import copy_home, label, labels, make_home
from support.plans import written_child, written_plan

from curation import BadInput, Catalog, NotFound
from samplers import Pack, Plan, Policy, make_pack
from samplers.plan.build import draft_plan
from samplers.plan.explain import explain_draws
from samplers.plan.exposure import Exposure
from samplers.plan.replan import run_segments

DRAWS = 1_000


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("replan"))


@pytest.fixture(scope="module")
def pack(catalog: Catalog) -> Pack:
    return make_pack(catalog)


def policy_of(color: float = 0.5, rule: str = "balanced", **more: object) -> Policy:
    rest = (1 - color) / 2
    shares = {"color": color, "car": rest, "speed": rest}
    sections = {
        name: {"owner": "ada", "share": share, "importance": share, "rule": rule, "boost": {"night": 3.0}}
        for name, share in shares.items()
    }
    return Policy.model_validate({"task": sections, **more})


@pytest.fixture(scope="module")
def plan(catalog: Catalog, pack: Pack) -> Plan:
    return written_plan(catalog, policy_of(), pack, draws=DRAWS)


@settings(max_examples=12)
@given(cuts=st.lists(st.integers(1, DRAWS - 1), unique=True, min_size=1, max_size=3).map(sorted))
def test_every_position_is_drawn_once_and_the_prefix_stays(catalog: Catalog, plan: Plan, cuts: list[int]) -> None:
    before, last = plan.draws.tolist(), plan
    for turn, cut in enumerate(cuts):
        last = written_child(last, cut, policy_of(0.2 + 0.1 * turn), catalog)
    legs = run_segments(catalog.home, last)
    assert [leg.start for leg in legs] == [0, *cuts]
    assert [leg.end for leg in legs] == [*cuts, DRAWS]
    assert all(leg.end - leg.start <= len(leg.plan.draws) for leg in legs)
    assert legs[0].plan.hash == plan.hash
    assert legs[0].plan.draws.tolist() == before
    assert legs[-1].plan.start + len(legs[-1].plan.draws) == DRAWS


def test_a_child_is_a_written_plan_the_new_policy(catalog: Catalog, plan: Plan) -> None:
    child = written_child(plan, 400, policy_of(0.2), catalog)
    assert written_child(plan, 400, policy_of(0.2), catalog).hash == child.hash
    assert written_child(plan, 401, policy_of(0.2), catalog).hash != child.hash
    assert child.shares == pytest.approx([0.2, 0.4, 0.4], abs=1e-6)
    assert np.bincount(child.draw_task).tolist() == [120, 240, 240]


def test_a_child_draws_other_images_than_a_root_written_plan_its_size(catalog: Catalog, pack: Pack, plan: Plan) -> None:
    child = written_child(plan, 400, policy_of(), catalog)
    root = draft_plan(catalog, policy_of(), pack, draws=600, seed=plan.seed)
    assert child.draw_task.tolist() == root.draw_task.tolist()
    assert np.mean(child.draws == root.draws) < 0.5


def test_a_child_uses_new_labels(catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> None:
    copy = copy_home(catalog, tmp_path_factory.mktemp("newer"))
    plan = written_plan(copy, policy_of(), make_pack(copy), draws=DRAWS)
    with copy.commit(author="eve", message="more") as change:
        known = set(change.now.labels("car")["sample_id"].to_pylist())
        train = set(change.now.training_ids().tolist()) - known
        keys = [row["key"] for row in change.now.samples().to_pylist() if row["sample_id"] in train]
        change.add_labels(labels([label(key, "car", True, "eve") for key in keys]), source="human")
    with copy.read() as now:
        child = written_child(plan, 500, policy_of(), copy, commit=now.commit)
    assert child.commit > plan.commit
    assert (child.label_task == 1).sum() == (plan.label_task == 1).sum() + len(keys)


def test_a_stopped_task_gives_up_its_share(catalog: Catalog, plan: Plan) -> None:
    policy = policy_of().without("color")
    assert [(part.share, part.importance) for part in policy.task.values()] == [(0, 0), (0.5, 0.5), (0.5, 0.5)]
    assert [task.name for task in written_child(plan, 10, policy, catalog).tasks] == ["car", "speed"]
    with pytest.raises(BadInput, match="'color': has no share"):
        policy.without("color")
    with pytest.raises(BadInput, match="'speed': has no share"):
        policy.without("car").without("speed")


@pytest.mark.parametrize("position", [0, DRAWS, DRAWS + 5, -1])
def test_a_position_outside_the_plan_is_refused(catalog: Catalog, plan: Plan, position: int) -> None:
    with pytest.raises(BadInput, match=f"position {position}: .* draws 0 to {DRAWS}"):
        written_child(plan, position, policy_of(), catalog)


def test_exposure_agrees_with_the_plan_at_every_batch(plan: Plan) -> None:
    ledger = Exposure(plan, ranks=2)
    for first in range(0, DRAWS, 50):
        positions = np.arange(first, first + 50)
        for rank, mine in enumerate(np.split(positions, 2)):
            ledger.add(np.append(plan.draws[mine], -1), np.append(mine, 0), rank)
        rows = ledger.rows()
        assert max(abs(row.asked - row.drawn) for row in rows) <= 2.5
        assert {row.kind: row.drawn for row in rows}["rank"] == first // 2 + 25
        assert not ledger.alarm()
    slices = {row.name: row.drawn for row in rows if row.kind == "slice"}
    nights = {name: sum(r["drawn"] for r in plan.rates() if r["task"] == name and "night" in r["stratum"])
              for name in ("color", "car", "speed")}  # fmt: skip
    assert slices == {f"{name}: night": count for name, count in nights.items()}


def _independent(plan: Plan, seed: int, tilt: float = 1.0) -> np.ndarray:
    """Independent positions; those of the first task are `tilt` times as likely."""
    weight = np.where(plan.draw_task == 0, tilt, 1.0)
    return np.random.default_rng(seed).choice(DRAWS, DRAWS, p=weight / weight.sum())


def _alarms(plan: Plan, positions: np.ndarray, alpha: float) -> bool:
    ledger = Exposure(plan, alpha=alpha)
    for part in np.split(positions, 10):
        ledger.add(plan.draws[part], part)
        if "differ from" in ledger.alarm():
            return True
    return False


def test_the_false_alarm_rate_is_bounded(plan: Plan) -> None:
    fired = sum(_alarms(plan, _independent(plan, seed), 0.2) for seed in range(200))
    assert fired <= 40 + 5 * (200 * 0.2 * 0.8) ** 0.5


def test_the_alarm_finds_a_task_that_gets_more(plan: Plan) -> None:
    assert all(_alarms(plan, _independent(plan, seed, tilt=2.0), 1e-6) for seed in range(10))


def test_the_three_tests_share_alpha(plan: Plan) -> None:
    """Evidence between log(1 / alpha) and log(3 / alpha) raises no alarm."""

    def alarm(alpha: float) -> str:
        exposure = Exposure(plan, alpha=alpha)
        exposure.add(plan.draws[first_task], first_task)
        return exposure.alarm()

    first_task = np.flatnonzero(plan.draw_task == 0)[:20]
    evidence = max(float(part) for part in re.findall(r"evidence ([\d.]+)", alarm(0.999)))
    assert evidence > 3
    assert alarm(float(np.exp(-evidence + np.log(3) + 0.1))) != ""
    assert alarm(float(np.exp(-evidence + 0.5))) == ""


def test_a_replacement_counts_in_its_own_stratum(plan: Plan) -> None:
    first = np.flatnonzero(plan.draw_task == 0)[:1]
    stratum_of = {
        int(plan.label_sample[entry]): int(plan.label_stratum[entry]) for entry in np.flatnonzero(plan.label_task == 0)
    }
    other = next(row for row, stratum in stratum_of.items() if stratum != plan.draw_stratum[first[0]])
    exposure = Exposure(plan)
    exposure.add(np.array([other]), first)
    drawn = {row.name: row.drawn for row in exposure.rows() if row.kind == "stratum" and row.drawn}
    assert drawn == {f"color: {plan.tasks[0].strata[stratum_of[other]]}": 1}


def test_positions_that_come_twice_are_reported(plan: Plan) -> None:
    ledger = Exposure(plan)
    for first in (0, 10, 15):
        positions = np.arange(first, first + 10)
        ledger.add(plan.draws[positions], positions)
    assert ledger.alarm() == "5 positions came twice"


def test_a_sample_without_a_label_of_the_task_is_refused(plan: Plan) -> None:
    car = int(np.flatnonzero(plan.draw_task == 1)[0])
    without = np.setdiff1d(np.arange(len(plan.keys)), plan.label_sample[plan.label_task == 1])
    with pytest.raises(BadInput, match="has no label of it"):
        Exposure(plan).add(without[:1], np.array([car]))


def test_why_an_image_is_drawn(catalog: Catalog, pack: Pack) -> None:
    plan = written_plan(catalog, policy_of(phases=(0.5, 0.5)), pack, draws=DRAWS)
    row = int(np.bincount(plan.label_sample).argmax())
    reasons = explain_draws(plan, plan.keys[row].as_py())
    known = {plan.tasks[code].name for code in plan.label_task[plan.label_sample == row]}
    assert {reason.task for reason in reasons} == known
    for phase in range(2):
        mine = [reason for reason in reasons if reason.phase == phase]
        assert sum(reason.part for reason in mine) == pytest.approx(mine[0].p)
        assert mine[0].p == pytest.approx(plan.probabilities(phase)[row])
        weights = sorted(plan.label_weights(phase)[plan.label_sample == row].tolist())
        assert sorted(reason.weight for reason in mine) == pytest.approx(weights)
        share = dict(zip([task.name for task in plan.tasks], plan.shares, strict=True))
        assert all(reason.part == pytest.approx(share[reason.task] * reason.target / reason.labels) for reason in mine)
    assert sum(reason.drawn for reason in reasons) == (plan.draws == row).sum()
    with pytest.raises(NotFound, match=r"nowhere: plan .* does not draw it"):
        explain_draws(plan, "nowhere")
