"""Plans of a task of several classes whose labels say which were looked for: its strata, weights and states."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.marked import CLASSES, make_marked
from support.plans import written_plan

from curation import Catalog
from curation.catalog.presence import presence_of_lists
from samplers import Policy, make_pack
from samplers.plan.presence import presence_entropy

RULES = ["natural", "balanced", "power", "effective_number", "repeat_factor"]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_marked(tmp_path_factory.mktemp("presence"), samples=120, partial=0.3)


@settings(max_examples=30, deadline=None)
@given(
    share=st.floats(0.05, 0.95), rule=st.sampled_from(RULES), cap=st.none() | st.floats(1, 10),
    boost=st.floats(0.5, 20),
)  # fmt: skip
def test_the_weighted_mass_of_every_stratum_is_its_target(
    catalog: Catalog, share: float, rule: str, cap: float | None, boost: float
) -> None:
    sections = {
        "seen": {"owner": "eve", "share": share, "importance": 0.5, "rule": rule, "cap": cap, "boost": {"bus": boost}},
        "wet": {"owner": "bob", "share": 1 - share, "importance": 0.5},
    }
    plan = written_plan(catalog, Policy.model_validate({"task": sections}), make_pack(catalog), draws=200)
    for code, task in enumerate(plan.tasks):
        mine = plan.label_task == code
        mass = (plan.probabilities()[plan.label_sample] * plan.label_weights())[mine]
        pi = np.array([row["pi"] for row in plan.rates() if row["task"] == task.name])
        assert np.bincount(plan.label_stratum[mine], mass, minlength=len(pi)) == pytest.approx(pi, rel=1e-12, abs=1e-12)
        assert plan.label_weights()[mine].max() <= 1 / plan.shares[code] * (1 + 1e-12)


def test_an_unknown_class_makes_no_stratum_and_no_entropy(catalog: Catalog) -> None:
    section = {"owner": "eve", "share": 1.0, "importance": 1.0, "rule": "natural"}
    plan = written_plan(catalog, Policy.model_validate({"task": {"seen": section}}), make_pack(catalog), draws=100)
    rows = np.arange(len(plan.keys), dtype=np.int32)
    states = plan.presence(rows)
    names = [(*CLASSES, "none")[int(value)] for value in plan.label_value]
    for row, name in zip(plan.label_sample.tolist(), names, strict=True):
        assert name == "none" or states[row, CLASSES.index(name)] == 1
        assert name != "none" or (states[row] < 1).all()
    assert (states == -1).any()
    wanted = presence_entropy(states, np.full(len(states), 1 / len(states)))
    assert plan.tasks[0].constant_loss == pytest.approx(wanted)
    assert "looked" in plan.label_lists.column_names


def test_padding_and_other_tasks_are_unknown(catalog: Catalog) -> None:
    section = {"owner": "eve", "share": 0.5, "importance": 0.5}
    policy = Policy.model_validate({"task": {"seen": section, "wet": section}})
    plan = written_plan(catalog, policy, make_pack(catalog), draws=100)
    assert plan.presence(np.array([-1, 0], np.int32))[0].tolist() == [-1, -1, -1, -1]
    alone = Policy.model_validate({"task": {"wet": section | {"share": 1.0, "importance": 1.0}}})
    other = written_plan(catalog, alone, make_pack(catalog), draws=100)
    assert other.presence(np.array([0, 1], np.int32)).shape == (2, 0)


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 4), unique=True),
            st.none() | st.lists(st.integers(0, 4), unique=True),
        ),
        min_size=1,
    )
)  # fmt: skip
def test_states_of_lists(cells: list[tuple[list[int], list[int] | None]]) -> None:
    present, looked = (pa.array([cell[side] for cell in cells], pa.list_(pa.int32())) for side in (0, 1))
    wanted = [
        [1 if code in there else 0 if seen is None or code in seen else -1 for code in range(5)]
        for there, seen in cells
    ]
    assert presence_of_lists(present, looked, 5).tolist() == wanted
