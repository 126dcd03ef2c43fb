"""Notices of tasks that get less from a plan than from the plan before."""

from datetime import UTC, datetime
from pathlib import Path

from amber.notices.notice import Notice, Team
from curation.catalog.snapshot import Snapshot
from samplers.plan.plan import Plan
from samplers.plan.plan_list import PlanEntry, list_plans
from samplers.plan.sign_off import changes, tolerance_in_force

__all__ = ["losses"]


def losses(now: Snapshot, home: Path, team: Team, since: int) -> list[Notice]:
    """A notice for each task whose share, importance or effective sample size falls by a plan made after `since`.

    These are the losses beyond the tolerance that sign-offs look for, whoever made the plan. A plan is compared with
    its parent, or else with the plan made before it. Plans that a training derived from its own, and withdrawn ones,
    are left out. The commit of a plan is the newest one when it was made, and at least that of its labels.
    """
    plans = [entry for entry in list_plans(home, now) if not entry.derived and not entry.withdrawn]
    made = sorted(((_made(home, entry.plan), entry) for entry in plans), key=lambda pair: (pair[0], pair[1].plan))
    known = {entry.plan for entry in plans}
    times = [(row["committed_at"], row["id"]) for row in now.log().to_pylist()]
    found: list[Notice] = []
    for place, (at, entry) in enumerate(made):
        before = entry.parent if entry.parent in known else made[place - 1][1].plan if place else ""
        commit = max([entry.commit, *(commit for time, commit in times if time <= at)])
        if before and since < commit <= now.commit:
            found += _of_plan(now, home, entry, before, team, (commit, at))
    return found


def _made(home: Path, plan: str) -> datetime:
    """When a plan was made, or made again (UTC): `PlanEntry.at` has whole seconds, in which several commits may lie."""
    written = (home / "plans" / plan / "plan.json").stat().st_mtime
    return datetime.fromtimestamp(written, UTC).replace(tzinfo=None)


def _of_plan(
    now: Snapshot, home: Path, entry: PlanEntry, before: str, team: Team, moment: tuple[int, datetime]
) -> list[Notice]:
    rows = changes(Plan.open(home, entry.plan), Plan.open(home, before), tolerance=tolerance_in_force(now))
    by = entry.by or "unknown"
    return [
        Notice(
            kind="share", subject=f"{row.task} gets less from plan {entry.plan[:12]} than from {before[:12]}",
            text=f"{', '.join(row.lowered)}; the plan was made by {by}", link=f"plans/{entry.plan}",
            command=f"amber plan show {entry.plan[:12]} --against {before[:12]}", commit=moment[0], at=moment[1],
            **team.concerned([row.task], () if row.task in team.owner_of else [row.owner]),
        )
        for row in rows if row.lowered
    ]  # fmt: skip
