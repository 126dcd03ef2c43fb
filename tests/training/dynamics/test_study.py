"""A study after a kill: no trial twice, none lost, and the same points as without; and what is refused."""

import json
import math
import os
from pathlib import Path

import pytest

from curation.errors import BadInput, Busy
from training.dynamics.search_space import Knob, Space
from training.dynamics.study import SAMPLERS, Study, TrialRow, opened_study

KNOBS = tuple(Knob(name=name, low=0.1, high=10.0, own=own, plain=1.0) for name, own in (("a", 2.0), ("b", 1.0)))
SPACE = Space(kind="weights", knobs=KNOBS, groups={"a": ("a",), "b": ("b",)})
BUDGET = 14


class Killed(Exception):
    """In place of a kill: the process ends without telling the study."""


def score(point: dict[str, float]) -> float:
    return -(math.log(point["a"]) ** 2) - (math.log(point["b"]) - 1) ** 2


def search(home: Path, sampler: str, *, dies_at: frozenset[int] = frozenset()) -> list[TrialRow]:
    """The trials of a search; it dies once at each of these trials, and is begun again."""
    died = set[int]()
    while True:
        try:
            with opened_study(home, "mine", {"plan": "p"}, SPACE, sampler=sampler, seed=3) as study:
                while asked := study.ask(BUDGET):
                    if asked.number in dies_at - died:
                        died.add(asked.number)
                        raise Killed
                    study.tell(asked.number, score(asked.point))
                return study.trials()
        except Killed:
            torn(home / "studies" / "mine" / "journal.log")


def torn(journal: Path) -> None:
    """As after a kill in the middle of a write: part of a line, and the journal's own lock."""
    with journal.open("a") as file:
        file.write('{"op_code":5,"wor')
    os.symlink(journal, f"{journal}.lock")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_killed_study_has_the_trials_of_an_undisturbed_one(tmp_path: Path, sampler: str) -> None:
    undisturbed = search(tmp_path / "a", sampler)
    assert [row.number for row in undisturbed] == list(range(BUDGET))
    assert undisturbed[0].point == {"a": 2.0, "b": 1.0}
    assert undisturbed[1].point == {"a": 1.0, "b": 1.0}
    assert search(tmp_path / "b", sampler, dies_at=frozenset({0, 1, 5, BUDGET - 1})) == undisturbed


def test_a_study_of_something_else_is_refused(tmp_path: Path) -> None:
    search(tmp_path, "random")
    with (
        pytest.raises(BadInput, match='study mine: is of plan "p", not of plan "q"; name another with --study'),
        opened_study(tmp_path, "mine", {"plan": "q"}, SPACE, sampler="random", seed=3),
    ):
        pass


def test_two_processes_do_not_search_in_one_study(tmp_path: Path) -> None:
    def opened() -> Study:
        with opened_study(tmp_path, "mine", {"plan": "p"}, SPACE, sampler="random", seed=3) as study:
            return study

    with (
        opened_study(tmp_path, "mine", {"plan": "p"}, SPACE, sampler="random", seed=3),
        pytest.raises(Busy, match="searches in it"),
    ):
        opened()


def test_trials_at_a_time_have_numbers_of_their_own(tmp_path: Path) -> None:
    with opened_study(tmp_path, "mine", {"plan": "p"}, SPACE, sampler="tpe", seed=3) as study:
        asked = [study.ask(3) for _ in range(4)]
        assert [None if each is None else each.number for each in asked] == [0, 1, 2, None]
        study.tell(2, 0.0)
        assert [row.score for row in study.trials()] == [None, None, 0.0]
    kept = json.loads((tmp_path / "studies" / "mine" / "study.json").read_text())
    assert kept == {"plan": "p", "sampler": "tpe", "seed": 3}
