"""Exposure: requested against delivered draws, during and after a stream, with a sequential alarm.

A stream delivers the draws that the plan fixed, so requested and delivered draws agree within the plan's rounding. A
larger difference has another cause: replaced images that could not be read, batches that were skipped or came twice,
or ranks that read at different speeds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.arrays import Floats, Ints
from curation.errors import BadInput
from curation.rows import tabled
from samplers.plan.plan import Plan
from samplers.plan.strata import shown_stratum

__all__ = ["Exposure", "ExposureRow"]

PRIOR = 0.5
"""Pseudo-count that Jeffreys' prior adds to each cell."""


@dataclass(frozen=True, kw_only=True)
class ExposureRow:
    """One task, stratum, slice or rank: the draws requested for it so far (`asked`), and the draws delivered."""

    kind: str
    name: str
    asked: float
    drawn: int


class Exposure:
    """Counts of one plan's delivered draws: `add` each batch, then read `rows` and `alarm` at any time.

    The alarm is a sequential test and stays valid when checked after every batch. M_n is the mixture likelihood
    (Jeffreys' prior) of the delivered cells over their likelihood under the requested rates;
    P(M_n >= 1 / alpha for any n) <= alpha for any `alpha` in (0, 1) (Ville 1939; Robbins 1970). Three tests (tasks,
    strata, ranks) share `alpha` equally (Bonferroni).

    >>> exposure = Exposure(plan)
    >>> positions = np.arange(10)
    >>> exposure.add(plan.draws[positions], positions)
    >>> exposure.alarm()
    ''
    >>> exposure.add(plan.draws[positions], positions)
    >>> exposure.alarm()
    '10 positions came twice'
    """

    def __init__(self, plan: Plan, *, ranks: int = 1, alpha: float = 1e-6) -> None:
        if ranks < 1 or not 0 < alpha < 1:
            raise BadInput(f"ranks {ranks}, alpha {alpha}: at least 1, and between 0 and 1; correct it")
        self._plan, self._alpha = plan, alpha
        self._cells = np.zeros(int(plan.first_cell[-1]), np.int64)
        self._asked = np.zeros(len(self._cells))
        self._ranks = np.zeros(ranks, np.int64)
        self._times = np.zeros(len(plan.draws), np.uint8)
        self._labels = plan.label_sample.astype(np.int64) * len(plan.tasks) + plan.label_task
        self._rates: Floats = np.repeat(plan.shares, np.diff(plan.first_cell)) * plan.pi
        self._chance = 0.0

    def add(self, rows: npt.NDArray[np.integer], positions: Ints, rank: int = 0) -> None:
        """Count a batch: samples `rows` [B] delivered for `positions` [B] of the plan; row -1 is padding.

        A replacement image counts in its own stratum.
        """
        plan, real = self._plan, rows >= 0
        rows, positions = rows[real], positions[real]
        task, phase = plan.draw_task[positions].astype(np.int64), plan.phase_at(positions)
        cells = plan.cell(task, self._strata(np.asarray(rows, np.int64), task))
        self._cells += np.bincount(cells, minlength=len(self._cells))
        self._asked += np.bincount(phase, minlength=len(plan.phases)) @ self._rates
        self._chance += float(np.log(self._rates[phase, cells]).sum())
        self._ranks[rank] += len(rows)
        np.add.at(self._times, positions, 1)

    def counts(self) -> dict[str, npt.NDArray[np.generic]]:
        """Everything counted so far, by name; `add_counts` of another exposure of the same plan takes it in."""
        return {
            "cells": self._cells, "asked": self._asked, "ranks": self._ranks, "times": self._times,
            "chance": np.array([self._chance]),
        }  # fmt: skip

    def add_counts(self, counts: dict[str, npt.NDArray[Any]]) -> None:
        """Add the `counts` of another exposure of the same plan; those of another number of ranks are spread evenly."""
        self._cells += counts["cells"]
        self._asked += counts["asked"]
        self._times += counts["times"]
        self._chance += float(counts["chance"][0])
        if len(counts["ranks"]) == len(self._ranks):
            self._ranks += counts["ranks"]
        else:
            self._ranks += np.diff(np.arange(len(self._ranks) + 1) * int(counts["ranks"].sum()) // len(self._ranks))

    @tabled(ExposureRow)
    def rows(self) -> list[ExposureRow]:
        """Requested and delivered draws by task, stratum, boosted slice and rank."""
        plan = self._plan
        found = []
        for code, task in enumerate(plan.tasks):
            cells = slice(*plan.first_cell[code : code + 2].tolist())
            asked, drawn = self._asked[cells], self._cells[cells]
            found.append(ExposureRow(kind="task", name=task.name, asked=float(asked.sum()), drawn=int(drawn.sum())))
            names = map(shown_stratum, task.strata, plan.marks[cells])
            each = zip(names, asked.tolist(), drawn.tolist(), strict=True)
            found += [ExposureRow(kind="stratum", name=f"{task.name}: {s}", asked=a, drawn=d) for s, a, d in each]
            found += self._slices(task.name, plan.marks[cells], asked, drawn)
        total = int(self._ranks.sum())
        return found + [
            ExposureRow(kind="rank", name=str(rank), asked=total / len(self._ranks), drawn=drawn)
            for rank, drawn in enumerate(self._ranks.tolist())
        ]

    def alarm(self) -> str:
        """What differs from the request, or "" if chance explains it. The false alarm rate of a run is at most `alpha`.

        A plan's draws deviate less than independent draws, so a correct stream raises no alarm. A position that came
        twice needs no test.
        """
        starts = self._plan.first_cell[:-1]
        tasks, total = np.add.reduceat(self._cells, starts), int(self._ranks.sum())
        tests = {
            "tasks": _log_mixture(tasks) - float(tasks @ np.log(self._plan.shares)),
            "strata": _log_mixture(self._cells) - self._chance,
            "ranks": _log_mixture(self._ranks) + total * float(np.log(len(self._ranks))),
        }
        limit = float(np.log(len(tests) / self._alpha))
        found = [
            f"{name} differ from the request (log evidence {evidence:.1f}, limit {limit:.1f})"
            for name, evidence in tests.items() if evidence >= limit
        ]  # fmt: skip
        twice = int((self._times > 1).sum())
        return "; ".join([*found, *([f"{twice:,} positions came twice"] if twice else [])])

    def _strata(self, rows: Ints, task: Ints) -> Ints:
        """The stratum of each sample in the task that it was drawn for."""
        wanted = rows * len(self._plan.tasks) + task
        entry = np.minimum(np.searchsorted(self._labels, wanted), len(self._labels) - 1)
        if (self._labels[entry] != wanted).any():
            raise BadInput(
                "exposure: a sample was delivered for a task that has no label of it; deliver one of the draw's stratum"
            )
        return np.asarray(self._plan.label_stratum[entry], np.int64)

    @staticmethod
    def _slices(task: str, marks: Iterable[tuple[str, ...]], asked: Floats, drawn: Ints) -> list[ExposureRow]:
        by_slice: dict[str, list[int]] = {}
        for stratum, held in enumerate(marks):
            for name in held:
                by_slice.setdefault(name, []).append(stratum)
        return [
            ExposureRow(kind="slice", name=f"{task}: {name}", asked=float(asked[of].sum()), drawn=int(drawn[of].sum()))
            for name, of in by_slice.items()
        ]


def _log_mixture(drawn: Ints) -> float:
    """log likelihood of a sequence of draws with these cell counts, with Jeffreys' prior on the rates."""
    from scipy.special import gammaln

    k, n = len(drawn), int(drawn.sum())
    alone = gammaln(k * PRIOR) - gammaln(n + k * PRIOR)
    return float(alone + (gammaln(drawn + PRIOR) - gammaln(PRIOR)).sum())
