"""States: a pure function of a state and the figures of one evaluation."""

import doctest
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplers.policy.policy import Policy, TaskPolicy
from training.loop import states
from training.loop.states import Figures, TaskState, next_state, policy_at
from training.recipe import Stopping

RULES = Stopping(patience=2, tolerance=0.05)


def test_examples() -> None:
    assert doctest.testmod(states, extraglobs={"Stopping": Stopping}).failed == 0


def figures(step: int, gain: float, **more: object) -> Figures:
    return Figures(**{"step": step, "loss": 0.5 - gain, "gain": gain, "error": 0.01, **more})  # type: ignore[arg-type]


def after(now: TaskState, *gains: float) -> list[str]:
    found = []
    for step, gain in enumerate(gains, 10):
        now = next_state(now, figures(step, gain), RULES)
        found.append(now.state)
    return found


STARTED = TaskState(reference=1, best=1, best_loss=0.5)


@pytest.mark.parametrize(
    ("gains", "wanted"),
    [
        ([0.1, 0.1], ["ACTIVE", "ACTIVE"]),
        ([0.0, -0.1, -0.1], ["ACTIVE", "PLATEAU", "DISTILL"]),
        ([0.009, 0.009, 0.1], ["ACTIVE", "PLATEAU", "ACTIVE"]),
        ([0.0] * 5, ["ACTIVE", "PLATEAU", "DISTILL", "DISTILL", "FROZEN"]),
        ([0.0] * 3 + [0.1, 0.0, 0.0], ["ACTIVE", "PLATEAU", "DISTILL", "DISTILL", "DISTILL", "FROZEN"]),
        ([0.0] * 5 + [-0.04, -0.06], ["ACTIVE", "PLATEAU", "DISTILL", "DISTILL", "FROZEN", "FROZEN", "DISTILL"]),
    ],
)
def test_transitions(gains: list[float], wanted: list[str]) -> None:
    assert after(STARTED, *gains) == wanted


def test_a_gain_moves_the_reference_and_a_lower_loss_the_best_step() -> None:
    gained = next_state(STARTED, figures(7, 0.1), RULES)
    assert (gained.reference, gained.best, gained.best_loss) == (7, 7, pytest.approx(0.4))
    little = next_state(gained, figures(8, 0.005, loss=0.39), RULES)
    assert (little.reference, little.best, little.misses) == (7, 8, 1)


def test_noise_is_no_drop() -> None:
    frozen = replace(STARTED, state="FROZEN")
    assert next_state(frozen, figures(9, -0.2, error=0.3), RULES) == frozen


@pytest.mark.parametrize("state", ["PLATEAU", "DISTILL", "FROZEN"])
def test_new_labels_wake_a_task(state: str) -> None:
    found = next_state(replace(STARTED, state=state), figures(9, 0.0, new_labels=True), RULES)  # type: ignore
    assert (found.state, found.misses, found.best) == ("ACTIVE", 0, 9)


def policy(count: int) -> Policy:
    parts = {
        f"t{n}": TaskPolicy(owner="ada", share=(n + 1) * 2 / (count * (count + 1)), importance=1 / count)
        for n in range(count)
    }
    return Policy(task=parts)


@settings(max_examples=60, deadline=None)
@given(asked=st.lists(st.sampled_from(["ACTIVE", "PLATEAU", "DISTILL", "FROZEN"]), min_size=1, max_size=6))
def test_shares_follow_the_states(asked: list[str]) -> None:
    base = policy(len(asked))
    found = policy_at(base, {f"t{n}": TaskState(state=state) for n, state in enumerate(asked)}, 0.25)  # type: ignore
    if set(asked) == {"FROZEN"}:
        assert found is None
        return
    assert found is not None
    assert sum(part.share for part in found.task.values()) == pytest.approx(1)
    assert sum(part.importance for part in found.task.values()) == pytest.approx(1)
    for n, state in enumerate(asked):
        part, before = found.task[f"t{n}"], base.task[f"t{n}"]
        if state == "FROZEN":
            assert (part.share, part.importance) == (0, 0)
        elif state == "DISTILL" and {"ACTIVE", "PLATEAU"} & set(asked):
            assert part.share == pytest.approx(0.25 * before.share)
        else:
            assert part.share >= before.share - 1e-9
