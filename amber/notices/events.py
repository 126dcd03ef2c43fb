"""What happened after a commit, as notices: a function of the catalog and the files of a workspace alone."""

from collections.abc import Collection, Sequence
from pathlib import Path

from amber.notices.losses import losses
from amber.notices.notice import KINDS, Notice, Team
from amber.notices.regressions import regressions
from curation.catalog.snapshot import Snapshot
from curation.labelstudio.item_cache import items_left
from curation.requests.candidates import Candidates
from samplers.plan.waiting import Waiting, waiting_sign_offs
from training.judging.gate_decisions import TEAM, RecordedDecision, gate_decisions

__all__ = ["notices_since"]


def notices_since(
    now: Snapshot, home: Path, since: int, *, kinds: Collection[str] = KINDS
) -> tuple[list[Notice], list[str]]:
    """The notices of `kinds` about what happened after the commit `since`, oldest first; and what could not be judged.

    Sign-offs are listed while they wait, and empty queues while they are empty, so what has been settled since is not
    among them. The same workspace gives the same notices.

    >>> with catalog.read() as now:
    ...     notices_since(now, catalog.home, now.commit)
    ([], [])
    """
    team, found, notes = Team.of(now), list[Notice](), list[str]()
    if "regressed" in kinds:
        found, notes = regressions(now, home, team, since)
    if "share" in kinds:
        found += losses(now, home, team, since)
    if "blocked" in kinds:
        found += _blocked(now, team, since)
    if "waiting" in kinds:
        waits = [row for row in waiting_sign_offs(home, now) if since < row.commit <= now.commit]
        found += [_waiting(row, owner, team) for row in waits for owner in row.losses]
    if "dry" in kinds:
        found += _dry(now, home, team, since)
    return sorted(found, key=lambda notice: (notice.commit, KINDS.index(notice.kind), notice.subject)), notes


def _blocked(now: Snapshot, team: Team, since: int) -> list[Notice]:
    decisions = [each for each in gate_decisions(now, since) if each.outcome == "block"]
    commits = now.log.of(each.commit for each in decisions)
    return [
        Notice(
            kind="blocked", subject=_blocked_line(each), text=_blocked_text(each), link=f"runs/{each.run}",
            command=f"amber compare {each.before} {each.run}" if each.before else f"amber evaluate {each.run}",
            commit=each.commit, at=commits[each.commit]["committed_at"],
            **team.concerned([task for task in each.blocking if task in team.owner_of]),
        )
        for each in decisions
    ]  # fmt: skip


def _blocked_line(each: RecordedDecision) -> str:
    return f"the gate blocks run {each.run}" + (f" in place of run {each.before}" if each.before else "")


def _blocked_text(each: RecordedDecision) -> str:
    names = ["the team's figure" if name == TEAM else name for name in each.blocking]
    below = "drop by more than is allowed" if each.before else "do not reach their floors"
    what = f"{', '.join(names)}: {below}; " if names else ""
    return f"{what}the gate was run by {each.by}"


def _waiting(row: Waiting, owner: str, team: Team) -> Notice:
    """A notice for one owner whose sign-off is missing."""
    what = f"the release of run {row.subject}" if row.what == "release" else f"plan {row.subject[:12]}"
    tasks = [text.partition(":")[0] for text in row.losses[owner]]
    again = "amber release" if row.what == "release" else f"amber plan replan --commit {row.labels}"
    if row.what == "plan":
        again = f"amber plan --commit {row.labels}"
    return Notice(
        kind="waiting", subject=f"{what} waits for the sign-off of {owner}",
        text="\n".join([*row.losses[owner], f"proposed by {row.by} in place of {row.before[:16] or 'nothing'}"]),
        link=f"sign-offs/{row.name}", command=f"{again} --sign {owner} (with the other arguments of {row.by})",
        commit=row.commit, at=row.at, **team.concerned([task for task in tasks if task in team.owner_of], [owner]),
    )  # fmt: skip


def _dry(now: Snapshot, home: Path, team: Team, since: int) -> list[Notice]:
    """A notice for each task whose last open request was closed, or whose last item was answered, after `since`."""
    left, found, counts = items_left(home), dict[str, tuple[int, int]](), dict[str, list[tuple[int, int]]]()
    for row in now.requests.open_counts().to_pylist():
        counts.setdefault(row["task"], []).append((row["commit_id"], row["open"]))
    for task, rows in counts.items():
        commit = _emptied(rows, waits_for_items=left.get(task) == 0)
        if commit > since:
            found[task] = commit, rows[-1][1]
    unasked = _unasked(now, home, [task for task, (_, open_) in found.items() if not open_])
    commits = now.log.of(commit for commit, _ in found.values())
    return [
        Notice(
            kind="dry", subject=f"nobody is asked for labels of {task}", link=f"tasks/{task}",
            text=f"{open_:,} requests are open, and no item in Label Studio asks for any of them" if open_
            else f"{unasked[task]:,} training images have neither a label nor a request",
            command="amber label push" if open_ else "amber request --budget N",
            commit=commit, at=commits[commit]["committed_at"], **team.concerned([task]),
        )
        for task, (commit, open_) in found.items() if open_ or unasked[task]
    ]  # fmt: skip


def _unasked(now: Snapshot, home: Path, tasks: list[str]) -> dict[str, int]:
    """On how many images labels of each of some tasks may be requested."""
    candidates = Candidates(now, home, named=tasks) if tasks else None
    return {task: int(candidates.open[task].sum()) for task in tasks} if candidates else {}


def _emptied(rows: Sequence[tuple[int, int]], *, waits_for_items: bool) -> int:
    """The commit since which nobody is asked, by how many requests were open after each commit; 0 while somebody is.

    Where open requests wait for items, it is the commit by which their number last fell.
    """
    counts = [0, *(open_ for _, open_ in rows)]
    if counts[-1] and not waits_for_items:
        return 0
    falls = [place for place in range(1, len(counts)) if counts[place] < counts[place - 1]]
    return rows[falls[-1] - 1][0] if falls else 0
