"""Sign-off: what one owner's request costs the others is known before training, and needs their consent."""

import json
from pathlib import Path

import pytest
from support.homes import make_home

from amber.cli import run
from curation import BadInput, Catalog
from samplers import Pack, Plan, Policy, make_pack, make_plan
from samplers.plan.build import draft_plan
from samplers.plan.sign_off import changes, missing_sign_offs, refuse_unsigned

OWNERS = {"color": "ada", "car": "bob", "speed": "eve"}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("payers"))


@pytest.fixture(scope="module")
def pack(catalog: Catalog) -> Pack:
    return make_pack(catalog)


def policy_of(color: float = 1, boost: float = 1, sign_off: dict[str, str] | None = None, cap: float = 5) -> Policy:
    total = color + 2
    shares = {"color": color / total, "car": 1 / total, "speed": 1 / total}
    sections = {
        name: {"owner": OWNERS[name], "share": share, "importance": 1 / 3, "rule": "balanced", "cap": cap}
        for name, share in shares.items()
    }
    sections["color"]["boost"] = {"night": boost}
    return Policy.model_validate({"task": sections, "sign_off": sign_off or {}})


@pytest.fixture(scope="module")
def modest(catalog: Catalog, pack: Pack) -> Plan:
    return make_plan(catalog, policy_of(), pack, draws=2_000)


@pytest.mark.parametrize("cap", [1.2, 5.0])
@pytest.mark.parametrize(("color", "boost"), [(1.0, 10.0), (10.0, 1.0), (10.0, 10.0)])
def test_a_larger_request_moves_no_targets_and_lowers_named_figures(
    catalog: Catalog, pack: Pack, color: float, boost: float, cap: float
) -> None:
    before, after = (
        draft_plan(catalog, policy, pack, draws=2_000)
        for policy in (policy_of(cap=cap), policy_of(color, boost, cap=cap))
    )
    rows = {row.task: row for row in changes(after, before)}
    assert rows["car"].targets == rows["speed"].targets == ()
    assert bool(rows["color"].targets) == (boost > 1)
    if color > 1:
        for name in ("car", "speed"):
            assert rows[name].lowered[0] == "share 0.3333 -> 0.08333"
            assert rows[name].lowered[1].startswith("ess ")
        assert set(missing_sign_offs(list(rows.values()), policy_of(), before, author="ada")) == {"bob", "eve"}


def test_a_plan_that_lowers_others_needs_each_owners_sign_off(catalog: Catalog, pack: Pack, modest: Plan) -> None:
    greedy = draft_plan(catalog, policy_of(10), pack, draws=2_000)
    both = {"bob": modest.hash, "eve": modest.hash[:12]}
    with pytest.raises(BadInput, match=r"without the sign-off of bob \(car: share 0.3333 -> 0.08333.*eve \(speed:"):
        refuse_unsigned(greedy, modest, policy_of(10))
    with pytest.raises(BadInput, match=r"sign-off of eve \(speed"):
        refuse_unsigned(greedy, modest, policy_of(10, sign_off={"bob": modest.hash}))
    with pytest.raises(BadInput, match="sign-off of eve"):
        refuse_unsigned(greedy, modest, policy_of(10), author="bob")
    refuse_unsigned(greedy, modest, policy_of(10, sign_off=both))
    refuse_unsigned(modest, modest, policy_of())


def test_a_sign_off_is_valid_against_the_named_plan_only(catalog: Catalog, pack: Pack, modest: Plan) -> None:
    signed = policy_of(10, sign_off={"bob": modest.hash, "eve": modest.hash})
    newer = make_plan(catalog, policy_of(2), pack, draws=2_000)
    with pytest.raises(BadInput, match=f"against {newer.hash[:12]}"):
        refuse_unsigned(draft_plan(catalog, signed, pack, draws=2_000), newer, signed)


def test_a_sign_off_does_not_change_the_plan(catalog: Catalog, pack: Pack, modest: Plan) -> None:
    assert draft_plan(catalog, policy_of(sign_off={"bob": "0" * 32}), pack, draws=2_000).hash == modest.hash


def test_fewer_draws_are_no_loss_and_small_losses_are_tolerated(catalog: Catalog, pack: Pack, modest: Plan) -> None:
    fewer = draft_plan(catalog, policy_of(), pack, draws=500)
    assert [row.lowered for row in changes(fewer, modest)] == [(), (), ()]
    slightly = draft_plan(catalog, policy_of(1.02), pack, draws=500)
    assert [row.lowered for row in changes(slightly, fewer, tolerance=0.2)] == [(), (), ()]
    assert [bool(row.lowered) for row in changes(slightly, fewer, tolerance=0.001)] == [False, True, True]


def test_an_omitted_task_loses_everything(catalog: Catalog, pack: Pack, modest: Plan) -> None:
    section = {"owner": "ada", "share": 1, "importance": 1}
    alone = draft_plan(catalog, Policy.model_validate({"task": {"color": section}}), pack, draws=2_000)
    rows = {row.task: row for row in changes(alone, modest)}
    assert rows["car"].after is None
    assert rows["car"].lowered[0] == "share 0.3333 -> 0"


def toml(policy: Policy) -> str:
    lines = []
    for name, fields in policy.model_dump()["task"].items():
        lines.append(f"[task.{name}]")
        lines += [f"{key} = {json.dumps(fields[key])}" for key in ("owner", "share", "importance", "rule", "cap")]
    return "\n".join([*lines, "[sign_off]", *(f'{owner} = "{hash_}"' for owner, hash_ in policy.sign_off.items())])


def test_the_command_refuses_and_then_plans(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AMBER_HOME", str(catalog.home))
    monkeypatch.delenv("AMBER_AUTHOR", raising=False)
    file = tmp_path / "policy.toml"

    def plan(policy: Policy, *more: str) -> tuple[int, str, str]:
        file.write_text(toml(policy))
        return run(["plan", "--draws", "700", "--policy", str(file), *more]), *capsys.readouterr()

    code, out, _ = plan(policy_of(), "--json", "--author", "ada")
    before = json.loads(out)["plan"] if code == 0 else ""
    code, _, err = plan(policy_of(10))
    assert (code, len(err.splitlines())) == (2, 1)
    assert "without the sign-off of bob" in err
    code, out, _ = plan(policy_of(10, sign_off={"bob": before[:12], "eve": before}), "--json")
    assert code == 0
    after = json.loads(out)["plan"]
    assert run(["plan", after[:10], "--against", before[:10], "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["changes"]
    assert {row["task"] for row in rows if row["lowered"]} == {"car", "speed"}
    assert run(["plan", after[:10], "--against", before[:10]]) == 0
    assert "Who must sign" in capsys.readouterr().out
