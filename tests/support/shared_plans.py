"""A workspace whose tasks have several owners, with a plan, and policies that take from one of them."""

from pathlib import Path

from support.homes import make_home

from curation.catalog.catalog import Catalog
from curation.catalog.ownership import Identity
from samplers import Plan, Policy, make_pack, make_plan

__all__ = ["DRAWS", "EVE", "file_of", "policy_of", "set_members", "shared_home"]

DRAWS = 200
EVE = Identity(name="eve", via="token")
OWNERS = {"color": "ada", "speed": "eve"}


def policy_of(color: float) -> Policy:
    """The task color gets so many times the share of speed."""
    shares = {"color": color / (color + 1), "speed": 1 / (color + 1)}
    parts = {
        name: {"owner": OWNERS[name], "share": share, "importance": 0.5, "rule": "balanced"}
        for name, share in shares.items()
    }
    return Policy.model_validate({"task": parts})


def file_of(folder: Path, policy: Policy) -> Path:
    """The policy as a file."""
    from samplers.plan.policy_text import policy_text

    path = folder / f"{policy.sha256}.toml"
    path.write_text(policy_text(policy))
    return path


def shared_home(folder: Path) -> tuple[Catalog, Plan]:
    """The pictures of `make_home` and a plan of equal shares for two tasks of two owners."""
    catalog = make_home(folder, samples=60)
    return catalog, make_plan(catalog, policy_of(1), make_pack(catalog), draws=DRAWS)


def set_members(catalog: Catalog, owner: str, *members: Identity) -> None:
    """Map an owner to these members."""
    with catalog.commit(author="x", message="owners") as change:
        change.set_members(owner, list(members), by=next(iter(members), EVE))
