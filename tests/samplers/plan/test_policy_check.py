"""Advice on a policy: every problem at once, notes on unusual choices, and a suggested policy that can be planned."""

import tomllib
from pathlib import Path

import pytest
from support.homes import copy_home, make_home

from amber.cli import run
from curation import BadInput, Catalog, Task
from curation.files.toml_files import parse
from samplers import Policy, make_pack, make_plan
from samplers.plan.policy_check import notes, problems, suggest

SOUND = {"owner": "ada", "share": 0.5, "importance": 0.5}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    catalog = make_home(tmp_path_factory.mktemp("check"))
    with catalog.commit(author="ada", message="more") as change:
        change.add_tasks([Task(name="nothing", kind="binary", owner="eve")])
        change.add_slice("nowhere", "attr.night AND NOT attr.night")
        change.add_slice("first", "attr.key = 'pictures/00005'")
        change.add_slice("guessed", "pred.color.confidence > 0.5")
    return catalog


def found(catalog: Catalog, sections: dict[str, object]) -> list[str]:
    with catalog.read() as now:
        return problems({"task": sections}, now)


PROBLEMS = [
    ({"color": {**SOUND, "cap": 0.5}}, "task.color.cap = 0.5: Input should be greater than or equal to 1"),
    ({"color": SOUND}, "the tasks' shares sum to 0.5, must sum to 1"),
    ({"color": SOUND}, "the tasks' importances sum to 0.5, must sum to 1"),
    ({"colour": SOUND, "car": SOUND}, "task 'colour': the catalog has no such task (did you mean 'color'?)"),
    ({"color": SOUND, "nothing": SOUND}, "task nothing has no label to train on; give it share 0, or request labels"),
    ({"color": {**SOUND, "boost": {"nihgt": 2.0}}, "car": SOUND}, "boosts slice 'nihgt', which is not declared"),
    ({"color": {**SOUND, "boost": {"guessed": 2.0}}, "car": SOUND}, "a slice over predictions; freeze it as a tag"),
    ({"color": {**SOUND, "rule": "sideways"}}, "task.color.rule = 'sideways'"),
]


@pytest.mark.parametrize(("sections", "message"), PROBLEMS)
def test_each_problem_is_reported(catalog: Catalog, sections: dict[str, object], message: str) -> None:
    assert any(message in line for line in found(catalog, sections))


def test_all_problems_are_reported_at_once(catalog: Catalog) -> None:
    sections = {
        "colour": SOUND, "nothing": SOUND, "car": {**SOUND, "cap": 0.0},
        "color": {**SOUND, "boost": {"nihgt": 2.0, "dawn": 3.0}},
    }  # fmt: skip
    lines = found(catalog, sections)
    words = ["task.car.cap", "'colour'", "nothing has no label", "'nihgt'", "'dawn'"]
    assert [sum(word in line for line in lines) for word in words] == [1] * len(words)


def test_a_sound_policy_has_no_problem(catalog: Catalog) -> None:
    assert found(catalog, {"color": SOUND, "car": SOUND}) == []


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"boost": {"nowhere": 2.0}}, "boosts nowhere, which holds no label yet"),
        ({"rule": "balanced", "boost": {"first": 90.0}}, "has one sample, so every draw of it is that sample"),
        ({"rule": "balanced", "boost": {"yellow_at_night": 900.0, "night": 90.0}}, "set a cap to bound that"),
    ],
)
def test_unusual_choices_are_noted(catalog: Catalog, fields: dict[str, object], note: str) -> None:
    with catalog.read() as now:
        car = {"owner": "bob", "share": 0.0, "importance": 0.0}
        color = {**SOUND, "share": 1.0, "importance": 1.0, **fields}
        lines = notes(parse(Policy, {"task": {"color": color, "car": car}}, where="policy"), now)
    if "first" in str(fields):
        with catalog.read() as now:
            known = set(now.labels("color")["sample_id"].to_pylist()) & set(now.members("attr.key = 'pictures/00005'"))
        if not known:
            note = "boosts first, which holds no label yet"
    assert any(note in line for line in lines)
    assert "task car: share 0, so it does not train on its labels" in lines


def test_the_suggested_policy_is_sound_and_can_be_planned(catalog: Catalog) -> None:
    with catalog.read() as now:
        text = suggest(now)
        data = tomllib.loads(text)
        assert problems(data, now) == []
        policy = parse(Policy, data, where="suggested")
    assert set(policy.task) == {"color", "car", "bike", "speed"}
    assert policy.task["bike"].rule == "power"
    assert policy.task["speed"].rule == "natural"
    assert min(part.share for part in policy.task.values()) >= 0.5 / 4 / 1.3
    assert "\n# " in text
    assert len(make_plan(catalog, policy, make_pack(catalog), draws=200).draws) == 200


def test_rare_slices_are_boosted_towards_a_share_of_their_task(catalog: Catalog) -> None:
    with catalog.read() as now:
        boost = tomllib.loads(suggest(now))["task"]["color"].get("boost", {})
        labels = now.labels("color")["sample_id"].to_pylist()
        train = set(now.training_ids().tolist()) & set(labels)
        part = len(train & set(now.members(now.slice("yellow_at_night").predicate).tolist())) / len(train)
    assert 0 < part < 0.05
    assert boost == {"yellow_at_night": round(min(8.0, 0.05 / part), 1)}


def test_nothing_is_suggested_without_labels(tmp_path: Path) -> None:
    with Catalog.create(tmp_path / "home").read() as now, pytest.raises(BadInput, match="no label to train on"):
        suggest(now)


def test_the_command_reports_everything_in_one_line(
    catalog: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMBER_HOME", str(copy_home(catalog, tmp_path).home))
    file = tmp_path / "policy.toml"
    file.write_text('[task.colour]\nowner = "a"\nshare = 0.5\nimportance = 1\ncap = 0.5\n')
    assert run(["policy", "check", str(file)]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "task.colour.cap" in err
    assert "did you mean 'color'" in err
    assert run(["policy", "suggest"]) == 0
    file.write_text(capsys.readouterr().out)
    assert run(["policy", "check", str(file)]) == 0
    assert "sound" in capsys.readouterr().out
