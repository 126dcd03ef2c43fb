"""What waits for the sign-off of owners: plans and releases that were refused, one file each in `waiting/`.

A person who proposes again in place of the same plan, or of the same run, replaces the earlier proposal: trying
policies out leaves one.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from curation.catalog.ownership import Identity
from curation.catalog.snapshot import Snapshot
from curation.files.atomic import whole
from curation.files.read_back import read_json
from samplers.plan.plan import Plan

__all__ = ["WAITING", "Waiting", "ask_sign_offs", "waiting_sign_offs"]

What = Literal["plan", "replan", "release"]

WAITING: Final = "waiting"
"""The folder in a workspace."""


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A plan, the child of a plan (`replan`), or the release of a run, that waits for owners.

    `subject`, `before` and `policy` are what a sign-off names: the hashes of the plan, of the plan that it is compared
    with, and of the policy; of a release both runs and the hash of the gate's rules. `losses` says for each owner
    whose sign-off was missing what it takes, `by` who proposed it. `labels` is the commit whose labels a plan uses (0
    for a release), `commit` the newest one when it was refused, at the time `at` (UTC).
    """

    what: What
    subject: str
    before: str
    policy: str
    losses: Mapping[str, tuple[str, ...]]
    by: str
    labels: int
    commit: int
    at: datetime

    @property
    def name(self) -> str:
        """The name of its file: one for each proposer and what would be replaced."""
        return hashlib.sha256(" ".join((self.what, self.by, self.before)).encode()).hexdigest()[:16]

    @property
    def hashes(self) -> tuple[str, str, str]:
        """What a sign-off names: subject, before and policy."""
        return self.subject, self.before, self.policy


def ask_sign_offs(
    home: Path, now: Snapshot, what: What, hashes: tuple[str, str, str],
    losses: Mapping[str, Sequence[str]], *, by: Identity, labels: int = 0,
) -> None:  # fmt: skip
    """Record that a plan or a release waits for the owners in `losses`; `hashes` are its subject, before and policy.

    The same proposal again keeps its time and its commit.
    """
    subject, before, policy = hashes
    asked = Waiting(
        what=what, subject=subject, before=before, policy=policy, by=str(by), labels=labels, commit=now.commit,
        losses={owner: tuple(texts) for owner, texts in losses.items()}, at=datetime.now(UTC).replace(tzinfo=None),
    )  # fmt: skip
    path = home / WAITING / f"{asked.name}.json"
    if path.is_file() and (found := _read(path)).hashes == hashes and losses.keys() <= found.losses.keys():
        return
    with whole(path) as part:
        part.write_text(json.dumps({**asdict(asked), "at": asked.at.isoformat()}, indent=1), encoding="utf-8")


def waiting_sign_offs(home: Path, now: Snapshot) -> list[Waiting]:
    """What waits for the sign-off of an owner, oldest first, with the `losses` of those alone who have not signed.

    A plan waits for nobody once it was made, or another plan than the one that it was compared with is the newest (but
    for a child, which is compared with its parent); a release, once any run was released.
    """
    found = [_read(path) for path in (home / WAITING).glob("*.json")]
    open_ = [_unsigned(row, now) for row in found if not _is_done(row, home, now)]
    return sorted((row for row in open_ if row.losses), key=lambda row: (row.at, row.name))


def _unsigned(row: Waiting, now: Snapshot) -> Waiting:
    signed = now.ownership.signed(*row.hashes)
    return replace(row, losses={owner: texts for owner, texts in row.losses.items() if owner not in signed})


def _is_done(row: Waiting, home: Path, now: Snapshot) -> bool:
    if row.what == "release":
        acts = now.ownership.acts(row.commit)["act"].to_pylist()
        return "release" in acts or "release_back" in acts
    if (home / "plans" / row.subject / "plan.json").is_file():
        return True
    newest = Plan.newest_or_none(home)
    return row.what == "plan" and newest is not None and newest.hash != row.before


def _read(path: Path) -> Waiting:
    return read_json(path, "remove it, and propose again", _of)


def _of(data: dict[str, Any]) -> Waiting:
    losses = {owner: tuple(texts) for owner, texts in data["losses"].items()}
    return Waiting(**{**data, "losses": losses, "at": datetime.fromisoformat(data["at"])})
