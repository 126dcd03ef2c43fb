"""Label requests: which (sample, task) people are asked to label next, and why.

Mining never touches evaluation: every candidate is a training sample. A part of each budget, the random arm, is drawn
uniformly with its propensity stored, so that what is common stays estimable. The rest is spread over (task, slice)
cells by importance, error and how little is known there, and mined inside each cell.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import REQUESTS
from curation.catalog.slices import Slice, columns_of
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import BadInput, NotFound
from curation.images.embeddings import Embeddings, farthest_first

__all__ = ["Proposal", "propose"]

Key = TypeVar("Key")
Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

PRIOR_ERROR = 0.5
PRIOR_WEIGHT = 2.0
FIRST_LABELS = 10
"""Where little was evaluated a slice's error is taken as one half, with the weight of two samples; a cell without
labels counts as one with ten, so that it does not take all."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """How to spend one budget.

    `budget` labels in all; `random_share` of them go to the random arm (1 asks for a random baseline). `importance`
    weighs tasks (default: equally). `run` names the run whose predictions mine; without one, or where a slice has no
    label yet, the farthest-first rule looks for what is new.
    """

    budget: int
    seed: int
    random_share: float = 0.15
    importance: Mapping[str, float] | None = None
    run: str = ""
    embeddings: str = ""
    cost: float = 1.0

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise BadInput(f"budget {self.budget}: must be at least 1 label; raise it")
        if not 0 <= self.random_share <= 1:
            raise BadInput(f"random share {self.random_share}: must lie in [0, 1]; correct it")
        wrong = [name for name, weight in (self.importance or {}).items() if not 0 <= weight < float("inf")]
        if wrong:
            raise BadInput(f"importance of {wrong[0]}: must be 0 or more, and finite; correct it")


def propose(catalog: Catalog, proposal: Proposal, *, author: str, batch: str) -> int:
    """Add open label requests for `proposal` in one commit; returns how many. The same batch again is a no-op."""
    with catalog.commit(author=author, message=f"ask for {proposal.budget} labels", batch=batch) as change:
        if change.repeated:
            return 0
        rows = _Round(change.now, proposal, catalog).choose()
        change.add_requests(pa.Table.from_pylist(rows, REQUESTS))
        return len(rows)


class _Round:
    """One proposal against one snapshot: the candidates of every task, and what was chosen so far."""

    def __init__(self, now: Snapshot, proposal: Proposal, catalog: Catalog) -> None:
        self.now = now
        self.proposal = proposal
        self.tasks = {name: task for name, task in now.tasks().items() if task.outputs}
        self.task_ids = now.task_ids()
        samples = now.samples()
        usable = pc.and_(pc.equal(samples["split"], "train"), pc.invert(samples["excluded"]))
        self.samples = samples.filter(usable).sort_by("sample_id")
        self.ids = np.asarray(self.samples["sample_id"].to_numpy(), np.int64)
        self.groups = np.asarray(self.samples["group"].to_pylist(), dtype=object)
        self.open = self._candidates()
        weights = proposal.importance or dict.fromkeys(self.tasks, 1.0)
        for name in weights:
            now.task(name)
        self.importance = {name: weights.get(name, 0.0) for name in self.tasks}
        self.predictions = self._predictions(catalog)
        self.embeddings = Embeddings.open(catalog.home, proposal.embeddings) if proposal.embeddings else None
        self.rows: list[dict[str, object]] = []

    def choose(self) -> list[dict[str, object]]:
        at_random = round(self.proposal.budget * self.proposal.random_share)
        self._random_arm(at_random)
        if self.proposal.random_share < 1:
            for task, slice_, count in self._cells(self.proposal.budget - len(self.rows)):
                self._mine(task, slice_, count)
        arm = "spare" if self.proposal.random_share < 1 else "random"
        while (short := self.proposal.budget - len(self.rows)) and self._random_arm(short, arm=arm):
            pass
        return [{**row, "priority": rank} for rank, row in enumerate(self.rows)]

    def _candidates(self) -> dict[str, npt.NDArray[np.bool_]]:
        """For each task, which samples have neither a current label nor a request that is open or was answered."""
        asked = self.now.requests()
        open_: dict[str, npt.NDArray[np.bool_]] = {}
        for name in self.tasks:
            pending = asked.filter(pc.and_(pc.equal(asked["task"], name), pc.not_equal(asked["state"], "withdrawn")))
            taken = [self.now.labels(name)["sample_id"].to_numpy(), pending["sample_id"].to_numpy()]
            open_[name] = ~np.isin(self.ids, np.concatenate(taken))
        return open_

    def _random_arm(self, count: int, *, arm: str = "random") -> int:
        """Draw pairs uniformly: tasks by importance, then samples; the propensity is the chance of the pair.

        What mining left of a budget is drawn so too, as an arm of its own: mining chose first, so that it is no fair
        sample. Returns how many: fewer than `count` where a task has fewer candidates than its part.
        """
        before = len(self.rows)
        names = [name for name in self.tasks if self.open[name].any() and self.importance[name] > 0]
        shares = _largest_remainder({name: self.importance[name] for name in names}, count)
        for name in names:
            places = np.flatnonzero(self.open[name])
            taken = min(shares[name], len(places))
            generator = np.random.default_rng([self.proposal.seed, self.task_ids[name], len(self.rows)])
            chosen = np.sort(generator.permutation(len(places))[:taken])
            for place in places[chosen]:
                self._add(
                    name,
                    int(place),
                    arm=arm,
                    slice_="",
                    reason="drawn at random" if arm == "random" else "nothing left to mine; drawn at random",
                    chance=taken / len(places),
                )
        return len(self.rows) - before

    def _cells(self, budget: int) -> list[tuple[Task, Slice | None, int]]:
        """Spread `budget` over the rare slices of each task, or over the whole of a task that has none.

        A cell weighs importance x error x yield / sqrt(FIRST_LABELS + known labels): an error falls about as the root
        of the labels, so that the next label is worth most where the error is large, little is known, and asking has
        found something before.
        """
        rare = [part for part in self.now.slices().values() if part.rare]
        if self.predictions is None:
            rare = [part for part in rare if not part.reads_predictions]
        cells: dict[tuple[str, str], float] = {}
        members: dict[tuple[str, str], Slice | None] = {}
        for name in self.tasks:
            labels = self.now.labels(name)
            known = labels.filter(pc.equal(labels["state"], 1))
            known = known.filter(pc.is_in(known["sample_id"], value_set=pa.array(self.ids)))
            errors = self._errors(name, known)
            wanted: list[Slice | None] = [part for part in rare if part.task == name]
            for slice_ in wanted or [None]:
                label = slice_.name if slice_ else ""
                inside = known["sample_id"].to_numpy()
                count = len(np.intersect1d(inside, self._members(slice_))) if slice_ else len(inside)
                error = errors.get(label, PRIOR_ERROR)
                worth = self.importance[name] * error * self._yield(name, slice_)
                cells[name, label] = worth / (FIRST_LABELS + count) ** 0.5
                members[name, label] = slice_
        counts = _largest_remainder(cells, budget)
        return [(self.tasks[name], members[name, label], count) for (name, label), count in counts.items() if count]

    def _yield(self, task: str, slice_: Slice | None) -> float:
        """What part of the labels that were asked for a slice fell into it: one half at first, by the rule of
        succession. Without a slice nothing can miss."""
        if slice_ is None:
            return 1.0
        asked = self.now.requests("answered")
        mine = pc.and_(pc.equal(asked["task"], task), pc.equal(asked["slice"], slice_.name))
        samples = asked.filter(mine)["sample_id"].to_numpy()
        return float(np.isin(samples, self._members(slice_)).sum() + 1) / (len(samples) + 2)

    def _errors(self, task: str, known: pa.Table) -> dict[str, float]:
        """Validation error of the run on each slice of a task, from 0 to 1, shrunk to one half where n is small.

        The error of numbers is their mean absolute error over the mean absolute deviation of the known labels.
        """
        figures = self.now.runs.slice_errors(self.proposal.run)
        mine = pc.and_(pc.equal(figures["split"], "validation"), pc.equal(figures["task"], task))
        found = {}
        for row in figures.filter(pc.and_(mine, pc.is_valid(figures["value"]))).to_pylist():
            if row["metric"] == "mae":
                numbers = known["number"].to_numpy()
                spread = float(np.abs(numbers - np.median(numbers)).mean()) if len(numbers) else 0.0
                error = min(1.0, row["value"] / spread) if spread else PRIOR_ERROR
            else:
                error = 1 - row["value"]
            found[row["slice"]] = (error * row["n"] + PRIOR_ERROR * PRIOR_WEIGHT) / (row["n"] + PRIOR_WEIGHT)
        return found

    def _mine(self, task: Task, slice_: Slice | None, count: int) -> None:
        open_ = self.open[task.name]
        scores, reason = self._scores(task, slice_)
        if scores is None:
            possible = open_ & self._possible(task, slice_)
            order = self._unlike_what_is_known(task, possible, count)
        else:
            order = _one_of_each_group(np.argsort(-np.where(open_, scores, -1), kind="stable"), self.groups, ~open_)
            order = order[open_[order] & (scores[order] > 0)]
        for place in order[:count]:
            grade = "" if scores is None else f" {scores[place]:.3f}"
            self._add(
                task.name, int(place), arm="diverse" if scores is None else "mined",
                slice_=slice_.name if slice_ else "", reason=f"{reason}{grade}",
                chance=1.0,
            )  # fmt: skip

    def _scores(self, task: Task, slice_: Slice | None) -> tuple[Floats | None, str]:
        """A score for each training sample, higher first, with its reason; None asks for farthest-first."""
        unlike = "unlike everything labelled"
        chances = self._chances(task)
        if chances is None:
            return None, unlike
        if slice_ is None or ("label", task.name) not in columns_of(slice_.predicate):
            top = np.sort(chances, axis=1)
            inside = np.ones(len(self.ids)) if slice_ is None else np.isin(self.ids, self._members(slice_))
            return (1 - top[:, -1] + top[:, -2]) * inside, "margin to the next class is small: 1 - margin ="
        belongs = np.stack(
            [np.isin(self.ids, self._members(slice_, task, code)) for code in range(len(task.classes))], 1
        )
        seen = np.isin(np.arange(len(task.classes)), self._known_codes(task))
        if not belongs[:, seen].any():
            return None, f"no label yet that could make a {slice_.name}: {unlike}"
        return (chances * belongs).sum(axis=1), f"chance to be {slice_.name} ="

    def _known_codes(self, task: Task) -> Ids:
        """Classes of which a training label is known."""
        labels = self.now.labels(task.name)
        known = labels.filter(pc.is_in(labels["sample_id"], value_set=pa.array(self.ids)))
        return np.unique(np.asarray(known["code"].drop_null().to_numpy(), np.int64))

    def _possible(self, task: Task, slice_: Slice | None) -> npt.NDArray[np.bool_]:
        """Which samples could belong to the slice, whatever their label turned out to be."""
        if slice_ is None:
            return np.ones(len(self.ids), np.bool_)
        codes = range(len(task.classes))
        members = [np.isin(self.ids, self._members(slice_, task, code)) for code in codes]
        return np.asarray(np.any([*members, np.isin(self.ids, self._members(slice_))], axis=0), np.bool_)

    def _unlike_what_is_known(self, task: Task, possible: npt.NDArray[np.bool_], count: int) -> Ids:
        """Farthest-first from what is labelled or asked for; without embeddings, an order drawn by the seed."""
        if self.embeddings is None:
            generator = np.random.default_rng([self.proposal.seed, self.task_ids[task.name], len(self.rows)])
            return generator.permutation(np.flatnonzero(possible))
        known = ~self.open[task.name]
        places = np.flatnonzero(possible | known)
        keys = self.samples["key"].take(pa.array(places)).to_pylist()
        vectors = self.embeddings.standardised(self.embeddings.rows(keys))
        return np.asarray(places[farthest_first(vectors, np.flatnonzero(known[places]), count)], np.int64)

    def _members(self, slice_: Slice, task: Task | None = None, code: int = 0) -> Ids:
        assume: dict[str, str | bool | float] = {}
        if task is not None:
            assume[task.name] = bool(code) if task.kind == "binary" else task.classes[code]
        path = str(self.predictions_path) if self.predictions is not None else None
        return self.now.members(slice_.predicate, predictions=path, assume=assume)

    def _predictions(self, catalog: Catalog) -> pa.Table | None:
        if not self.proposal.run:
            return None
        runs = self.now.runs()
        row = runs.filter(pc.equal(runs["run"], self.proposal.run))
        if not len(row):
            raise NotFound(f"run {self.proposal.run!r}: the catalog has no such run; `amber log` lists them")
        self.predictions_path = catalog.home / row["predictions"][0].as_py()
        return pq.read_table(self.predictions_path)

    def _chances(self, task: Task) -> Floats | None:
        """Class probabilities [n, C] of the training samples, in the order of `ids`; None when the run has none.

        A sample that came after the run may be of any class, each as likely.
        """
        if self.predictions is None or task.kind == "regression":
            return None
        rows = self.predictions.filter(pc.equal(self.predictions["task"], task.name))
        if not len(rows):
            return None
        places = pc.index_in(rows["key"], value_set=self.samples["key"].combine_chunks())
        seen = rows.filter(pc.is_valid(places))
        chances = np.full((len(self.ids), len(task.classes)), 1 / len(task.classes))
        flat = seen["probabilities"].combine_chunks().flatten().to_numpy()
        chances[places.drop_null().to_numpy()] = flat.reshape(len(seen), -1)
        return chances

    def _add(self, task: str, place: int, *, arm: str, slice_: str, reason: str, chance: float) -> None:
        self.open[task][place] = False
        self.rows.append(
            {
                "sample_id": int(self.ids[place]), "task_id": self.task_ids[task], "arm": arm, "slice": slice_,
                "reason": reason, "run": self.proposal.run, "priority": 0, "propensity": chance,
                "cost": self.proposal.cost,
            }
        )  # fmt: skip


def _one_of_each_group(order: Ids, groups: npt.NDArray[np.object_], taken: npt.NDArray[np.bool_]) -> Ids:
    """`order` with the first sample of each group in front, the second of each next, and so on.

    The samples that are `taken` come first in their groups: a group of which a label is known has had its turn.
    """
    seen: dict[object, int] = {}
    turn = np.empty(len(order), np.int64)
    order = np.concatenate([order[taken[order]], order[~taken[order]]])
    for i, place in enumerate(order):
        turn[i] = seen[groups[place]] = seen.get(groups[place], -1) + 1
    return np.asarray(order[np.argsort(turn, kind="stable")], np.int64)


def _largest_remainder(weights: Mapping[Key, float], total: int) -> dict[Key, int]:
    """Whole numbers in proportion to `weights` that add up to `total` (0 where nothing weighs)."""
    whole = sum(weights.values())
    if whole <= 0:
        return dict.fromkeys(weights, 0)
    exact = {key: total * weight / whole for key, weight in weights.items()}
    counts = {key: int(value) for key, value in exact.items()}
    rest = sorted(weights, key=lambda key: counts[key] - exact[key])
    for key in rest[: total - sum(counts.values())]:
        counts[key] += 1
    return counts
