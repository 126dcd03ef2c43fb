"""Exposure: what was asked against what was drawn, as the stream runs and after it, with an alarm that may be watched.

A stream delivers draws that the plan fixed, so that asked and drawn agree within the roundings of the plan. Where they
part, something other than the plan decides: images that could not be read and were replaced, batches that were skipped
or came twice, ranks that read at different speeds.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curation.errors import BadInput
from samplers.plan.plan import Plan
from samplers.plan.rates import Floats, Ints

__all__ = ["Exposed", "Exposure"]

PRIOR = 0.5
"""Draws that Jeffreys' prior adds to each cell."""


@dataclass(frozen=True, kw_only=True)
class Exposed:
    """One task, stratum, slice or rank: draws that it was asked to get by now, and those that it got."""

    kind: str
    name: str
    asked: float
    drawn: int


class Exposure:
    """The ledger of one plan's draws: `add` what was delivered, ask `rows` and `alarm` at any time.

    The alarm is a test that may be looked at after every batch: with M_n the mixture likelihood (Jeffreys' prior) of
    the drawn cells over the likelihood of the asked rates, P(M_n >= 1 / alpha for any n) <= alpha (Ville 1939; Robbins
    1970), whatever `alpha` in (0, 1). It is over tasks, strata and ranks at once: `alpha` is shared equally.
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
        """Count a batch: the samples `rows` [B] that were delivered for `positions` [B] of the plan; -1 is padding.

        A sample that stands in for another one counts in the stratum that it has itself.
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

    def rows(self) -> list[Exposed]:
        """By task, stratum, boosted slice and rank."""
        plan = self._plan
        found = []
        for code, task in enumerate(plan.tasks):
            cells = slice(*plan.first_cell[code : code + 2].tolist())
            asked, drawn = self._asked[cells], self._cells[cells]
            found.append(Exposed(kind="task", name=task.name, asked=float(asked.sum()), drawn=int(drawn.sum())))
            each = zip(task.strata, asked.tolist(), drawn.tolist(), strict=True)
            found += [Exposed(kind="stratum", name=f"{task.name}: {s}", asked=a, drawn=d) for s, a, d in each]
            found += self._slices(task.name, task.strata, asked, drawn)
        total = int(self._ranks.sum())
        return found + [
            Exposed(kind="rank", name=str(rank), asked=total / len(self._ranks), drawn=drawn)
            for rank, drawn in enumerate(self._ranks.tolist())
        ]

    def alarm(self) -> str:
        """Why asked and drawn have parted, or "" as long as chance explains it; wrong once with at most `alpha`.

        The draws of a plan stray less than independent ones, so that it is silent on a stream that does its work. That
        a position came twice needs no test.
        """
        starts = self._plan.first_cell[:-1]
        tasks, total = np.add.reduceat(self._cells, starts), int(self._ranks.sum())
        tests = {
            "tasks": _mixture(tasks) - float(tasks @ np.log(self._plan.shares)),
            "strata": _mixture(self._cells) - self._chance,
            "ranks": _mixture(self._ranks) + total * float(np.log(len(self._ranks))),
        }
        limit = float(np.log(len(tests) / self._alpha))
        told = [
            f"{name} part from what was asked (log evidence {evidence:.1f}, limit {limit:.1f})"
            for name, evidence in tests.items() if evidence >= limit
        ]  # fmt: skip
        twice = int((self._times > 1).sum())
        return "; ".join([*told, *([f"{twice:,} positions came twice"] if twice else [])])

    def _strata(self, rows: Ints, task: Ints) -> Ints:
        """The stratum of each sample for the task that it was delivered for."""
        wanted = rows * len(self._plan.tasks) + task
        place = np.minimum(np.searchsorted(self._labels, wanted), len(self._labels) - 1)
        if (self._labels[place] != wanted).any():
            raise BadInput(
                "exposure: a sample came for a task that knows no label of it; let one of its stratum stand in"
            )
        return np.asarray(self._plan.label_stratum[place], np.int64)

    @staticmethod
    def _slices(task: str, strata: Iterable[str], asked: Floats, drawn: Ints) -> list[Exposed]:
        held: dict[str, list[int]] = {}
        for place, name in enumerate(strata):
            for part in name.split(" & ")[1:]:
                held.setdefault(part, []).append(place)
        return [
            Exposed(
                kind="slice", name=f"{task}: {name}", asked=float(asked[places].sum()), drawn=int(drawn[places].sum())
            )
            for name, places in held.items()
        ]


def _mixture(drawn: Ints) -> float:
    """log likelihood of counts of draws in their order, whose rates have Jeffreys' prior."""
    from scipy.special import gammaln  # slow to load, and most commands count no draws

    k, n = len(drawn), int(drawn.sum())
    alone = gammaln(k * PRIOR) - gammaln(n + k * PRIOR)
    return float(alone + (gammaln(drawn + PRIOR) - gammaln(PRIOR)).sum())
