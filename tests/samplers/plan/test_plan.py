"""The plan: every task sees exactly the distribution that its owner requested, whatever other owners request."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.homes import copy_home, label, labels, make_home
from support.plans import written_plan

from curation import BadInput, Catalog, Damaged, NotFound
from curation.analysis.priors import natural_prior
from curation.catalog.event_tables import REQUESTS
from samplers import Pack, Plan, Policy, make_pack
from samplers.plan.labels import eligible_labels
from samplers.plan.rates import PI_UNITS, SHARE_UNITS
from samplers.plan.strata import SliceMembership, Strata, strata_of
from samplers.plan.task_outcomes import task_outcomes
from samplers.policy.policy import TaskPolicy

RULES = ["natural", "balanced", "power", "effective_number", "repeat_factor"]
boosts = st.floats(0.5, 20)
NAMES = ["color", "car", "bike", "speed"]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("plan"))


def strata_by(catalog: Catalog, name: str, **fields: object) -> Strata:
    part = TaskPolicy.model_validate({"owner": "ada", "share": 1, "importance": 1, **fields})
    with catalog.read() as now:
        (labels,) = eligible_labels(now, {name: part}, make_pack(catalog))
        return strata_of(now, labels, part, SliceMembership(now))


@pytest.fixture(scope="module")
def pack(catalog: Catalog) -> Pack:
    return make_pack(catalog)


def policy_of(shares: dict[str, float], **more: dict[str, object]) -> Policy:
    total = sum(shares.values())
    sections = {
        name: {"owner": "ada", "share": share / total, "importance": share / total, **more.get(name, {})}
        for name, share in shares.items()
    }
    return Policy.model_validate({"task": sections})


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    shares = {name: draw(st.floats(0.01, 1)) for name in names}
    more = {
        name: {
            "rule": draw(st.sampled_from(RULES)),
            "cap": draw(st.none() | st.floats(1, 10)),
            "boost": draw(st.dictionaries(st.sampled_from(["night", "yellow"]), st.floats(0.5, 20)))
            if name == "color"
            else {},
        }
        for name in names
    }
    return policy_of(shares, **more)


@settings(max_examples=40, deadline=None)
@given(policy=policies(), draws=st.integers(50, 3000), seed=st.integers(0, 5))
def test_every_plan_is_unbiased_bounded_and_exact(
    catalog: Catalog, pack: Pack, policy: Policy, draws: int, seed: int
) -> None:
    plan = written_plan(catalog, policy, pack, draws=draws, seed=seed)
    rates = plan.rates()
    for code, task in enumerate(plan.tasks):
        mine = plan.label_task == code
        mass = (plan.probabilities()[plan.label_sample] * plan.label_weights())[mine]
        pi = np.array([row["pi"] for row in rates if row["task"] == task.name])
        share = task.share / SHARE_UNITS
        # 1. unbiased, exactly: the weighted mass of every stratum is its target
        assert np.bincount(plan.label_stratum[mine], mass, minlength=len(pi)) == pytest.approx(pi, rel=1e-12, abs=1e-12)
        # 2. bounded weights
        assert plan.label_weights()[mine].max() <= 1 / share * (1 + 1e-12)
        # 3. effective sample size
        assert task_outcomes(plan)[code].ess >= share * draws * (1 - 1e-12)
        # quotas: every cell within one draw
        drawn = np.array([row["drawn"] for row in rates if row["task"] == task.name])
        assert np.abs(drawn - share * pi * draws).max() < 1


@settings(max_examples=25, deadline=None)
@given(cap=st.none() | st.floats(1, 5))
def test_a_larger_request_moves_no_other_task(catalog: Catalog, pack: Pack, cap: float | None) -> None:
    modest = policy_of({"color": 1, "car": 1, "speed": 2}, color={"boost": {"night": 2.0}, "cap": cap})
    greedy = policy_of({"color": 10, "car": 1, "speed": 2}, color={"boost": {"night": 20.0}, "cap": cap})
    before, after = (written_plan(catalog, policy, pack, draws=500) for policy in (modest, greedy))
    for name in ("car", "speed"):
        targets = [
            {row["stratum"]: row["pi"] for row in plan.rates() if row["task"] == name} for plan in (before, after)
        ]
        assert targets[0] == targets[1]


def test_weighted_counts_follow_the_target_over_seeds(catalog: Catalog, pack: Pack) -> None:
    policy = policy_of({"color": 3, "car": 1, "bike": 1, "speed": 1}, color={"rule": "balanced"})
    sums = []
    for seed in range(200):
        plan = written_plan(catalog, policy, pack, draws=300, seed=seed)
        times = np.bincount(plan.draws, minlength=len(plan.keys))[plan.label_sample]
        yellow = (plan.label_task == 1) & (plan.label_stratum == 1)
        sums.append((times * plan.label_weights())[yellow].sum() / 300)
    car = next(row["pi"] for row in plan.rates() if row["task"] == plan.tasks[1].name and row["stratum"] == "true")
    assert np.mean(sums) == pytest.approx(car, abs=5 * np.std(sums) / 200**0.5)


def test_labels_of_a_batch(catalog: Catalog, pack: Pack) -> None:
    plan = written_plan(catalog, policy_of({"color": 1, "speed": 1}), pack, draws=100)
    rows = np.concatenate([np.arange(len(plan.keys)), [-1]]).astype(np.int32)
    values, known, weights = plan.labels(rows)
    assert known.sum() == len(plan.label_sample)
    assert not known[-1].any()
    assert (weights[~known] == 0).all()
    assert (values[:-1][plan.label_sample, plan.label_task] == plan.label_value.astype(np.float32)).all()


def test_draws_are_of_their_stratum(catalog: Catalog, pack: Pack) -> None:
    plan = written_plan(catalog, policy_of({"color": 1, "car": 1, "speed": 1}), pack, draws=400)
    of = {(s, t): c for s, t, c in zip(plan.label_sample, plan.label_task, plan.label_stratum, strict=True)}
    drawn = zip(plan.draws, plan.draw_task, plan.draw_stratum, strict=True)
    assert all(of[sample, task] == stratum for sample, task, stratum in drawn)


def test_same_input_is_the_same_plan_and_another_seed_is_not(catalog: Catalog, pack: Pack) -> None:
    policy = policy_of({"color": 1, "car": 1})
    first = written_plan(catalog, policy, pack, draws=100, seed=1)
    assert written_plan(catalog, policy, pack, draws=100, seed=1).hash == first.hash
    assert written_plan(catalog, policy, pack, draws=100, seed=2).hash != first.hash
    assert Plan.open(catalog.home, first.hash[:10]).hash == first.hash


def test_evaluation_samples_are_never_drawn(catalog: Catalog, pack: Pack) -> None:
    plan = written_plan(catalog, policy_of(dict.fromkeys(NAMES, 1)), pack, draws=100)
    with catalog.read() as now:
        train = {row["key"] for row in now.samples().to_pylist() if row["split"] == "train"}
    assert set(plan.keys.to_pylist()) <= train


def test_a_task_with_share_0_is_not_drawn(catalog: Catalog, pack: Pack) -> None:
    sections = {
        "color": {"owner": "ada", "share": 1, "importance": 1},
        "car": {"owner": "bob", "share": 0, "importance": 0},
    }
    plan = written_plan(catalog, Policy.model_validate({"task": sections}), pack, draws=10)
    assert [task.name for task in plan.tasks] == ["color"]


def test_units_are_large_enough_for_a_product() -> None:
    assert PI_UNITS * SHARE_UNITS < 2**63


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 0.5}, "shares sum to 0.5, must sum to 1"),
        ({"importance": 0.9}, "importances sum to 0.9, must sum to 1"),
        ({"rule": "sideways"}, "rule = 'sideways'"),
        ({"cap": 0.5}, "cap = 0.5"),
        ({"boost": {"night": -1.0}}, "boosts must be above 0"),
        ({"share": 0.0}, "importance must be 0"),
        ({"sahre": 1.0}, "sahre = 1.0"),
    ],
)
def test_bad_policies_are_refused_in_one_line(tmp_path: object, changes: dict[str, object], message: str) -> None:
    from curation.files.toml_files import parse

    section = {"owner": "ada", "share": 1.0, "importance": 1.0, **changes}
    with pytest.raises(BadInput, match=message) as caught:
        parse(Policy, {"task": {"color": section}}, where="policy.toml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("policy", "error", "message"),
    [
        (policy_of({"colour": 1}), NotFound, "did you mean 'color'"),
        (policy_of({"color": 1}, color={"boost": {"nihgt": 2.0}}), BadInput, "'nihgt', which is not declared"),
    ],
)
def test_a_policy_over_unknown_names_is_refused(
    catalog: Catalog, pack: Pack, policy: Policy, error: type[Exception], message: str
) -> None:
    before = sorted((catalog.home / "plans").glob("*"))
    with pytest.raises(error, match=message):
        written_plan(catalog, policy, pack, draws=10)
    assert sorted((catalog.home / "plans").glob("*")) == before


def test_plan_at_an_older_commit_and_at_a_missing_one(catalog: Catalog, pack: Pack) -> None:
    assert written_plan(catalog, policy_of({"color": 1}), pack, draws=10, commit=1).commit == 1
    with pytest.raises(NotFound, match="commit 99"):
        written_plan(catalog, policy_of({"color": 1}), pack, draws=10, commit=99)
    with pytest.raises(BadInput, match="draws 0"):
        written_plan(catalog, policy_of({"color": 1}), pack, draws=0)


def test_damaged_plan_is_named(catalog: Catalog, pack: Pack) -> None:
    plan = written_plan(catalog, policy_of({"bike": 1}), pack, draws=13)
    (plan.folder / "draws.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(Damaged, match=plan.hash):
        _ = Plan(plan.folder).draws


def mined(catalog: Catalog, tmp_path: Path, count: int) -> Catalog:
    """A copy of the catalog with `count` mined requests, each in its own group, that were answered "yellow"."""
    copy = copy_home(catalog, tmp_path)
    with copy.commit(author="ada", message="ask") as change:
        known = set(change.now.labels("color")["sample_id"].to_pylist())
        train = set(change.now.training_ids().tolist()) - known
        rows = {row["group"]: row for row in change.now.samples().to_pylist() if row["sample_id"] in train}
        chosen = list(rows.values())[:count]
        request = {"task_id": change.now.task_ids()["color"], "arm": "mined", "slice": "yellow", "reason": "",
                   "run": "", "priority": 0, "propensity": 1.0, "cost": 1.0}  # fmt: skip
        asked = [{"sample_id": row["sample_id"], **request} for row in chosen]
        change.add_requests(pa.Table.from_pylist(asked, REQUESTS))
    with copy.commit(author="bob", message="answers") as change:
        change.add_labels(labels([label(row["key"], "color", "yellow", "bob") for row in chosen]), source="human")
        change.close_requests(change.now.requests("open")["request_id"].to_pylist(), state="answered")
    return copy


def test_a_mined_label_represents_its_group(catalog: Catalog, tmp_path: Path) -> None:
    """Of N yellow images 5 groups of 4 were mined; the n labelled before represent the rest."""
    copy = mined(catalog, tmp_path, 5)
    strata = strata_by(copy, "color")
    with copy.read() as now:
        task = now.task("color")
        expected = natural_prior(now, task)[1] * len(now.training_ids())
    cells = dict(zip(strata.names, zip(strata.counts, strata.mined_weight, strict=True), strict=True))
    others, weight = cells["yellow"]
    count, mined_weight = cells["yellow & mined"]
    assert (count, weight) == (5, 1)
    assert mined_weight == pytest.approx(min(1, 4 / ((expected - 20) / others)))
    assert mined_weight < 1
    assert set(strata_by(copy, "color", mined="as_found").mined_weight) == {1}


@pytest.mark.parametrize(
    "boosted", [["night"], ["night", "yellow_at_night"], ["yellow_at_night", "night"]], ids=" ".join
)
def test_a_boosted_slice_may_have_the_name_of_the_mark_of_mined_labels(
    boosted: list[str], catalog: Catalog, tmp_path: Path
) -> None:
    copy = mined(catalog, tmp_path, 5)
    with copy.commit(author="ada", message="a name") as change:
        change.add_slice("mined", "attr.night")
    other = ["mined" if name == "night" else name for name in boosted]
    right, named = (strata_by(copy, "color", boost=dict.fromkeys(names, 4.0)) for names in (boosted, other))
    assert named.targets.tolist() == right.targets.tolist() != strata_by(copy, "color").targets.tolist()
    words = {"night": "mined", "mined": "mined request"}
    assert named.marks == tuple(tuple(words.get(mark, mark) for mark in marks) for marks in right.marks)


def test_labels_of_models_are_drawn_on_request_only(catalog: Catalog, tmp_path: Path) -> None:
    copy = copy_home(catalog, tmp_path)
    before = strata_by(copy, "car").counts.sum()
    with copy.commit(author="ada", message="model") as change:
        known = set(change.now.labels("car")["sample_id"].to_pylist())
        train = set(change.now.training_ids().tolist()) - known
        keys = [row["key"] for row in change.now.samples().to_pylist() if row["sample_id"] in train]
        change.add_labels(labels([label(key, "car", True, "net") for key in keys]), source="model")
    assert strata_by(copy, "car").counts.sum() == before
    assert strata_by(copy, "car", model_labels=True).counts.sum() == before + len(keys)


def test_a_boost_of_a_slice_without_labels_changes_nothing(catalog: Catalog, tmp_path: Path) -> None:
    copy = copy_home(catalog, tmp_path)
    with copy.commit(author="ada", message="nothing") as change:
        change.add_slice("nowhere", "attr.night AND NOT attr.night")
    plain, boosted = (strata_by(copy, "color", boost=boost) for boost in ({}, {"nowhere": 9.0}))
    assert np.array_equal(plain.pi, boosted.pi)
    assert plain.names == boosted.names
