"""Owners, the policy in force, and authored acts: who may decide what about a task, and who did."""

import hashlib
import os
import pwd
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from curation.catalog.tasks import Task
from curation.catalog.view import View
from curation.errors import BadInput

__all__ = ["Identity", "SnapshotOwnership", "definition_hash", "os_user"]


@dataclass(frozen=True, kw_only=True, order=True)
class Identity:
    """Who acts: the name of a token of the service, or of a user of the operating system.

    >>> str(Identity(name="ann", via="token"))
    'token:ann'
    """

    name: str
    via: Literal["token", "user"]

    @classmethod
    def parse(cls, text: str) -> "Identity":
        """An identity from `token:NAME`, `user:NAME` or NAME (a user)."""
        kind, colon, name = text.partition(":")
        if not colon:
            kind, name = "user", text
        if kind not in ("token", "user") or not name.strip() or not name.isprintable():
            raise BadInput(f"member {text!r}: must be user:NAME or token:NAME; correct it")
        return cls(name=name, via="token" if kind == "token" else "user")

    def __str__(self) -> str:
        return f"{self.via}:{self.name}"


def os_user() -> Identity:
    """The operating system's user of this process; no environment variable can change it."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container that does not name its user
        name = str(os.getuid())
    return Identity(name=name, via="user")


class SnapshotOwnership:
    """`now.ownership`: owners with their members, the policy in force, and acts, as of one commit."""

    def __init__(self, view: View) -> None:
        self._view = view

    def members(self) -> dict[str, tuple[Identity, ...]]:
        """The members of each owner that has some, sorted."""
        rows = self._view.rows(
            "SELECT owner, member, via FROM owner_event WHERE commit_id <= ? QUALIFY row_number() OVER "
            "(PARTITION BY owner, member, via ORDER BY commit_id DESC) = 1 AND active ORDER BY ALL",
            [self._view.commit],
        )
        found: dict[str, tuple[Identity, ...]] = {}
        for owner, name, via in rows:
            found[owner] = (*found.get(owner, ()), Identity(name=name, via=via))
        return found

    def policy(self) -> str:
        """The policy in force as JSON, "" for none."""
        rows = self._view.rows(
            "SELECT policy FROM policy_event WHERE commit_id <= ? ORDER BY commit_id DESC", [self._view.commit]
        )
        return str(rows[0][0]) if rows else ""

    def signed(self, plan: str, before: str, policy: str) -> set[str]:
        """Owners who signed off the plan with this hash, against the plan `before`, under the policy with this hash."""
        rows = self._view.rows(
            "SELECT DISTINCT owner FROM act_event WHERE act = 'sign_off' AND subject = ? AND before = ? AND policy = ? "
            "AND commit_id <= ?",
            [plan, before, policy, self._view.commit],
        )
        return {str(owner) for (owner,) in rows}

    def acts(self, after: int = 0) -> pa.Table:
        """Acts in commits after `after`, oldest first: commit_id, act, owner, member, via, subject, before, policy."""
        return self._view.table(
            "SELECT * FROM act_event WHERE commit_id > ? AND commit_id <= ? ORDER BY ALL", [after, self._view.commit]
        )

    def refuse_others(self, owner: str, by: Identity | None, what: str) -> None:
        """BadInput unless `by` is a member of `owner`, or the owner has no members: then anybody acts for it."""
        members = self.members().get(owner, ())
        if members and by not in members:
            raise BadInput(
                f"{what}: needs {owner} ({', '.join(map(str, members))}), and you are {by or 'nobody'}; ask them, or "
                "pass their --token"
            )


def definition_hash(task: Task) -> str:
    """The hash of a task's definition, by which an act is bound to it."""
    return hashlib.sha256(task.model_dump_json().encode()).hexdigest()[:32]
