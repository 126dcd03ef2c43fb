"""Sign-off by the service: an owner's token accepts what a plan takes from the owner, as `amber plan --sign` does."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.homes import copy_home, make_home
from support.served import served

from amber.service.client import Client
from amber.service.models.ledger import SignOff
from amber.service.tokens import Tokens
from curation.catalog.catalog import Catalog
from curation.catalog.ownership import Identity
from curation.errors import BadInput, NotFound
from samplers import Plan, Policy, make_pack, make_plan
from samplers.plan.build import draft_plan
from samplers.plan.sign_off import refuse_unsigned

EVE = Identity(name="eve", via="token")
ANN, BOB = (Identity(name=name, via="user") for name in ("ann", "bob"))


def policy_of(color: float) -> Policy:
    shares = {"color": color / (color + 1), "speed": 1 / (color + 1)}
    owners = {"color": "ada", "speed": "eve"}
    return Policy.model_validate(
        {
            "task": {
                name: {"owner": owners[name], "share": share, "importance": 0.5, "rule": "balanced"}
                for name, share in shares.items()
            }
        }
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, Plan, Plan]:
    catalog = make_home(tmp_path_factory.mktemp("signed"), samples=60)
    pack = make_pack(catalog)
    before = make_plan(catalog, policy_of(1), pack, draws=200)
    return catalog, before, draft_plan(catalog, policy_of(5), pack, draws=200, commit=before.commit)


@pytest.fixture
def home(made: tuple[Catalog, Plan, Plan], tmp_path: Path) -> Catalog:
    return copy_home(made[0], tmp_path)


@pytest.fixture
def client(home: Catalog) -> Iterator[Client]:
    with served(home.home) as service, Client(service.url, Tokens(home.home).add("eve", "label")) as client:
        yield client


def refused(catalog: Catalog, after: Plan, before: Plan) -> str:
    with catalog.read() as now:
        try:
            refuse_unsigned(after, before, policy_of(5), now, by=BOB)
        except BadInput as error:
            return str(error)
    return ""


def signed(after: Plan, before: Plan, owner: str = "eve", batch: str = "b") -> SignOff:
    return SignOff(owner=owner, plan=after.hash, before=before.hash, policy=policy_of(5).sha256, batch=batch)


def test_an_owners_token_signs_a_plan_off(client: Client, home: Catalog, made: tuple[Catalog, Plan, Plan]) -> None:
    _, before, after = made
    with home.commit(author="x", message="owners") as change:
        change.set_members("eve", [EVE], by=ANN)
    told = refused(home, after, before)
    assert "sign-off of eve (speed" in told
    assert f"plan {after.hash}, before {before.hash}, policy {policy_of(5).sha256}" in told
    done = client.sign_off(signed(after, before))
    assert (done.owner, done.by) == ("eve", "token:eve")
    assert client.sign_off(signed(after, before)).commit == done.commit
    assert refused(home, after, before) == ""
    with home.read() as now:
        act = now.ownership.acts(done.commit - 1).to_pylist()
        assert now.log()["author"][0].as_py() == "eve"
    assert [(row["act"], row["owner"], row["member"], row["via"]) for row in act] == [
        ("sign_off", "eve", "eve", "token")
    ]


def test_a_token_signs_only_for_its_own_owner(client: Client, home: Catalog, made: tuple[Catalog, Plan, Plan]) -> None:
    _, before, after = made
    with home.commit(author="x", message="owners") as change:
        change.set_members("eve", [ANN], by=ANN)
    with pytest.raises(BadInput, match=r"sign-off of eve: needs eve .user:ann., and you are token:eve"):
        client.sign_off(signed(after, before))
    assert "sign-off of eve" in refused(home, after, before)


def test_a_sign_off_names_an_owner_and_a_plan(client: Client, made: tuple[Catalog, Plan, Plan]) -> None:
    _, before, after = made
    with pytest.raises(NotFound, match="owner: owns no task"):
        client.sign_off(signed(after, before, owner="nobody"))
    with pytest.raises(NotFound):
        client.sign_off(signed(after, after))
