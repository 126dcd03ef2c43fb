"""Sign-off: what one owner's request costs the others is known before training, and needs their consent."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.homes import copy_home, make_home

from amber.cli import run
from amber.service.tokens import Tokens
from curation import BadInput, Catalog
from curation.catalog.ownership import Identity, os_user
from samplers import Pack, Plan, Policy, make_pack, make_plan
from samplers.plan.build import draft_plan
from samplers.plan.replan import draft_child, replan
from samplers.plan.sign_off import changes, missing_sign_offs, refuse_unsigned

OWNERS = {"color": "ada", "car": "bob", "speed": "eve"}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("payers"))


@pytest.fixture(scope="module")
def pack(catalog: Catalog) -> Pack:
    return make_pack(catalog)


def policy_of(color: float = 1, boost: float = 1, cap: float = 5) -> Policy:
    total = color + 2
    shares = {"color": color / total, "car": 1 / total, "speed": 1 / total}
    sections = {
        name: {"owner": OWNERS[name], "share": share, "importance": 1 / 3, "rule": "balanced", "cap": cap}
        for name, share in shares.items()
    }
    sections["color"]["boost"] = {"night": boost}
    return Policy.model_validate({"task": sections})


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
        assert set(missing_sign_offs(list(rows.values()), {"ada"})) == {"bob", "eve"}


ANN, EVE = Identity(name="ann", via="user"), Identity(name="eve", via="token")


def refused(catalog: Catalog, after: Plan, before: Plan, policy: Policy, by: Identity = ANN) -> str:
    """The message with which a plan is refused, or ""."""
    with catalog.read() as now:
        try:
            refuse_unsigned(after, before, policy, now, by=by)
        except BadInput as error:
            return str(error)
    return ""


def sign(catalog: Catalog, owner: str, after: Plan, before: Plan, policy: Policy, by: Identity = ANN) -> None:
    with catalog.commit(author="x", message="sign") as change:
        change.sign_off(owner, plan=after.hash, before=before.hash, policy=policy.sha256, by=by)


@pytest.fixture
def own(catalog: Catalog, modest: Plan, tmp_path: Path) -> Catalog:
    """A copy of the workspace with the modest plan, for a test to sign in."""
    return copy_home(catalog, tmp_path)


def test_a_plan_that_lowers_others_needs_each_owners_act(own: Catalog, modest: Plan) -> None:
    policy, pack = policy_of(10), make_pack(own)
    greedy = draft_plan(own, policy, pack, draws=2_000, commit=modest.commit)
    told = refused(own, greedy, modest, policy)
    assert "without the sign-off of bob (car: share 0.3333 -> 0.08333" in told
    assert "eve (speed:" in told
    sign(own, "bob", greedy, modest, policy)
    assert "sign-off of eve (speed" in refused(own, greedy, modest, policy)
    sign(own, "eve", greedy, modest, policy)
    assert (refused(own, greedy, modest, policy), refused(own, modest, modest, policy)) == ("", "")


def test_an_act_is_bound_to_plan_policy_and_baseline(own: Catalog, modest: Plan) -> None:
    policy, pack = policy_of(10), make_pack(own)
    greedy = draft_plan(own, policy, pack, draws=2_000, commit=modest.commit)
    for owner in ("bob", "eve"):
        sign(own, owner, greedy, modest, policy)
    other = draft_plan(own, policy_of(11), pack, draws=2_000, commit=modest.commit)
    longer = draft_plan(own, policy, pack, draws=3_000, commit=modest.commit)
    newer = draft_plan(own, policy_of(2), pack, draws=2_000, commit=modest.commit)
    assert not refused(own, greedy, modest, policy)
    wrong = [(other, modest, policy_of(11)), (longer, modest, policy), (greedy, newer, policy)]
    for after, before, under in [*wrong, (greedy, modest, policy_of(11))]:
        assert "without the sign-off of bob" in refused(own, after, before, under)


def test_only_members_sign_for_an_owner(own: Catalog, modest: Plan) -> None:
    policy, pack = policy_of(10), make_pack(own)
    greedy = draft_plan(own, policy, pack, draws=2_000, commit=modest.commit)
    with own.commit(author="x", message="owners") as change:
        change.set_members("eve", [EVE], by=ANN)
    with pytest.raises(BadInput, match=r"sign-off of eve: needs eve .token:eve., and you are user:ann"):
        sign(own, "eve", greedy, modest, policy)
    sign(own, "bob", greedy, modest, policy)
    assert "sign-off of eve" in refused(own, greedy, modest, policy)
    assert not refused(own, greedy, modest, policy, by=EVE)
    sign(own, "eve", greedy, modest, policy, by=EVE)
    assert not refused(own, greedy, modest, policy)
    with pytest.raises(BadInput, match="owner eve: needs eve"), own.commit(author="x", message="take over") as change:
        change.set_members("eve", [ANN], by=ANN)


def test_a_policy_cannot_widen_its_tolerance_or_take_over_a_task(own: Catalog, modest: Plan) -> None:
    policy, pack = policy_of(10), make_pack(own)
    wide = policy.model_copy(update={"tolerance": 0.99})
    mine = {name: part.model_copy(update={"owner": "ada"}) for name, part in policy.task.items()}
    forged = policy.model_copy(update={"task": mine})
    for each in (wide, forged):
        greedy = draft_plan(own, each, pack, draws=2_000, commit=modest.commit)
        assert "sign-off of bob" in refused(own, greedy, modest, each)


def test_equal_shares_after_equal_shares_need_nobody(own: Catalog) -> None:
    pack = make_pack(own)
    with own.read() as now:
        tasks = [now.task(name) for name in ("color", "car", "speed")]
    two, three = (Policy.even(tasks[:count]) for count in (2, 3))
    before, after = (draft_plan(own, policy, pack, draws=500) for policy in (two, three))
    assert not refused(own, after, before, three)
    with own.commit(author="x", message="in force") as change:
        change.set_policy(three.model_dump_json(), three.sha256, by=ANN)
    assert "sign-off of ada" in refused(own, after, before, three)


def test_lines_of_an_older_policy_are_refused_with_a_hint() -> None:
    data = {**policy_of().model_dump(), "sign_off": {"bob": "0" * 32}}
    with pytest.raises(ValueError, match="lines do not count; owners sign with `amber plan --sign OWNER`"):
        Policy.model_validate(data)


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
    return "\n".join(lines)


class Line:
    """The command line on one workspace."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self._capsys = home, capsys
        self._capsys.readouterr()

    def __call__(self, words: str, code: int = 0, **policies: Policy) -> Any:
        for name, policy in policies.items():
            (self.home / f"{name}.toml").write_text(toml(policy))
        named = [str(self.home / word) if word.endswith(".toml") else word for word in words.split()]
        assert run([*named, "--home", str(self.home), "--json"]) == code, self._capsys.readouterr().err
        out, err = self._capsys.readouterr()
        return json.loads(out) if code == 0 else err


@pytest.fixture
def line(own: Catalog, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.setenv("AMBER_AUTHOR", "bob")  # an author is only a name
    return Line(own.home, capsys)


def test_a_plan_is_refused_signed_and_made(line: Line) -> None:
    before = line("plan --draws 700 --policy p.toml", p=policy_of())["plan"]
    told = line("plan --draws 700 --policy p.toml", code=2, p=policy_of(10))
    assert (len(told.splitlines()), "without the sign-off of bob" in told) == (1, True)
    commit = told.split("--commit ")[1].split()[0]
    same = f"plan --draws 700 --policy p.toml --commit {commit}"
    assert line(f"{same} --sign nobody", code=2)
    shown = [line(f"{same} --sign {owner}")["plan"] for owner in ("bob", "eve")]
    after = line(same)["plan"]
    assert shown == [after, after]
    rows = line(f"plan {after[:10]} --against {before[:10]}")["changes"]
    assert {row["task"] for row in rows if row["lowered"]} == {"car", "speed"}
    acts = line(f"diff {commit}")["acts"]
    me = os_user()
    assert [(row["owner"], row["member"], row["via"], row["subject"]) for row in acts] == [
        (owner, me.name, "user", after) for owner in ("bob", "eve")
    ]
    assert line("log")[0]["acts"] == f"sign_off for eve by user:{me.name}"


@pytest.mark.parametrize("words", ["plan --draws 700", "plan --draws 700 --against", "plan replan 100 --stop car"])
def test_no_way_to_a_plan_goes_around_it(words: str, line: Line) -> None:
    before = line("plan --draws 700 --policy p.toml", p=policy_of())["plan"]
    if words.endswith("--against"):
        words = f"{words} {before}"
    told = line(words, code=2)
    assert "without the sign-off of" in told


def test_the_policy_in_force_is_the_default(line: Line) -> None:
    shutil.rmtree(line.home / "plans")
    assert line("policy set p.toml", p=policy_of(3))["by"] == str(os_user())
    header = Plan.open(line.home, line("plan --draws 700")["plan"]).header["policy"]
    assert header == Policy.load(line.home / "p.toml").sampling_rules()


def test_a_token_acts_for_its_owner(line: Line) -> None:
    secret, other = (Tokens(line.home).add(name, "label") for name in ("eve", "mallory"))
    line("owners set eve token:eve")
    assert {row["owner"]: row["members"] for row in line("owners")}["eve"] == ["token:eve"]
    for words in ("owners set eve user:root", "tasks redefine speed --owner bob"):
        assert "needs eve (token:eve)" in line(words, code=2)
        assert "needs eve (token:eve)" in line(f"{words} --token {other}", code=2)
        assert "missing or expired" in line(f"{words} --token guess", code=2)
    line("tasks redefine speed --tolerance 2")
    line(f"tasks redefine speed --owner bob --token {secret}")
    newest = line("log")[0]
    assert newest["acts"] == "redefine for eve by token:eve"
    assert line(f"diff {newest['id'] - 1}")["definitions"] == [
        {"task": "speed", "field": "owner", "before": "eve", "after": "bob"}
    ]
    line("owners set bob token:mallory")
    assert "needs bob" in line(f"revert {newest['id']}", code=2)
    line(f"revert {newest['id']} --token {other}")


def test_one_owner_without_members_needs_no_ceremony(line: Line) -> None:
    for name in ("car", "bike", "speed"):
        line(f"tasks redefine {name} --owner ada")
    line("plan --draws 700 --policy p.toml", p=policy_of())
    line("plan --draws 700 --policy p.toml", p=policy_of(10))
    line("plan --draws 700")
    line("owners set ada token:ada")
    assert "without the sign-off of ada" in line("plan --draws 700 --policy p.toml", code=2, p=policy_of(2))


def test_plans_made_in_python_need_the_same_sign_offs(own: Catalog, modest: Plan) -> None:
    policy, pack = policy_of(10), make_pack(own)
    calls = {
        "make_plan": lambda by: make_plan(own, policy, pack, draws=2_000, commit=modest.commit, by=by),
        "replan": lambda by: replan(modest, 500, policy, own, by=by),
    }
    drafts = {
        "make_plan": draft_plan(own, policy, pack, draws=2_000, commit=modest.commit),
        "replan": draft_child(modest, 500, policy, own),
    }
    for name, call in calls.items():
        with pytest.raises(BadInput, match="without the sign-off of bob"):
            call(ANN)
        assert not drafts[name].folder.exists()
        for owner in ("bob", "eve"):
            sign(own, owner, drafts[name], modest, policy)
        assert call(ANN).hash == drafts[name].hash


def test_a_plan_made_in_python_is_made_by_the_user_of_the_system(own: Catalog, modest: Plan) -> None:
    policy, pack = policy_of(10), make_pack(own)
    with own.commit(author="x", message="owners") as change:
        for owner in ("bob", "eve"):
            change.set_members(owner, [os_user()], by=os_user())
    assert make_plan(own, policy, pack, draws=2_000, commit=modest.commit).folder.exists()
