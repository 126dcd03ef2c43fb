"""The plans of a workspace, without their tables: when each was made, by whom, and by which policy."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from curation.catalog.snapshot import Snapshot
from curation.files.read_back import read_json
from curation.rows import tabled
from samplers.plan.plan import AGAIN, MADE
from samplers.plan.sign_off import is_even
from samplers.policy.policy import Policy

__all__ = ["PlanEntry", "list_plans", "policy_name", "written_at"]


@dataclass(frozen=True, kw_only=True)
class PlanEntry:
    """A plan: its hash, when it was made (or made again; UTC, to the second), by whom ("" for not recorded), and what
    it was made of.

    `policy` is "even" for equal shares, or the first digits of the policy's hash. `parent` is "" for a plan without
    one. `withdrawn` is the time at which one of its images was forgotten, or "". A training made a `derived` plan from
    its own.
    """

    plan: str
    at: datetime
    by: str
    policy: str
    commit: int
    draws: int
    tasks: tuple[str, ...]
    parent: str
    withdrawn: str
    derived: bool = False


@tabled(PlanEntry)
def list_plans(home: Path, now: Snapshot) -> list[PlanEntry]:
    """The plans of `home`, the newest first.

    >>> with catalog.read() as now:
    ...     (entry,) = list_plans(catalog.home, now)
    >>> entry.plan == plan.hash, entry.draws, entry.tasks
    (True, 100, ('color',))
    """
    made = sorted((written_at(path), path) for path in (home / "plans").glob("*/plan.json"))
    return [_entry(path, at, now) for at, path in reversed(made)]


def policy_name(header: Mapping[str, Any], now: Snapshot) -> str:
    """The policy of a plan with this header: "even", or the first 12 digits by which sign-offs and acts name it."""
    if is_even(header):
        return "even"
    stored = now.ownership.policy()
    policies = [Policy.model_validate_json(stored)] if stored else []
    policies.append(Policy.model_validate(header["policy"]))
    return next(part.sha256[:12] for part in policies if part.sampling_rules() == header["policy"])


def written_at(path: Path) -> datetime:
    """When a file was last written, in UTC."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(tzinfo=None)


def _entry(path: Path, at: datetime, now: Snapshot) -> PlanEntry:
    header: dict[str, Any] = read_json(path, AGAIN, dict)
    withdrawn = path.with_name("withdrawn.json")
    made: dict[str, Any] = read_json(path.with_name(MADE), AGAIN, dict) if path.with_name(MADE).is_file() else {}
    return PlanEntry(
        plan=path.parent.name, at=at.replace(microsecond=0),
        by=str(made.get("by", "")), derived=bool(made.get("derived")),
        policy=policy_name(header, now), commit=header["commit"], draws=header["draws"],
        tasks=tuple(part["task"]["name"] for part in header["tasks"]),
        parent=(header["parent"] or {"plan": ""})["plan"],
        withdrawn=read_json(withdrawn, AGAIN, lambda note: str(note["at"])) if withdrawn.is_file() else "",
    )  # fmt: skip
