"""What a search recommends: the winner, the plain choice, or what stands; a tie takes the simpler one."""

import pytest

from training.dynamics.recipe_search import RecipeSearch, Verdict
from training.dynamics.study import TrialRow
from training.evaluation.paired import Estimate

TRIALS = [TrialRow(number=number, point={}, score=float(number)) for number in range(4)]


def gain(low: float | None) -> Estimate | None:
    return None if low is None else Estimate(value=low + 0.1, low=low, high=low + 0.2)


@pytest.mark.parametrize(
    ("whole", "plain", "over", "number"),
    [
        (0.1, None, None, 3),
        (-0.1, None, None, None),
        (0.1, 0.1, 0.1, 3),
        (0.1, 0.1, -0.1, 1),
        (-0.1, 0.1, -0.1, 1),
        (0.1, -0.1, -0.1, None),
    ],
)
def test_the_simplest_of_what_is_as_good(
    whole: float, plain: float | None, over: float | None, number: int | None
) -> None:
    won = gain(whole)
    assert won is not None
    verdict = Verdict(
        searched=0.1, fresh=0.0, shrinkage=0.1, whole=won, plain=gain(plain), over_plain=gain(over), tasks=()
    )
    found = RecipeSearch(plan="p", study="s", trials=TRIALS, winner=TRIALS[3], verdict=verdict)
    assert (found.recommended.number if found.recommended else None) == number


def test_without_a_winner_nothing_is_recommended() -> None:
    assert RecipeSearch(plan="p", study="s", trials=TRIALS, winner=None, verdict=None).recommended is None
