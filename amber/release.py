"""Releasing a run: only what a gate passes, with its report, lineage, model card and export; and going back."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

from amber.gate import GateDecision, decide_gate
from amber.verification import check_run_files
from curation.catalog.catalog import Catalog
from curation.catalog.ownership import Identity
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput, NotFound
from curation.files.locks import in_use, locked
from curation.files.progress import Progress
from samplers.plan.plan import Plan
from samplers.plan.waiting import ask_sign_offs, waiting_sign_offs
from training.dynamics.flattened_mark import FlattenedMark
from training.dynamics.lineage import Lineage, lineage_of
from training.dynamics.releases import (
    BACK,
    EXPORT,
    LETTERS,
    LOCK,
    RECORD,
    RELEASE,
    ReleaseRecord,
    champion,
    files_of,
    folder_of,
    record_act,
    releases,
    stack_of,
    verify_release,
    write_pointer,
)
from training.judging.gate_rules import EVERYTHING, GateRules
from training.run import Run

__all__ = ["Released", "Returned", "go_back", "release", "sign_release", "sign_waiting_release"]

STEPS: Final = 4
NOT_FLATTENED: Final = (
    "nobody looked whether one training from scratch on its last plan does as well (`amber replay --flat`)"
)


@dataclass(frozen=True, kw_only=True)
class Released:
    """What became of a release: the gate's decision (None where the run was deployed already), and the pointer.

    `pointer` is None where the gate did not pass: then nothing was released.
    """

    decision: GateDecision | None
    pointer: dict[str, Any] | None
    folder: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Returned:
    """A return to an earlier release: the pointer, the run that was deployed, and the runs that were passed over."""

    pointer: dict[str, Any]
    before: str
    skipped: tuple[str, ...] = ()


def release(
    catalog: Catalog, run: str, rules: Path | GateRules, *, by: Identity, author: str, against: str = "",
    notes: str = "", home: str = "", progress: Progress | None = None,
) -> Released:  # fmt: skip
    """Deploy a run, where the gate with `rules`, or those of a file, passes it against the run that is deployed.

    The first release is judged against the run `against`, or without one by the floors of the rules. Everything that
    the release consists of is in its folder before the act is recorded; the pointer is written last, and again by the
    next call where this one was killed. `home` is the workspace in commands.

    BadInput for a run with a link that was withdrawn or is missing, and where a task is not judged on everything and
    its owner has not signed (`sign_release`); Damaged where a file of the run is not what was written; Busy while
    another process releases. Raises what `decide_gate` and `export_model` raise.
    """
    rules, where = _loaded(rules)
    tell = progress or (lambda done, total: None)
    with _alone(catalog), in_use(catalog.home):
        found, lineage, base = _candidate(catalog, run, against)
        if base == found.id:
            with catalog.read() as now:
                return Released(decision=None, pointer=write_pointer(catalog.home, now))
        check_run_files(catalog.home, found.id)
        with catalog.read() as now:
            unjudged = _unjudged(now, catalog.home, found, base, rules)
            accepted = _accepted(now, catalog.home, (found.id, base), rules, unjudged, by)
        decision = decide_gate(catalog, (base, found.id), rules, where=where, by=by, author=author, home=home)
        tell(1, STEPS)
        if decision.result.outcome != "pass":
            return Released(decision=decision, pointer=None)
        record = _prepared(catalog, found, lineage, decision, accepted, unjudged, notes, tell)
        with catalog.commit(author=author, message=f"release run {found.id}") as change:
            record_act(change, RELEASE, run=found.id, before=record.before, digest=record.digest, by=by)
        with catalog.read() as now:
            pointer = write_pointer(catalog.home, now)
    return Released(decision=decision, pointer=pointer, folder=folder_of(catalog.home, record.digest))


def go_back(catalog: Catalog, *, by: Identity, author: str) -> Returned:
    """Deploy the release before the deployed one again, after a check of every file of it.

    Releases of runs that were withdrawn since are passed over. BadInput where there is none to go back to; Damaged
    where a file of it is not what was written: then nothing changes.
    """
    with _alone(catalog):
        with catalog.read() as now:
            stack = stack_of(releases(now))
            if not stack:
                raise BadInput("release --back: nothing was released yet; release a run first")
            gone = [each for each in stack[:-1] if _is_withdrawn(catalog.home, each.run)]
            left = [each for each in stack[:-1] if each not in gone]
        if not left:
            why = f"; {len(gone)} before it are withdrawn" if gone else ""
            raise BadInput(f"release --back: {stack[-1].run} is the only release{why}; release another run")
        target = left[-1]
        verify_release(catalog.home, target.digest)
        with catalog.commit(author=author, message=f"release run {target.run} again") as change:
            record_act(change, BACK, run=target.run, before=stack[-1].run, digest=target.digest, by=by)
        with catalog.read() as now:
            pointer = write_pointer(catalog.home, now)
    assert pointer is not None
    skipped = tuple(each.run for each in gone if each.commit > target.commit)
    return Returned(pointer=pointer, before=stack[-1].run, skipped=skipped)


def sign_release(
    catalog: Catalog, run: str, rules: Path | GateRules, owner: str, *, by: Identity, against: str = ""
) -> tuple[str, str]:
    """Record that `owner` accepts the release of a run although its rules leave a task of that owner out.

    The sign-off is bound to the run, to the run that it replaces, and to the rules. Returns the ids of both runs.
    BadInput for an owner of no task, and for who is no member of it.
    """
    rules, _ = _loaded(rules)
    found, _, base = _candidate(catalog, run, against)
    with catalog.commit(author=by.name, message=f"sign off the release of {found.id} for {owner}") as change:
        owners = {task.owner for task in change.now.tasks().values()}
        if owner not in owners:
            raise BadInput(f"--sign {owner}: owns no task; owners are {', '.join(sorted(owners))}")
        change.sign_off(owner, plan=found.id, before=base, policy=rules.sha256, by=by)
    return found.id, base


def sign_waiting_release(
    catalog: Catalog, hashes: tuple[str, str, str], owner: str, *, by: Identity, batch: str | None = None
) -> None:
    """Record that `owner` accepts a release that was refused and waits for it, as `sign_release` does, by its run, the
    run that it replaces ("" for none) and the hash of its rules. The same `batch` again changes nothing.

    NotFound where no such release waits for the owner; BadInput for who is no member of it.
    """
    run, before, rules = hashes
    message = f"sign off the release of {run} for {owner}"
    with catalog.commit(author=by.name, message=message, batch=batch) as change:
        waiting = [row for row in waiting_sign_offs(catalog.home, change.now) if row.what == "release"]
        named = [row for row in waiting if (row.subject, row.before, row.policy) == hashes and owner in row.losses]
        if not named and not change.repeated:
            raise NotFound(f"release of {run}: does not wait for {owner} by these rules; look at what waits again")
        change.sign_off(owner, plan=run, before=before, policy=rules, by=by)


def _loaded(rules: Path | GateRules) -> tuple[GateRules, str]:
    """The rules, and how errors name them."""
    return (rules, "rules") if isinstance(rules, GateRules) else (GateRules.load(rules), str(rules))


@contextmanager
def _alone(catalog: Catalog) -> Iterator[None]:
    """Hold the lock of releases, and remove the folders that a killed release has left without an act."""
    home = catalog.home
    busy = f"{home}: {{}} releases a run there; wait for it, or end it"
    with locked(home / LOCK, busy.format):
        with catalog.read() as now:
            kept = {folder_of(home, each.digest) for each in releases(now)}
        for path in (home / "releases").glob("*/"):
            if path not in kept:
                shutil.rmtree(path, ignore_errors=True)
        yield


def _candidate(catalog: Catalog, run: str, against: str) -> tuple[Run, Lineage, str]:
    """The run to release, its lineage, and the run that it is judged against ("" for none)."""
    found = Run.open(catalog.home, run)
    with catalog.read() as now:
        if found.id not in now.runs()["run"].to_pylist():
            raise NotFound(f"run {found.id}: was not evaluated, so no gate can judge it; evaluate it first")
        lineage = lineage_of(catalog.home, now, found.id)
        deployed = champion(now)
        named = now.runs.full_id(against) if against else ""
    lineage.refuse_broken()
    if deployed and named and named != deployed:
        raise BadInput(
            f"--against {against}: run {deployed} is deployed, and a release is judged against it; leave it out"
        )
    if named == found.id:
        raise BadInput(f"--against {against}: is the run itself; name another run, or declare floors")
    return found, lineage, deployed or named


def _unjudged(now: Snapshot, home: Path, run: Run, base: str, rules: GateRules) -> dict[str, str]:
    """The tasks of either run that the rules do not judge on everything, each with its owner."""
    judged = {part.task for part in rules.judge if EVERYTHING in part.slices}
    names = [task.name for task in Plan.open(home, run.plan).tasks]
    if base:
        names += {row["task"] for row in now.runs.slice_errors(base).to_pylist()} - set(names)
    tasks = now.tasks()
    return {name: tasks[name].owner for name in names if name in tasks and name not in judged}


def _accepted(
    now: Snapshot, home: Path, runs: tuple[str, str], rules: GateRules, unjudged: Mapping[str, str], by: Identity
) -> tuple[str, ...]:
    """The owners of unjudged tasks, all of whom signed; BadInput naming those who did not, for whom it then waits."""
    run, base = runs
    members = now.ownership.members()
    signed = now.ownership.signed(run, base, rules.sha256) | {owner for owner, each in members.items() if by in each}
    owners = tuple(dict.fromkeys(unjudged.values()))
    if missing := [owner for owner in owners if owner not in signed]:
        losses = {
            owner: [f"{task}: the gate does not judge it" for task, each in unjudged.items() if each == owner]
            for owner in missing
        }
        ask_sign_offs(home, now, "release", (run, base, rules.sha256), losses, by=by)
        tasks = ", ".join(f"{task} ({owner})" for task, owner in unjudged.items() if owner in missing)
        raise BadInput(
            f"release of {run}: the gate does not judge {tasks} on {EVERYTHING}; add it to the rules, or have its "
            f"owner sign with the same `amber release` and --sign {missing[0]}"
        )
    return owners


def _prepared(
    catalog: Catalog, run: Run, lineage: Lineage, decision: GateDecision, accepted: Sequence[str],
    unjudged: Mapping[str, str], notes: str, tell: Progress,
) -> ReleaseRecord:  # fmt: skip
    """Write the folder of a release, whole, and return its record."""
    from training.deployment.export import export_model
    from training.dynamics.lineage_page import write_lineage
    from training.dynamics.model_card import card_view, write_card
    from training.judging.gate_report import write_gate_report

    home, view = catalog.home, decision.view
    (home / "releases").mkdir(exist_ok=True)
    part = Path(mkdtemp(prefix="new.", suffix=".part", dir=home / "releases"))
    try:
        write_gate_report({**view, "next": []}, decision.result, part / "gate.md")
        (part / "lineage.json").write_text(json.dumps(asdict(lineage), indent=1))
        write_lineage(lineage, part / "lineage.html")
        mark = FlattenedMark.of(home, run.id)
        with catalog.read() as now:
            number = sum(not each.is_back for each in releases(now)) + 1
            before = champion(now)
            card = card_view(
                now, home, run, lineage, view, number=number, notes=notes, unjudged=list(unjudged),
                marks=[mark.text] if mark else [NOT_FLATTENED],
            )  # fmt: skip
        write_card(card, part)
        tell(2, STEPS)
        export_model(run, catalog, part / EXPORT)
        tell(3, STEPS)
        record = ReleaseRecord(
            number=number, run=run.id, plan=run.plan, commit=run.commit, before=before, against=view["against"],
            rules_sha256=view["rules_sha256"], accepted=tuple(accepted), files=files_of(part),
            evaluation_set=view["evaluation_set"]["digest"],
        )  # fmt: skip
        (part / RECORD).write_text(record.text)
        part.chmod(0o755)
        part.rename(home / "releases" / record.digest[:LETTERS])
    finally:
        shutil.rmtree(part, ignore_errors=True)
    tell(STEPS, STEPS)
    return record


def _is_withdrawn(home: Path, run: str) -> bool:
    return (home / "runs" / run / "withdrawn.json").is_file()
