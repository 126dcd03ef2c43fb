"""What benchmarks print where a peer gives no answer."""

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from amber.cli import VERBS
from benchmarks import ask, decide, decide_labels, dynamics, kinds, start
from benchmarks.heads import Points, peer_rows
from benchmarks.parts import finish_parts
from benchmarks.table import Row, finish

REFUSED = Points(exact=50.0, chosen=50.0)
ANSWERED = Points(exact=51.0, chosen=51.0, peer=50.0, seconds=1.0, peer_seconds=2.0)


def test_a_peer_that_never_answers_is_never_met() -> None:
    assert [row.met for row in peer_rows("cards", {"suit": [REFUSED, REFUSED]})] == [False, False]


def test_a_peer_is_compared_where_it_answers() -> None:
    points, seconds = peer_rows("cards", {"suit": [REFUSED, ANSWERED]})
    assert (points.value, points.met) == (1.0, True)
    assert (seconds.value, seconds.met) == (0.5, True)


def test_a_missing_figure_is_null_and_not_met(capsys: pytest.CaptureFixture[str]) -> None:
    finish("some", [Row(what="missing", value=np.nan, peers={"other": np.inf})])
    row = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"][0]
    assert (row["value"], row["peers"], row["met"]) == (None, {"other": None}, False)


def test_the_start_of_every_verb_is_measured() -> None:
    assert sorted(start.READS | start.WITHOUT) == sorted(VERBS)


@pytest.mark.parametrize("bench", [ask, decide, dynamics, kinds])
def test_the_parts_of_a_benchmark_exist_and_others_are_refused(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in bench.PARTS.values():
        module, _, name = part.partition(":")
        assert callable(getattr(import_module(f"benchmarks.{module}"), name))
    monkeypatch.setenv("ROWS", "guesses")
    with pytest.raises(SystemExit, match="ROWS=guesses: must be some of " + ",".join(bench.PARTS)):
        finish_parts("some", bench.PARTS)


def test_a_short_part_of_bench_decide_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide_labels, "LOOPS", 3)
    monkeypatch.setattr(decide_labels, "DEMO", Path("nowhere"))
    assert [row.value > 1 for row in decide_labels.difference_rows()[::2]] == [True] * 4
