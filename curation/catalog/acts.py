"""Appends the events of ownership: members of owners, the policy in force, and authored acts."""

from collections.abc import Iterable

import pyarrow as pa

from curation.catalog.event_writer import Writer
from curation.catalog.ownership import Identity

__all__ = ["add_act", "add_members", "add_policy"]


def add_members(writer: Writer, owner: str, old: Iterable[Identity], new: Iterable[Identity]) -> None:
    """Append what turns the members `old` of an owner into `new`."""
    old, new = set(old), set(new)
    rows = [(each, True) for each in sorted(new - old)] + [(each, False) for each in sorted(old - new)]
    table = [{"owner": owner, "member": each.name, "via": each.via, "active": active} for each, active in rows]
    if table:
        writer.append("owner_event", pa.Table.from_pylist(table))


def add_policy(writer: Writer, policy: str, sha256: str) -> None:
    """Append a policy in force, as JSON, with its hash."""
    writer.append("policy_event", pa.table({"sha256": [sha256], "policy": [policy]}))


def add_act(
    writer: Writer, act: str, owner: str, by: Identity, *, subject: str = "", before: str = "", policy: str = ""
) -> None:
    """Append one authored act; `schema` says what its fields mean."""
    row = {
        "act": act, "owner": owner, "member": by.name, "via": by.via, "subject": subject, "before": before,
        "policy": policy,
    }  # fmt: skip
    writer.append("act_event", pa.Table.from_pylist([row]))
