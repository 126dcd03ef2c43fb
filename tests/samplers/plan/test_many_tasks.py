"""Properties for any number of tasks that share images: random policies over 1 to 100 tasks, and counts over seeds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks.fleet import fleet
from benchmarks.plan import deviation
from curation import Catalog
from samplers import Pack, Policy
from samplers.plan.build import _tables, draft_plan
from samplers.plan.labels import eligible_labels
from samplers.plan.strata import SliceMembership, strata_of
from samplers.plan.task_outcomes import task_outcomes

TASKS = 100
RULES = ["natural", "balanced", "power", "effective_number", "repeat_factor"]
SEEDS = 200
FALSE_ALARM = 1e-6


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """2,000 images with ten labels each."""
    return fleet(tmp_path_factory.mktemp("many") / "home", 2_000, tasks=TASKS, labels=20_000, classes=5, shard=50)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    names = draw(st.integers(1, TASKS).flatmap(lambda n: st.just([f"t{i:04d}" for i in range(n)])))
    generator = np.random.default_rng(draw(st.integers(0, 999)))
    shares = generator.dirichlet(np.full(len(names), draw(st.sampled_from([0.3, 1.0, 10.0])))) + 1e-4
    sections = {
        name: {
            "owner": name, "share": share, "importance": 1 / len(names), "rule": str(generator.choice(RULES)),
            "boost": {"night": float(generator.uniform(0.5, 20))} if generator.random() < 0.5 else {},
            "cap": float(generator.uniform(1, 20)) if generator.random() < 0.3 else None,
        }
        for name, share in zip(names, (shares / shares.sum()).tolist(), strict=True)
    }  # fmt: skip
    return Policy.model_validate({"task": sections})


@settings(max_examples=15)
@given(policy=policies(), draws=st.integers(500, 5_000), seed=st.integers(0, 99))
def test_any_policy_is_unbiased_bounded_and_even(pack: Pack, policy: Policy, draws: int, seed: int) -> None:
    plan = draft_plan(Catalog.open(pack.home), policy, pack, draws=draws, seed=seed)
    weights, p = plan.label_weights(), plan.probabilities()
    mass = np.bincount(plan.cell(plan.label_task, plan.label_stratum), p[plan.label_sample] * weights)
    assert np.abs(mass - plan.pi[0]).max() <= 1e-12
    assert (weights * plan.shares[plan.label_task]).max() <= 1 + 1e-12
    assert min(row.ess / (row.share * draws) for row in task_outcomes(plan)) >= 1 - 1e-12
    rates = np.repeat(plan.shares, np.diff(plan.first_cell)) * plan.pi[0]
    assert np.abs(plan.drawn()[0] - rates * draws).max() < 1
    assert deviation(plan.draw_task.astype(np.int64)) <= 1.5
    assert deviation(plan.cell(plan.draw_task, plan.draw_stratum), rates) <= 2.5


def test_weighted_counts_follow_every_target_over_seeds(pack: Pack) -> None:
    """For every stratum of six tasks, whichever task drew the image; one false alarm in a million runs of the test."""
    sections = {
        f"t{i:04d}": {"owner": "ada", "share": share, "importance": 1 / 6, "rule": rule, "boost": {"night": boost}}
        for i, (share, rule, boost) in enumerate(
            zip([0.4, 0.2, 0.15, 0.1, 0.1, 0.05], [*RULES, "balanced"], [1, 3, 9, 1, 0.5, 5], strict=True)
        )
    }
    policy, catalog = Policy.model_validate({"task": sections}), Catalog.open(pack.home)
    plan = draft_plan(catalog, policy, pack, draws=300)
    with catalog.read() as now:
        found = eligible_labels(now, policy.task, pack)
        strata = [strata_of(now, labels, policy.task[labels.task.name], SliceMembership(now)) for labels in found]
    shares = np.array([task.share for task in plan.tasks])
    cells, weights, sums = plan.cell(plan.label_task, plan.label_stratum), plan.label_weights(), []
    for seed in range(SEEDS):
        drawn = _tables(strata, shares, pack, [300], seed)["draws"]["sample"].to_numpy()
        times = np.bincount(drawn, minlength=len(plan.keys))[plan.label_sample]
        sums.append(np.bincount(cells, times * weights, minlength=len(plan.sizes)) / 300)
    off, error = np.mean(sums, axis=0) - plan.pi[0], np.std(sums, axis=0, ddof=1) / SEEDS**0.5
    limit = stats.t.isf(FALSE_ALARM / 2 / len(off), SEEDS - 1)
    assert (np.abs(off) <= limit * error + 1e-9).all()
    assert error.max() < 0.02  # so that the test could fail
