"""The plan: what will be drawn, resolved from a policy at a commit. Immutable, hashed, and the same everywhere.

The stream draws image i with probability p(i) = sum_t a_t q_t(i), and every known label of a drawn image counts with
the weight w_t(i) = q_t(i) / p(i) (balance heuristic, Veach & Guibas 1995). So each task sees exactly the distribution
q_t that its owner asked for, whatever the others ask: sum p w 1[stratum] = pi; w_t <= 1 / a_t; and the effective sample
size draws / sum q_t^2 / p is at least a_t x draws.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curation.catalog.tasks import Task
from curation.errors import Damaged, NotFound
from curation.files.atomic import whole
from curation.files.digest import digest
from samplers.plan.rates import PI_UNITS, SHARE_UNITS, Floats, Ints

__all__ = ["FORMAT", "DraftPlan", "Plan", "PlanTask"]

FORMAT = 2
WRITERS = 2


@dataclass(frozen=True, kw_only=True)
class PlanTask:
    """One task in a plan: its definition, what it was given, and the constants of its loss.

    `share` is in units of 2^-22. `constant_loss` divides the task's loss; `mean` and `deviation` standardise a
    regression target; `labelled` counts its labels by class (mined
    ones at what they count); `class_factor` is c(y), None where rates do not factor.
    """

    task: Task
    owner: str
    share: int
    importance: float
    rule: str
    constant_loss: float
    mean: float
    deviation: float
    labelled: tuple[float, ...]
    class_factor: tuple[float, ...] | None
    strata: tuple[str, ...]

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.name


@dataclass(frozen=True, kw_only=True)
class DraftPlan:
    """A plan that is not yet written: its header, and its tables by name."""

    header: dict[str, Any]
    tables: dict[str, pa.Table]


class Plan:
    """A plan of D draws over S samples and T tasks, opened from `plans/<hash>/`; tables are read on first use.

    `draws` [D] gives each position's row in the sample arrays, `draw_task` and `draw_stratum` [D] whom it is for.
    """

    def __init__(self, folder: Path, proposed: "DraftPlan | None" = None) -> None:
        self.folder, self._tables = folder, {} if proposed is None else proposed.tables
        self.header: dict[str, Any] = _header(folder) if proposed is None else proposed.header
        self.hash: str = self.header["hash"]
        self.pack_hash: str = self.header["pack"]
        self.commit: int = self.header["commit"]
        self.tasks = tuple(_plan_task(part) for part in self.header["tasks"])
        self.phases: Ints = np.asarray(self.header["phases"], np.int64)
        """Draws of each phase [P]."""
        self.start: int = (self.header["parent"] or {"position": 0})["position"]
        """The position of a run at which this plan takes over from its parent; 0 for a plan without one."""
        self.shares: Floats = np.asarray([task.share for task in self.tasks], np.float64) / SHARE_UNITS

    @classmethod
    def open(cls, home: Path, prefix: str) -> "Plan":
        """The plan of `home` whose hash starts with `prefix`; NotFound when none or several do."""
        found = sorted(path.parent for path in (home / "plans").glob(f"{prefix}*/plan.json"))
        if len(found) != 1:
            raise NotFound(f"plan {prefix!r}: {len(found)} plans of {home} start so; `amber plan --list` lists them")
        return cls(found[0])

    @classmethod
    def newest(cls, home: Path) -> "Plan":
        """The plan of `home` that was made last."""
        headers = [
            path for path in (home / "plans").glob("*/plan.json") if not path.with_name("withdrawn.json").is_file()
        ]
        for path in sorted(headers, key=lambda path: path.stat().st_mtime_ns, reverse=True):
            if json.loads(path.read_text())["format"] == FORMAT:
                return cls(path.parent)
        raise NotFound(f"{home}: there is no plan yet; `amber plan` makes one")

    def save(self) -> "Plan":
        """Write a proposed plan, whole or not at all; one that is there is opened, and is the newest again."""
        if (self.folder / "plan.json").is_file():
            (self.folder / "plan.json").touch()
        else:
            with whole(self.folder) as part:
                part.mkdir()
                with ThreadPoolExecutor(WRITERS) as pool:
                    list(pool.map(partial(_write_table, part), self._tables.items()))
                (part / "plan.json").write_text(json.dumps(self.header, indent=1))
        return Plan(self.folder)

    def verify(self) -> None:
        """Hash all tables again; Damaged names the first that is not what was written."""
        for name, content in self.header["tables"].items():
            if digest(self._table(name)) != content:
                raise Damaged(f"{self.folder / name}.parquet: not the table that the plan was hashed with; plan again")

    def labels(
        self, rows: npt.NDArray[np.int32], positions: Ints | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
        """Values, known and weights [B, T] of the samples `rows` [B] at `positions` [B]; -1 is padding, knows nothing.

        Values are class codes or numbers, 0 where unknown; of a multilabel or detection task the rarest class that is
        there. Weights are w_t, 0 where unknown. Without positions they are those of the first phase.
        """
        values = np.zeros((len(rows), len(self.tasks)), np.float32)
        known = np.zeros(values.shape, np.bool_)
        weights = np.zeros(values.shape, np.float32)
        batch_row, entry = self.entries(rows)
        column = self.label_task[entry]
        phase = np.zeros(len(rows), np.int64) if positions is None else self.phase_at(positions)
        q = self.q[phase[batch_row], self.cell(column, self.label_stratum[entry])]
        p = np.bincount(batch_row, self.shares[column] * q, minlength=len(rows))
        values[batch_row, column] = self.label_value[entry]
        known[batch_row, column] = True
        weights[batch_row, column] = q / p[batch_row]
        return values, known, weights

    def entries(self, rows: npt.NDArray[np.int32]) -> tuple[Ints, Ints]:
        """The known labels of the samples `rows` [B], one row after the other, by task: of each the place of its row in
        `rows`, and its own in the tables of labels [L]."""
        safe = np.maximum(rows, 0)
        counts = np.where(rows >= 0, self._first[safe + 1] - self._first[safe], 0)
        batch_row = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(len(batch_row)) - np.repeat(np.cumsum(counts) - counts, counts)
        return batch_row, self._first[safe][batch_row] + within

    @property
    def seed(self) -> int:
        """The seed of whatever is drawn."""
        return int(self.header["seed"])

    def members(self, position: int) -> npt.NDArray[np.int64]:
        """Rows of the samples in the stratum that the draw at `position` is from, sorted."""
        mine = (self.label_task == self.draw_task[position]) & (self.label_stratum == self.draw_stratum[position])
        return np.asarray(self.label_sample[mine], np.int64)

    def phase_at(self, positions: Ints) -> Ints:
        """The phase of each position; of those behind the end, the last."""
        return np.minimum(np.searchsorted(np.cumsum(self.phases), positions, side="right"), len(self.phases) - 1)

    def probabilities(self, phase: int = 0) -> Floats:
        """p [S]: the probability with which one draw of a phase is this image."""
        q = self.q[phase, self.cell(self.label_task, self.label_stratum)]
        p = np.bincount(self.label_sample, self.shares[self.label_task] * q, minlength=len(self._first) - 1)
        return np.asarray(p, np.float64)

    def label_weights(self, phase: int = 0) -> Floats:
        """w [L]: what each label counts when its image is drawn in a phase."""
        q = self.q[phase, self.cell(self.label_task, self.label_stratum)]
        return np.asarray(q / self.probabilities(phase)[self.label_sample], np.float64)

    def cell(self, task: npt.NDArray[np.integer], stratum: npt.NDArray[np.integer]) -> Ints:
        """The place of each (task, stratum) among all K strata of the plan."""
        return np.asarray(self.first_cell[task] + stratum, np.int64)

    def drawn(self) -> Ints:
        """How often each of the K strata was drawn for its task in each phase [P, K]."""
        cells = self.cell(self.draw_task, self.draw_stratum)
        bounds = pairwise([0, *np.cumsum(self.phases).tolist()])
        return np.stack([np.bincount(cells[begin:end], minlength=len(self.sizes)) for begin, end in bounds])

    def rates(self) -> list[dict[str, Any]]:
        """One row for each task and stratum: its labels n, its target pi over all phases, and how often it was drawn
        for its task."""
        pi = self.phases @ self.pi / self.phases.sum()
        names = [(task.name, stratum) for task in self.tasks for stratum in task.strata]
        columns = (names, self.sizes.tolist(), pi.tolist(), self.drawn().sum(axis=0).tolist())
        return [
            {"task": task, "stratum": stratum, "n": n, "pi": target, "drawn": count}
            for (task, stratum), n, target, count in zip(*columns, strict=True)
        ]

    @cached_property
    def first_cell(self) -> Ints:
        """Where the strata of each task begin among all [T + 1]."""
        return np.cumsum([0, *(len(task.strata) for task in self.tasks)], dtype=np.int64)

    @cached_property
    def pi(self) -> Floats:
        """Targets of all strata [P, K]; those of a task sum to 1 in each phase."""
        return np.asarray(self._rates["pi"].to_numpy().reshape(len(self.phases), -1) / PI_UNITS, np.float64)

    @cached_property
    def q(self) -> Floats:
        """The chance of one image of each stratum in a draw for its task [P, K]."""
        return np.asarray(self.pi / self.sizes, np.float64)

    @cached_property
    def sizes(self) -> Ints:
        """Labels of each of the K strata."""
        return np.asarray(self._rates["n"].to_numpy()[: self.first_cell[-1]], np.int64)

    @cached_property
    def hot(self) -> npt.NDArray[np.bool_]:
        """Whether a stratum's images are drawn more than twice in a sweep for its task [P, K]."""
        return np.asarray(self._rates["hot"], np.bool_).reshape(len(self.phases), -1)

    @cached_property
    def keys(self) -> pa.StringArray:
        """Keys of the samples [S], sorted."""
        return self._table("samples", "key")["key"].combine_chunks()

    @cached_property
    def shard(self) -> npt.NDArray[np.int32]:
        """The number of each sample's shard in the pack."""
        return self._column("samples", "shard")

    @cached_property
    def offset(self) -> Ints:
        """Where each sample's bytes begin in its shard."""
        return self._column("samples", "offset")

    @cached_property
    def size(self) -> npt.NDArray[np.int32]:
        """How many bytes each sample has."""
        return self._column("samples", "size")

    @cached_property
    def draws(self) -> npt.NDArray[np.int32]:
        """The sample of each position [D]."""
        return self._column("draws", "sample")

    @cached_property
    def draw_task(self) -> npt.NDArray[np.int16]:
        """The task that each position [D] is for."""
        return self._column("draws", "task")

    @cached_property
    def draw_stratum(self) -> npt.NDArray[np.int32]:
        """The stratum of that task that each position [D] is for."""
        return self._column("draws", "stratum")

    @cached_property
    def label_sample(self) -> npt.NDArray[np.int32]:
        """The sample of each label [L], ascending."""
        return self._column("labels", "sample")

    @cached_property
    def label_task(self) -> npt.NDArray[np.int16]:
        """The task of each label [L]."""
        return self._column("labels", "task")

    @cached_property
    def label_stratum(self) -> npt.NDArray[np.int32]:
        """The stratum of each label [L] within its task."""
        return self._column("labels", "stratum")

    @cached_property
    def label_value(self) -> Floats:
        """The value of each label [L]: a class code or a number."""
        return self._column("labels", "value")

    @cached_property
    def label_several(self) -> pa.Table:
        """What multilabel and detection tasks hold [L]: `codes` and `boxes`, each where the plan has such a task."""
        held = {"multilabel": "codes", "detection": "boxes"}
        kinds = {task.task.kind for task in self.tasks}
        return self._table("labels", "sample", *(name for kind, name in held.items() if kind in kinds))

    @cached_property
    def _rates(self) -> pa.Table:
        return self._table("rates", "n", "pi", "hot")

    @cached_property
    def _first(self) -> Ints:
        """Where the labels of each sample begin [S + 1]."""
        return np.searchsorted(self.label_sample, np.arange(len(self.keys) + 1))

    def _column(self, table: str, name: str) -> npt.NDArray[Any]:
        return np.asarray(self._table(table, name)[name].to_numpy())

    def _table(self, table: str, *columns: str) -> pa.Table:
        if table in self._tables:
            return self._tables[table].select(columns or self._tables[table].column_names)
        try:
            return pq.read_table(self.folder / f"{table}.parquet", columns=list(columns) or None)
        except (OSError, pa.ArrowException) as error:
            raise Damaged(f"{self.folder}: {error}; make the plan again") from error


def _header(folder: Path) -> dict[str, Any]:
    if not (folder / "plan.json").is_file():
        raise NotFound(f"{folder}: there is no plan; `amber plan` makes one")
    if (folder / "withdrawn.json").is_file():
        since = json.loads((folder / "withdrawn.json").read_text())["at"]
        raise NotFound(f"plan {folder.name[:12]}: withdrawn on {since}, an image of it was forgotten; make a new one")
    header: dict[str, Any] = json.loads((folder / "plan.json").read_text())
    if header["format"] != FORMAT:
        raise NotFound(f"plan {folder.name[:12]}: of format {header['format']}, not {FORMAT}; plan again")
    return header


def _write_table(folder: Path, named: tuple[str, pa.Table]) -> None:
    name, table = named
    words = [column for column in table.column_names if column == "name"]
    pq.write_table(table, folder / f"{name}.parquet", compression="zstd", use_dictionary=words or False)


def _plan_task(part: dict[str, Any]) -> PlanTask:
    factor = part["class_factor"]
    return PlanTask(
        **{**part, "task": Task.model_validate(part["task"]), "strata": tuple(part["strata"]),
           "labelled": tuple(part["labelled"]), "class_factor": None if factor is None else tuple(factor)},
    )  # fmt: skip
