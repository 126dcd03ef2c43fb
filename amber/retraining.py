"""Retraining: from what changed to the cheapest training that the gate accepts, one at a time in a workspace.

Every step is a file named by its content or a commit with a batch id, and `retraining.json` says how far it is. So a
retraining that was killed is simply run again: it finds the finished steps and comes to the same result.
"""

import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from amber.gate import GateDecision, decide_gate
from amber.loop import CONTINUED_RATE
from amber.queue import queue
from curation.catalog.catalog import Catalog
from curation.catalog.ownership import Identity
from curation.catalog.snapshot import Snapshot
from curation.errors import NotFound
from curation.files.locks import locked
from curation.files.progress import StageProgress
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan
from samplers.policy.policy import Policy
from training.dynamics.releases import champion
from training.dynamics.retraining import RUNGS, Attempt, Retraining, Rung, failing_tasks, first_rungs
from training.imported import is_imported
from training.judging.task_changes import gate_outcomes
from training.run import Run
from training.run_list import ancestors, list_runs

if TYPE_CHECKING:
    from training.judging.comparison import ComparedFigure
    from training.judging.gate_rules import GateRules

__all__ = ["Ladder", "Outcome", "TaskOutcome", "retrain"]

LEDGER = (
    "attribute_event", "forgotten", "label_event", "policy_event", "quarantine_event", "sample", "task_event",
)  # fmt: skip
"""What a retraining depends on; runs, requests and gates of its own do not make another one."""


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """How a workspace retrains: by which rules, for which `tasks` (default: all), and how far up.

    `rules`, which `where` names in errors, decide whether a run may replace `base` (default: the released run, or where
    nothing was released the newest that no gate held up). No rung above `up_to` is tried. With `trunk_every` days,
    everything is trained again where that was so long ago.
    """

    rules: "GateRules"
    where: str
    by: Identity
    author: str
    home: str
    base: str = ""
    tasks: tuple[str, ...] = ()
    up_to: Rung = "trunk"
    trunk_every: float = 0.0

    def settings(self, *, trunk_due: bool) -> dict[str, object]:
        """What the result depends on, beside the base and the catalog."""
        return {
            "rules": self.rules.sha256, "tasks": sorted(self.tasks), "up_to": self.up_to, "trunk_due": trunk_due,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TaskOutcome:
    """What a task and its owner got from a retraining.

    `trained` is the rung that trained it last ("": none did). `figure` compares base and candidate on everything (None
    where they do not both predict it); `verdict` is "gained", "paid", "equal to the bit", or as of the figure.
    """

    task: str
    owner: str
    trained: str
    why: str
    figure: "ComparedFigure | None"
    verdict: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A retraining that has ended, and what each task got.

    `earlier`: nothing changed since it ended, so nothing was done.
    """

    retraining: Retraining
    tasks: list[TaskOutcome]
    notes: list[str]
    earlier: bool = False


def retrain(catalog: Catalog, ladder: Ladder, *, progress: StageProgress | None = None) -> Outcome:
    """Train what the queue says, from the cheapest rung on, until the gate accepts it; go on where one was killed.

    The gate compares each candidate with the base. Tasks whose owner's figures it does not accept are left out, and
    the others tried again; what was left out goes up to the next rung. Busy while another retraining runs there.
    NotFound where there is no run to begin with; BadInput where owners must first sign a plan.
    """
    busy = f"{catalog.home}: {{}} retrains there; wait for it, or end it"
    with locked(catalog.home / "retrain.lock", busy.format):
        before = Retraining.newest(catalog.home)
        with catalog.read() as now:
            for name in ladder.tasks:
                now.task(name)
            ledger = _ledger(now)
            base, due = _start(catalog.home, now, ladder, before, ledger)
        going, notes = before, list[str]()
        if before is None or not before.follows(base.id, ladder.settings(trunk_due=due)):
            going = None
        elif before.outcome and before.ledger == ledger:
            return Outcome(retraining=before, tasks=_outcomes(catalog, before), notes=notes, earlier=True)
        if going is None or going.outcome:
            going, notes = _begin(catalog, ladder, base, ledger, due=due)
        climb = _Climb(catalog, ladder, base, progress or (lambda stage, done, total: None))
        done = climb.all(going).end().save(catalog.home)
        return Outcome(retraining=done, tasks=_outcomes(catalog, done), notes=notes)


def _start(
    home: Path, now: Snapshot, ladder: Ladder, before: Retraining | None, ledger: dict[str, int]
) -> tuple[Run, bool]:
    """The run to improve, and whether its trunk is due.

    Where that run is what the last retraining came to, not named and not released, and nothing has changed since, it is
    the run which that one began with: so whoever was killed before the outcome was seen is shown it.
    """
    base = _base(home, now, ladder.base, before)
    if before and base.id == before.candidate and before.ledger == ledger and not (ladder.base or champion(now)):
        first = Run.open(home, before.base)
        due = _trunk_due(home, now, first, ladder.trunk_every)
        if before.follows(first.id, ladder.settings(trunk_due=due)):
            return first, due
    return base, _trunk_due(home, now, base, ladder.trunk_every)


def _base(home: Path, now: Snapshot, name: str, before: Retraining | None) -> Run:
    """The run to improve: `name`, the released one, that of a killed retraining, or the newest that no gate held up."""
    found = name or champion(now) or (before.base if before and not before.outcome else "")
    if not found:
        held = {run for run, outcome in gate_outcomes(now).items() if outcome != "pass"}
        runs = [run for run in now.runs()["run"].to_pylist() if run not in held and not is_imported(home, run)]
        if not runs:
            raise NotFound(f"{home}: there is no run that no gate held up; train one, or name one to retrain")
        found = runs[-1]
    return Run.open(home, found)


def _ledger(now: Snapshot) -> dict[str, int]:
    """How much the catalog holds of what a retraining depends on."""
    counts = now.counts()
    return {name: counts[name] for name in LEDGER}


def _trunk_due(home: Path, now: Snapshot, base: Run, days: float) -> bool:
    """Whether the last training of everything, in the line of `base`, was `days` before the newest commit."""
    if not days:
        return False
    line = [Run.open(home, name) for name in ancestors(home, base.id)]
    whole = next((run.id for run in line if not run.recipe.only), line[-1].id)
    (made,) = [entry.at for entry in list_runs(home, now) if entry.run == whole]
    newest = max(now.log()["committed_at"].to_pylist())
    return bool((newest - made).total_seconds() >= 86_400 * days)


def _begin(
    catalog: Catalog, ladder: Ladder, base: Run, ledger: dict[str, int], *, due: bool
) -> tuple[Retraining, list[str]]:
    """A new retraining: what the queue says, measured once, and the notes on runs that cannot be read."""
    with catalog.read() as now:
        rows, notes = queue(catalog, now, tasks=ladder.tasks, run=base.id)
        planned = _policy(now, Plan.open(catalog.home, base.plan)).task
        why = {
            row.change.task: row.why if row.change.task in planned else "the policy does not train it" for row in rows
        }
        begun = Retraining(
            base=base.id, commit=now.commit, settings=ladder.settings(trunk_due=due), ledger=ledger, why=why,
            wanted=first_rungs([row for row in rows if row.change.task in planned], base.recipe, trunk_due=due),
        )  # fmt: skip
    return begun.save(catalog.home), notes


class _Climb:
    """The rungs of one retraining, in their order."""

    def __init__(self, catalog: Catalog, ladder: Ladder, base: Run, tell: StageProgress) -> None:
        self._catalog, self._ladder, self._base, self._tell = catalog, ladder, base, tell
        with catalog.read() as now:
            self._owners = {task.name: task.owner for task in now.tasks().values()}

    def all(self, going: Retraining) -> Retraining:
        """Try each rung; what the gate does not accept on one goes up to the next."""
        left: tuple[str, ...] = ()
        for rung in RUNGS[: RUNGS.index(self._ladder.up_to) + 1]:
            tasks = tuple(dict.fromkeys([*going.wanted[rung], *left]))
            if rung == "trunk" and self._base.recipe.solved:
                break
            going, left = self._rung(going, rung, tasks)
        return going

    def _rung(self, going: Retraining, rung: Rung, tasks: tuple[str, ...]) -> tuple[Retraining, tuple[str, ...]]:
        """Try a rung for these tasks, without the owners whose figures fail; and the tasks that were left out."""
        left: list[str] = []
        while tasks:
            going, attempt = self._attempt(going, rung, tasks)
            owners = {self._owners[name] for name in attempt.failing if name}
            out = [name for name in tasks if self._owners[name] in owners]
            if attempt.outcome == "pass" or not attempt.tasks or not out:
                return going, (*left, *(() if attempt.outcome == "pass" else tasks))
            left += out
            tasks = tuple(name for name in tasks if name not in out)
        return going, tuple(left)

    def _attempt(self, going: Retraining, rung: Rung, tasks: tuple[str, ...]) -> tuple[Retraining, Attempt]:
        """Train, evaluate and judge, or find that this was done."""
        whole = rung == "trunk" or (rung == "branch" and self._base.recipe.solved)
        only = () if whole else tasks
        if found := going.found(rung, only):
            return going, found
        began = time.monotonic()
        run = self._train(going, only)
        seconds = round(time.monotonic() - began, 2)
        decision = self._judge(run)
        attempt = Attempt(
            rung=rung, tasks=only, run=run.id, outcome=decision.result.outcome,
            failing=failing_tasks(decision.result.figures, decision.result.team), seconds=seconds,
        )  # fmt: skip
        return going.with_attempt(attempt).save(self._catalog.home), attempt

    def _train(self, going: Retraining, only: tuple[str, ...]) -> Run:
        """A run on a plan of the labels of the retraining, from the candidate so far."""
        from samplers.pack.pack_writer import make_pack
        from training.evaluation.evaluation import evaluate
        from training.evaluation.features import embed
        from training.loop.trainer import train

        catalog, base = self._catalog, self._base
        pack = make_pack(catalog, progress=partial(self._tell, "pack"))
        plan = _plan(catalog, base, pack, going.commit, self._ladder.by, own=bool(only))
        recipe = replace(base.recipe, only=only)
        if recipe.embeddings:
            embed(catalog.home, pack, recipe, progress=partial(self._tell, "embed"))
        elif not only:
            first = Run.open(catalog.home, ancestors(catalog.home, base.id)[-1])
            recipe = replace(recipe, learning_rate=first.recipe.learning_rate * CONTINUED_RATE)
        parent = going.candidate or base.id
        run = train(
            recipe, plan, catalog, parent=parent, progress=lambda done, total, loss: self._tell("train", done, total)
        )
        evaluate(run, catalog, author=self._ladder.author, progress=partial(self._tell, "evaluate"))
        return run

    def _judge(self, run: Run) -> GateDecision:
        ladder = self._ladder
        return decide_gate(
            self._catalog, (self._base.id, run.id), ladder.rules, where=ladder.where, by=ladder.by,
            author=ladder.author, home=ladder.home,
        )  # fmt: skip


def _plan(catalog: Catalog, base: Run, pack: Pack, commit: int, by: Identity, *, own: bool) -> Plan:
    """A plan of the policy in force, or that of the base's plan, with the labels of a commit.

    With `own`, it is for heads that take nothing from others, and needs no sign-off.
    """
    from samplers.plan.build import draft_plan
    from samplers.plan.sign_off import save_signed

    before = Plan.open(catalog.home, base.plan)
    with catalog.read(commit) as then:
        policy = _policy(then, before)
    draft = draft_plan(catalog, policy, pack, draws=len(before.draws), seed=before.seed, commit=commit)
    if own:
        return draft.save(by=by.name, derived=True)
    return save_signed(catalog, draft, Plan.newest_or_none(catalog.home), policy, by=by)


def _policy(then: Snapshot, before: Plan) -> Policy:
    """The policy in force, or without one that of the base's plan."""
    stored = then.ownership.policy()
    return Policy.model_validate_json(stored) if stored else Policy.model_validate(before.header["policy"])


def _outcomes(catalog: Catalog, done: Retraining) -> list[TaskOutcome]:
    """What each task got: the candidate, or the last run that was judged, beside the base."""
    from training.judging.comparison import compare_slices, measures_of
    from training.judging.paired_runs import PairedRuns

    judged = done.candidate or (done.attempts[-1].run if done.attempts else "")
    figures: dict[str, ComparedFigure] = {}
    alike: frozenset[str] = frozenset()
    with catalog.read() as now:
        tasks = list(now.tasks().values())
        if judged:
            runs = PairedRuns.load(now, catalog.home, done.base, judged)
            figures = {each.task: each for each in compare_slices(runs, measures_of(runs), [""])}
            alike = runs.alike
    trained = {
        name: attempt.rung
        for attempt in done.attempts if attempt.outcome == "pass" or not done.candidate
        for name in attempt.tasks or figures
    }  # fmt: skip
    return [
        TaskOutcome(
            task=task.name, owner=task.owner, trained=trained.get(task.name, ""), why=done.why.get(task.name, ""),
            figure=figures.get(task.name), verdict=_verdict(figures.get(task.name), alike=task.name in alike),
        )
        for task in tasks
    ]  # fmt: skip


def _verdict(figure: "ComparedFigure | None", *, alike: bool) -> str:
    if figure is None:
        return "-"
    if alike:
        return "equal to the bit"
    return {"better": "gained", "worse": "paid"}.get(figure.verdict, figure.verdict)
