"""A search of importances, or of rates and decays: trials by short runs, and a verdict on fresh seeds and groups."""

import hashlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np

from curation.arrays import Floats
from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from curation.files.atomic import whole
from curation.files.progress import StageProgress
from samplers.plan.plan import Plan
from training.dynamics.search_space import Space
from training.dynamics.short_runs import ShortRuns, mean_score
from training.dynamics.study import Asked, Study, TrialRow, opened_study
from training.evaluation.paired import Estimate, estimate
from training.recipe import Recipe

__all__ = [
    "RecipeSearch", "TaskGain", "Trials", "Verdict", "run_trials", "search_recipe", "trial_losses", "trials_within",
]  # fmt: skip

PART = 1 / 8
"""The part of the plan's draws of a trial's trainings."""

PAIRED = 2
"""Seeds of a trial: the same for all trials."""

FRESH = 5
"""Seeds of the verdict, which no trial had."""


@dataclass(frozen=True, kw_only=True)
class Trials:
    """How the trials of a search are trained: each on a `part` of the draws, with `seeds` seeds from `seed` on.

    The verdict has the `fresh` seeds after these. `sampler` chooses the points, and `processes` trials run at a time.
    """

    part: float = PART
    seeds: int = PAIRED
    fresh: int = FRESH
    seed: int = 0
    sampler: str = "gp"
    processes: int = 1


@dataclass(frozen=True, kw_only=True)
class TaskGain:
    """What the winner gains of one task on the whole plan, with its 95% interval over fresh seeds and groups."""

    task: str
    gain: Estimate


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The winner beside what stands, by seeds and groups that chose nothing; all figures are differences of scores.

    `searched` is the winner's gain in the search, `fresh` that of the same short trainings on fresh seeds and the other
    half of the groups, and `shrinkage` the first minus the second: the winner's curse. `whole` is the gain on the whole
    plan, `plain` that of the plain choice there, and `over_plain` the winner minus the plain choice; None where that is
    what stands, or what won. `low` of these three is a one-sided bound: 95% of the one test, or of the two together.
    """

    searched: float
    fresh: float
    shrinkage: float
    whole: Estimate
    plain: Estimate | None
    over_plain: Estimate | None
    tasks: tuple[TaskGain, ...]


@dataclass(frozen=True, kw_only=True)
class RecipeSearch:
    """The trials of a search, and the winner with its verdict; None where what stands has the best score.

    The score is the mean over tasks of 1 - loss / the best constant's.
    """

    plan: str
    study: str
    trials: list[TrialRow]
    winner: TrialRow | None
    verdict: Verdict | None

    @property
    def recommended(self) -> TrialRow | None:
        """The trial to use: the winner, where it is better than what stands and than the plain choice; the plain choice
        where that is better than what stands. A tie takes the simpler one, so None leaves what stands.
        """
        verdict = self.verdict
        if verdict is None:
            return None
        if _above(verdict.whole) and (verdict.over_plain is None or _above(verdict.over_plain)):
            return self.winner
        return self.trials[1] if verdict.plain is not None and _above(verdict.plain) else None


def trials_within(budget: float, trials: Trials) -> int:
    """How many trials a budget pays, in trainings of the whole plan. BadInput where it pays none."""
    cost = trials.part * trials.seeds
    count = int(budget / cost + 1e-9)
    if count < 1:
        raise BadInput(
            f"budget {budget:g}: a trial costs {trials.seeds} trainings on {trials.part:g} of the draws, {cost:g} "
            "trainings of the plan; raise the budget, or lower --part"
        )
    return count


def search_recipe(
    catalog: Catalog, plan: Plan, recipe: Recipe, space: Space, *, budget: int, study: str, how: Trials,
    progress: StageProgress | None = None,
) -> RecipeSearch:  # fmt: skip
    """Run `budget` trials of the study (those that it has count), and judge the best of them.

    The same search again goes on where it was killed. BadInput for a study of another plan or search, and for a plan
    without a whole batch in a trial's part.
    """
    tell = progress or (lambda stage, done, total: None)
    runs = ShortRuns(catalog, plan)
    runs.steps(recipe, how.part)
    with opened_study(
        catalog.home, study, _about(plan, recipe, space, how), space, sampler=how.sampler, seed=how.seed
    ) as opened:
        run_trials(opened, runs, recipe, space, budget, how, tell)
        trials = opened.trials()
        standing, best = trials[0], max(trials, key=lambda row: (_score(row), -row.number))
        won = best if best.number and _score(best) > _score(standing) else None
        verdict = None
        if won:
            fresh = _Fresh(runs, recipe, space, how, catalog.home / "studies" / study / "fresh", tell)
            verdict = fresh.verdict(standing, won)
    return RecipeSearch(plan=plan.hash, study=study, trials=trials, winner=won, verdict=verdict)


def run_trials(
    study: Study,
    runs: ShortRuns,
    recipe: Recipe,
    space: Space,
    budget: int,
    how: Trials,
    progress: StageProgress | None = None,
) -> None:
    """Ask, train and tell until there are `budget` trials; only this process writes the study.

    `progress` is called with the trials that ended and all.
    """
    done = sum(row.score is not None for row in study.trials())
    tell = progress or (lambda stage, done, total: None)
    with _workers(runs, recipe, space, how) as submit:
        running: dict[Future[float], int] = {}
        while True:
            while len(running) < how.processes and (asked := study.ask(budget)):
                running[submit(asked)] = asked.number
            if not running:
                return
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in sorted(ended, key=lambda each: running[each]):
                study.tell(running.pop(future), future.result())
                done += 1
                tell("search", done, budget)


def trial_losses(
    runs: ShortRuns, recipe: Recipe, space: Space, point: Mapping[str, float], seed: int, part: float
) -> Floats:
    """The validation losses of one training at a point, on a part of the draws, as `ShortRuns.train` gives them."""
    changed = replace(space.recipe(recipe, point), seed=seed)
    return runs.train(changed, part, importances=space.importances(runs.plan, point)).losses


def _above(gain: Estimate) -> bool:
    return gain.low is not None and gain.low > 0


def _score(row: TrialRow) -> float:
    return -np.inf if row.score is None else row.score


def _about(plan: Plan, recipe: Recipe, space: Space, how: Trials) -> dict[str, object]:
    """What a study is of: another of these is another study."""
    knobs = [[knob.name, knob.low, knob.high] for knob in space.knobs]
    return {
        "plan": plan.hash, "kind": space.kind, "part": how.part, "seeds": how.seeds, "knobs": knobs,
        "groups": space.groups, "recipe": recipe.words,
    }  # fmt: skip


def _scored(runs: ShortRuns, recipe: Recipe, space: Space, how: Trials, point: Mapping[str, float]) -> float:
    """The score of a trial: its paired seeds on the choosing half."""
    seeds = range(how.seed, how.seed + how.seeds)
    losses = [trial_losses(runs, recipe, space, point, seed, how.part) for seed in seeds]
    return mean_score(runs.values(losses, runs.choosing))


@contextmanager
def _workers(runs: ShortRuns, recipe: Recipe, space: Space, how: Trials) -> Iterator[Callable[[Asked], Future[float]]]:
    """A function that begins a trial, here or in one of several processes."""
    if how.processes == 1:
        yield lambda asked: _ended(_scored(runs, recipe, space, how, asked.point))
        return
    words = (runs.catalog.home, runs.plan.hash, recipe, space, how)
    pool = ProcessPoolExecutor(how.processes, get_context("spawn"), initializer=_begin, initargs=words)
    try:
        yield lambda asked: pool.submit(_in_worker, dict(asked.point))
    finally:
        pool.shutdown(cancel_futures=True)


def _ended(score: float) -> Future[float]:
    future: Future[float] = Future()
    future.set_result(score)
    return future


_worker: dict[str, Callable[[Mapping[str, float]], float]] = {}
"""In a worker process: what scores a point."""


def _begin(home: Path, plan: str, recipe: Recipe, space: Space, how: Trials) -> None:
    """In a worker: ignore Ctrl-C, which the parent handles, exit after a killed parent, and open the plan."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_after_parent, daemon=True).start()
    runs = ShortRuns(Catalog.open(home), Plan.open(home, plan))
    _worker["score"] = lambda point: _scored(runs, recipe, space, how, point)


def _exit_after_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _in_worker(point: Mapping[str, float]) -> float:
    return _worker["score"](point)


class _Fresh:
    """Trainings on seeds that no trial had; their losses are kept in the study, so a killed verdict goes on."""

    def __init__(
        self, runs: ShortRuns, recipe: Recipe, space: Space, how: Trials, folder: Path, tell: StageProgress
    ) -> None:
        self._runs, self._recipe, self._space, self._how = runs, recipe, space, how
        self._folder, self._tell = folder, tell
        first = how.seed + how.seeds
        self._seeds, self._done = range(first, first + how.fresh), 0

    def verdict(self, standing: TrialRow, won: TrialRow) -> Verdict:
        """The winner beside what stands."""
        runs, starts = self._runs, self._space.starts
        plain = starts[1] if len(starts) > 1 and won.number != 1 else None
        total = len(self._seeds) * (4 + (plain is not None))
        short, whole = (
            [self._losses(point, part, total) for point in (standing.point, won.point)]
            for part in (self._how.part, 1.0)
        )
        searched = _score(won) - _score(standing)
        fresh = _gain(runs, short[1], short[0]).value
        each = zip(runs.judged(runs.confirming), *(runs.values(part, runs.confirming) for part in whole), strict=True)
        simple, over, level = None, None, 0.9
        if plain is not None:
            losses, level = self._losses(plain, 1.0, total), 0.95
            simple, over = _gain(runs, losses, whole[0], level), _gain(runs, whole[1], losses)
        return Verdict(
            searched=searched, fresh=fresh, shrinkage=searched - fresh, whole=_gain(runs, whole[1], whole[0], level),
            plain=simple, over_plain=over,
            tasks=tuple(TaskGain(task=task, gain=estimate([new.minus(old)])) for task, old, new in each),
        )  # fmt: skip

    def _losses(self, point: Mapping[str, float], part: float, total: int) -> list[Floats]:
        """The losses of each fresh seed."""
        found = []
        for seed in self._seeds:
            words = json.dumps([sorted(point.items()), part, seed])
            path = self._folder / f"{hashlib.sha256(words.encode()).hexdigest()[:16]}.npy"
            if not path.is_file():
                losses = trial_losses(self._runs, self._recipe, self._space, point, seed, part)
                with whole(path) as made, made.open("wb") as file:
                    np.save(file, losses)
            found.append(np.load(path))
            self._done += 1
            self._tell("judge", self._done, total)
        return found


def _gain(runs: ShortRuns, new: Sequence[Floats], old: Sequence[Floats], level: float = 0.9) -> Estimate:
    """The score of some trainings minus that of others on the confirming half; `low` is the one-sided 95% bound."""
    pairs = zip(*(runs.values(part, runs.confirming) for part in (new, old)), strict=True)
    return estimate([mine.minus(other) for mine, other in pairs], level=level)
