"""`amber replay`: equal bits on one machine, noise on other threads, what a link contributed, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.chains import Chain
from support.refusals import one_line, refused

from amber.cli import run
from amber.forget import forget
from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from samplers.plan.plan import Plan
from training.dynamics.chain_steps import flat, reseeded, steps_of, with_threads, without
from training.dynamics.flattened_mark import FlattenedMark
from training.dynamics.lineage import lineage_of
from training.dynamics.replay import Contribution, SeedGain, verdict_of
from training.evaluation.paired import Estimate
from training.loop.trainer import train
from training.recipe import Recipe

Capture = pytest.CaptureFixture[str]


def replayed(capsys: Capture, *words: str, code: int = 0) -> dict[str, Any]:
    assert run(["replay", *words, "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    return found


def test_a_chain_of_four_links_reproduces_bit_by_bit(chain: Chain, capsys: Capture) -> None:
    found = replayed(capsys, "--to", "again")
    assert (found["run"], found["verdict"], found["predictions"]) == (chain.frozen.id, "equal", "equal")
    assert [(link["run"], link["made"]) for link in found["links"]] == [(part.id, part.id) for part in chain.runs]
    assert {(link["plan"], link["weights"]) for link in found["links"]} == {("equal", "equal")}
    rebuilt = Catalog.open("again")
    with rebuilt.read() as there, chain.catalog.read() as here:
        assert len(there.samples()) == len(here.samples())
    assert (rebuilt.home / "shards").is_symlink()
    derived = {plan for _, plan in chain.distilled.course}
    assert derived < {path.name for path in (rebuilt.home / "plans").iterdir()}


def test_on_other_threads_the_figures_stay_within_noise(chain: Chain, capsys: Capture) -> None:
    found = replayed(capsys, chain.pixel.id, "--threads", "2")
    assert found["verdict"] in ("equal", "within noise")
    assert found["links"][0]["made"] != chain.pixel.id  # the recipe names its threads
    assert found["figures"]
    assert not list(Path().iterdir())


def test_over_seeds_other_threads_are_judged_by_what_they_gain(
    chain: Chain, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads may leave every bit as it was; another seed stands for them, whose gains are noise."""
    monkeypatch.setattr("training.dynamics.replay.with_threads", lambda steps, threads: reseeded(steps, 7, keep=0))
    found = replayed(capsys, chain.pixel.id, "--threads", "2", "--seeds", "3")
    assert {row["task"] for row in found["gains"]} == {"color", "car", "speed"}
    ends = [(row["gain"]["low"], row["gain"]["high"]) for row in found["gains"]]
    assert all(low <= 0 <= high for low, high in ends)
    assert (found["verdict"], found["seeds"]) == ("within noise", 3)
    assert run(["replay", chain.pixel.id, "--threads", "2", "--seeds", "2"]) == 0
    assert "gain over the recipes' own, 2 seeds" in capsys.readouterr().out


def test_seeds_say_nothing_where_the_threads_are_those_of_the_recipes(
    chain: Chain, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Predictions that differ all the same, as on another machine, are judged by their figures."""
    monkeypatch.setattr("training.dynamics.replay.equal_tables", lambda first, second: False)
    found = replayed(capsys, chain.pixel.id, "--threads", "1", "--seeds", "2")
    assert (found["gains"], found["verdict"]) == ([], "within noise")


@pytest.mark.parametrize(
    ("ends", "verdict"), [([(-1, 2)], "within noise"), ([(-1, 2), (1, 2)], "differs"), ([(-2, -1)], "differs")]
)
def test_gains_decide_where_there_are_any(ends: list[tuple[float, float]], verdict: str) -> None:
    gains = [
        SeedGain(task="x", metric="", unit="", n=9, gain=Estimate(value=0.0, low=low, high=high)) for low, high in ends
    ]
    assert verdict_of([], gains) == verdict
    assert verdict_of([], []) == "cannot tell"


def test_without_a_link_its_child_continues_what_it_continued(chain: Chain, capsys: Capture) -> None:
    found = replayed(capsys, chain.frozen.id, "--without", chain.distilled.id[:8])
    assert (found["run"], found["without"]) == (chain.frozen.id, chain.distilled.id)
    assert found["other"] != chain.frozen.id
    assert {row["task"] for row in found["figures"]} == {"color", "car", "speed"}
    assert found["better"] == [f"{row['task']} on {row['slice']}" if row["slice"] else row["task"]
                               for row in found["figures"] if row["verdict"] == "better"]  # fmt: skip


def test_flattening_marks_the_run(own_chain: Chain, capsys: Capture) -> None:
    found = replayed(capsys, own_chain.replanned.id, "--flat", "--seeds", "2")
    assert {row["task"] for row in found["gains"]} == {"color", "car"}
    mark = FlattenedMark.of(own_chain.catalog.home, own_chain.replanned.id)
    assert mark is not None
    assert (list(mark.better), mark.seeds) == (found["better"], 2)
    assert run(["lineage", own_chain.replanned.id]) == 0
    assert "one training from scratch" in capsys.readouterr().out
    assert run(["replay", own_chain.pixel.id, "--flat"]) == 2
    assert "is one training from scratch already" in one_line(capsys.readouterr().err)


def test_what_a_gain_shows_is_by_its_interval() -> None:
    def row(task: str, low: float, high: float) -> SeedGain:
        return SeedGain(task=task, metric="", unit="", n=9, gain=Estimate(value=(low + high) / 2, low=low, high=high))

    rows = (row("up", 1, 3), row("none", -1, 3), row("down", -3, -1))
    found = Contribution(run="a", other="b", without="", split="test", seeds=3, figures=(), gains=rows)
    assert (found.better, found.worse) == (["up"], ["down"])
    mark = FlattenedMark(better=tuple(found.better), worse=(), split="test", seeds=3)
    assert mark.text == "not reproduced: one training from scratch on its last plan is worse on up (test, 3 seeds)"


def test_steps_can_be_left_out_flattened_and_seeded(chain: Chain) -> None:
    with chain.catalog.read() as now:
        steps = steps_of(chain.catalog.home, lineage_of(chain.catalog.home, now, chain.frozen.id))
    pixel, distilled, replanned, frozen = (part.id for part in chain.runs)
    shorter = without(steps, distilled)
    assert [(step.run, step.parent, step.features_of) for step in shorter] == [
        (pixel, "", ""), (replanned, pixel, ""), (frozen, "", replanned),
    ]  # fmt: skip
    assert [step.run for step in without(steps, frozen)] == [pixel, distilled, replanned]
    assert [step.parent for step in without(steps, pixel)] == ["", distilled, ""]
    (one,) = flat(steps)
    assert (one.recipe, one.plan, one.parent) == (chain.replanned.recipe, chain.frozen.plan, "")
    assert [step.recipe.seed for step in reseeded(steps, 2, keep=1)] == [0, 2000, 2000, 2000]
    assert {step.recipe.threads for step in with_threads(steps, 5)} == {5}
    only = Recipe.parse({"trunk": "small", "only": ["car"]})
    fenced = [steps[0], type(steps[1])(run="x", plan="p", recipe=only, parent=pixel)]
    with pytest.raises(BadInput, match="learns only car"):
        without([*fenced, type(steps[1])(run="y", plan="p", recipe=only, parent="x")], pixel)
    with pytest.raises(BadInput, match="is the only training"):
        without(steps[:1], pixel)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--without", "nosuch"], "link 'nosuch': must be one run of this lineage"),
        (["--without", "x", "--flat"], "are two questions"),
        (["--seeds", "2"], "is for --without, --flat and --threads"),
        (["--flat", "--threads", "2"], "is for a replay of the whole chain"),
        (["--to", "."], "exists already"),
    ],
)
def test_bad_arguments(words: list[str], line: str, own_chain: Chain, capsys: Capture) -> None:
    assert line in refused(capsys, "replay", own_chain.frozen.id, *words)


def test_a_chain_with_a_broken_link_is_refused(own_chain: Chain, capsys: Capture) -> None:
    home = own_chain.catalog.home
    shutil.move(home / "runs" / own_chain.distilled.id, home.parent / "elsewhere")
    assert "is not in this workspace any more" in refused(capsys, "replay", own_chain.frozen.id)
    shutil.move(home.parent / "elsewhere", home / "runs" / own_chain.distilled.id)
    (shard,) = (home / "shards").glob("*.tar")
    kept = shard.read_bytes()
    shard.write_bytes(kept[:-1] + b"x")
    assert "is not what was packed" in refused(capsys, "replay", own_chain.frozen.id, code=4)
    shard.write_bytes(kept)
    forget(own_chain.catalog, "pictures/00008", author="ada")
    for words in ([], ["--without", own_chain.pixel.id], ["--flat"]):
        assert "was withdrawn, because an image" in refused(capsys, "replay", own_chain.frozen.id, *words)


def test_a_run_that_nobody_evaluated_is_judged_by_its_weights(own_chain: Chain, capsys: Capture) -> None:
    catalog = own_chain.catalog
    recipe = Recipe.parse({"trunk": "small", "size": (32, 48), "global_batch": 16, "threads": 1, "seed": 5})
    other = train(recipe, Plan.open(catalog.home, own_chain.pixel.plan), catalog)
    found = replayed(capsys, other.id)
    assert (found["verdict"], found["predictions"], found["figures"]) == ("equal", "not recorded", [])
    Path("gate.toml").write_text('[[judge]]\ntask = "car"\nmargin = "9 points"\n')
    assert "was not evaluated" in refused(capsys, "release", other.id, "--gate", "gate.toml")
