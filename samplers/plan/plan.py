"""The plan: the draws, resolved from a policy at a commit. Immutable, hashed, and identical on every machine.

The stream draws image i with probability p(i) = sum_t a_t q_t(i), and each known label of a drawn image has the weight
w_t(i) = q_t(i) / p(i) (balance heuristic, Veach & Guibas 1995). So each task sees exactly the distribution q_t that its
owner requested, whatever other owners request: sum p w 1[stratum] = pi; w_t <= 1 / a_t; and the effective sample size
draws / sum q_t^2 / p is at least a_t x draws.
"""

import hashlib
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

from curation.arrays import Bools, Float32s, Floats, Int8s, Int16s, Int32s, Ints
from curation.errors import Damaged, NotFound
from curation.files.atomic import whole
from curation.files.digest import digest
from curation.files.prefixes import full_name
from curation.files.read_back import read_json, read_parquet, read_with
from curation.rows import Rows, html_table, shortened
from samplers.plan.plan_task import PlanTask
from samplers.plan.presence import Presence
from samplers.plan.rates import PI_UNITS, SHARE_UNITS
from samplers.plan.strata import stratum_marks
from samplers.plan.weights import draw_probabilities, label_weights

__all__ = ["AGAIN", "FORMAT", "MADE", "DraftPlan", "Plan", "PlanTask", "plan_hash"]

FORMAT = 2
AGAIN = "remove its folder and make the plan again"
WRITERS = 2
MADE = "made.json"
"""Who made a plan, outside of what its hash covers; the time is that of `plan.json`."""


@dataclass(frozen=True, kw_only=True)
class DraftPlan:
    """The content of a plan that is not yet written: its header, and its tables by name."""

    header: dict[str, Any]
    tables: dict[str, pa.Table]


class Plan:
    """A plan of D draws over S samples and T tasks, opened from `plans/<hash>/`; tables are read on first use.

    `draws` [D] are rows of the sample arrays, `draw_task` and `draw_stratum` [D] the task and stratum of each draw.
    """

    def __init__(self, folder: Path, proposed: "DraftPlan | None" = None) -> None:
        self.folder, self._tables = folder, {} if proposed is None else proposed.tables
        self.header: dict[str, Any] = _header(folder) if proposed is None else proposed.header
        self.hash: str = self.header["hash"]
        self.pack_hash: str = self.header["pack"]
        self.commit: int = self.header["commit"]
        self.tasks = tuple(PlanTask.of_words(part) for part in self.header["tasks"])
        self.phases: Ints = np.asarray(self.header["phases"], np.int64)
        """Draws of each phase [P]."""
        self.start: int = (self.header["parent"] or {"position": 0})["position"]
        """The position of the run at which this plan takes over from its parent; 0 for a plan without a parent."""
        self.shares: Floats = np.asarray([task.share for task in self.tasks], np.float64) / SHARE_UNITS

    def __repr__(self) -> str:
        return shortened(f"Plan {self.hash[:12]}: {self._in_short()}")

    def _repr_html_(self) -> str:
        columns = ["task", "kind", "owner", "share", "importance", "rule"]
        rows = [
            [task.name, task.task.kind, task.owner, float(share), task.importance, task.rule]
            for task, share in zip(self.tasks, self.shares, strict=True)
        ]
        return html_table(f"Plan {self.hash}: {self._in_short()}", columns, rows)

    def _in_short(self) -> str:
        return f"{self.phases.sum():,} draws for {', '.join(task.name for task in self.tasks)} at commit {self.commit}"

    @classmethod
    def open(cls, home: Path, prefix: str) -> "Plan":
        """The plan of `home` whose hash starts with `prefix`; NotFound if none or several do."""
        names = (path.parent.name for path in (home / "plans").glob("*/plan.json"))
        return cls(home / "plans" / full_name(prefix, names, what="plan", where=home, listed="amber plan --list"))

    @classmethod
    def newest(cls, home: Path) -> "Plan":
        """The most recently made plan of `home`; NotFound if there is none. What a training derived does not count."""
        headers = [
            path for path in (home / "plans").glob("*/plan.json") if not path.with_name("withdrawn.json").is_file()
        ]
        for path in sorted(headers, key=lambda path: path.stat().st_mtime_ns, reverse=True):
            if read_json(path, AGAIN, lambda header: header["format"]) == FORMAT and not _is_derived(path.parent):
                return cls(path.parent)
        raise NotFound(f"{home}: there is no plan yet; `amber plan` makes one")

    @classmethod
    def newest_or_none(cls, home: Path) -> "Plan | None":
        """`newest`, or None while there is no plan."""
        try:
            return cls.newest(home)
        except NotFound:
            return None

    def save(self, *, by: str = "", derived: bool = False) -> "Plan":
        """Write a draft, atomically; an equal plan that exists is opened and becomes the newest again.

        `by` says who made it, for `amber plan --list`. A plan that a training derives from its own, for the rest of its
        draws or for some of its tasks, is `derived`: it never is the newest.
        """
        made = json.dumps({"by": by, **({"derived": True} if derived else {})})
        exists = (self.folder / "plan.json").is_file()
        if exists and not derived:
            (self.folder / "plan.json").touch()
            if by or _is_derived(self.folder):
                with whole(self.folder / MADE) as part:
                    part.write_text(made)
        elif not exists:
            with whole(self.folder) as part:
                part.mkdir()
                with ThreadPoolExecutor(WRITERS) as pool:
                    list(pool.map(partial(_write_table, part), self._tables.items()))
                if by or derived:
                    (part / MADE).write_text(made)
                (part / "plan.json").write_text(json.dumps(self.header, indent=1))
        return Plan(self.folder)

    def verify(self) -> None:
        """Hash all tables again; Damaged names the first table that has changed."""
        for name, content in self.header["tables"].items():
            if digest(self._table(name)) != content:
                raise Damaged(f"{self.folder / name}.parquet: not the table that the plan was hashed with; plan again")

    def labels(self, rows: Int32s, positions: Ints | None = None) -> tuple[Float32s, Bools, Float32s]:
        """Values, known and weights [B, T] of the samples `rows` [B] at `positions` [B]; row -1 is padding.

        Values are class codes or numbers, 0 where unknown; for a multilabel or detection task the rarest class present.
        Weights are w_t, 0 where unknown. Without `positions`, weights are those of the first phase.

        >>> values, known, weights = plan.labels(plan.draws[:4])
        >>> values.shape == known.shape == weights.shape == (4, len(plan.tasks))
        True
        """
        values = np.zeros((len(rows), len(self.tasks)), np.float32)
        known = np.zeros(values.shape, np.bool_)
        weights = np.zeros(values.shape, np.float32)
        batch_row, entry = self.label_entries(rows)
        column = self.label_task[entry]
        phase = np.zeros(len(rows), np.int64) if positions is None else self.phase_at(positions)
        q = self.q[phase[batch_row], self.cell(column, self.label_stratum[entry])]
        p = draw_probabilities(q, self.shares[column], batch_row, len(rows))
        values[batch_row, column] = self.label_value[entry]
        known[batch_row, column] = True
        weights[batch_row, column] = label_weights(q, p, batch_row)
        return values, known, weights

    def presence(self, rows: Int32s) -> Int8s:
        """The states [B, M] of all multilabel tasks' classes, as in `presence.py`; -1 where there is no label."""
        batch_row, entry = self.label_entries(rows)
        return self._presence.of(batch_row, self.label_task[entry], entry, len(rows))

    def label_entries(self, rows: Int32s) -> tuple[Ints, Ints]:
        """The E known labels of the samples `rows` [B], by row and then by task: indices [E] into `rows`, and indices
        [E] into the label arrays."""
        safe = np.maximum(rows, 0)
        counts = np.where(rows >= 0, self._first_label[safe + 1] - self._first_label[safe], 0)
        batch_row = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(len(batch_row)) - np.repeat(np.cumsum(counts) - counts, counts)
        return batch_row, self._first_label[safe][batch_row] + within

    @property
    def seed(self) -> int:
        """The seed of the draws."""
        return int(self.header["seed"])

    def members(self, position: int) -> Ints:
        """Sorted rows of the samples in the stratum of the draw at `position`."""
        mine = (self.label_task == self.draw_task[position]) & (self.label_stratum == self.draw_stratum[position])
        return np.asarray(self.label_sample[mine], np.int64)

    def phase_at(self, positions: Ints) -> Ints:
        """The phase of each position; the last phase for positions beyond the end."""
        return np.minimum(np.searchsorted(np.cumsum(self.phases), positions, side="right"), len(self.phases) - 1)

    def probabilities(self, phase: int = 0) -> Floats:
        """p [S]: the probability that a draw of `phase` is this image; sums to 1."""
        q = self.q[phase, self.cell(self.label_task, self.label_stratum)]
        return draw_probabilities(q, self.shares[self.label_task], self.label_sample, len(self._first_label) - 1)

    def label_weights(self, phase: int = 0) -> Floats:
        """w [L]: the weight of each label when its image is drawn in `phase`."""
        q = self.q[phase, self.cell(self.label_task, self.label_stratum)]
        return label_weights(q, self.probabilities(phase), self.label_sample)

    def cell(self, task: npt.NDArray[np.integer], stratum: npt.NDArray[np.integer]) -> Ints:
        """The index of each (task, stratum) among all K strata of the plan."""
        return np.asarray(self.first_cell[task] + stratum, np.int64)

    def drawn(self) -> Ints:
        """The number of draws of each stratum for its task in each phase [P, K]."""
        cells = self.cell(self.draw_task, self.draw_stratum)
        bounds = pairwise([0, *np.cumsum(self.phases).tolist()])
        return np.stack([np.bincount(cells[begin:end], minlength=len(self.sizes)) for begin, end in bounds])

    def rates(self) -> Rows[dict[str, Any]]:
        """One row per task and stratum: its number of labels n, its target pi over all phases, and its draws.

        >>> sorted(plan.rates()[0])
        ['drawn', 'n', 'pi', 'stratum', 'task']
        """
        pi = self.phases @ self.pi / self.phases.sum()
        names = [(task.name, stratum) for task in self.tasks for stratum in task.strata]
        columns = (names, self.sizes.tolist(), pi.tolist(), self.drawn().sum(axis=0).tolist())
        rows = [
            {"task": task, "stratum": stratum, "n": n, "pi": target, "drawn": count}
            for (task, stratum), n, target, count in zip(*columns, strict=True)
        ]
        return Rows(rows, ("task", "stratum", "n", "pi", "drawn"))

    @cached_property
    def first_cell(self) -> Ints:
        """The index of each task's first stratum among all strata [T + 1]."""
        return np.cumsum([0, *(len(task.strata) for task in self.tasks)], dtype=np.int64)

    @cached_property
    def marks(self) -> tuple[tuple[str, ...], ...]:
        """The boosted slices that hold each of the K strata, and "mined" for a stratum of mined labels."""
        code = np.zeros(len(self.sizes), np.int64)
        code[self.cell(self.label_task, self.label_stratum)] = self.label_value
        names = [(task.task, name) for task in self.tasks for name in task.strata]
        return tuple(stratum_marks(task, c, name) for (task, name), c in zip(names, code.tolist(), strict=True))

    @cached_property
    def pi(self) -> Floats:
        """Targets of all strata [P, K]; a task's targets sum to 1 in each phase."""
        return np.asarray(self._rates["pi"].to_numpy().reshape(len(self.phases), -1) / PI_UNITS, np.float64)

    @cached_property
    def q(self) -> Floats:
        """The probability of one image of each stratum in a draw for its task [P, K]."""
        return np.asarray(self.pi / self.sizes, np.float64)

    @cached_property
    def sizes(self) -> Ints:
        """The number of labels of each stratum [K]."""
        return np.asarray(self._rates["n"].to_numpy()[: self.first_cell[-1]], np.int64)

    @cached_property
    def hot(self) -> Bools:
        """Whether a stratum's images are drawn more than twice per pass for its task [P, K]."""
        return np.asarray(self._rates["hot"], np.bool_).reshape(len(self.phases), -1)

    @cached_property
    def keys(self) -> pa.StringArray:
        """Sorted keys of the samples [S]."""
        return self._table("samples", "key")["key"].combine_chunks()

    @cached_property
    def shard(self) -> Int32s:
        """The index of each sample's shard in the pack [S]."""
        return self._column("samples", "shard")

    @cached_property
    def offset(self) -> Ints:
        """The byte offset of each sample's image in its shard [S]."""
        return self._column("samples", "offset")

    @cached_property
    def size(self) -> Int32s:
        """The size of each sample's image in bytes [S]."""
        return self._column("samples", "size")

    @cached_property
    def draws(self) -> Int32s:
        """The sample of each position: rows of the sample arrays [D]."""
        return self._column("draws", "sample")

    @cached_property
    def draw_task(self) -> Int16s:
        """The task of each draw [D]."""
        return self._column("draws", "task")

    @cached_property
    def draw_stratum(self) -> Int32s:
        """The stratum of each draw within its task [D]."""
        return self._column("draws", "stratum")

    @cached_property
    def label_sample(self) -> Int32s:
        """The sample of each label, ascending [L]."""
        return self._column("labels", "sample")

    @cached_property
    def label_task(self) -> Int16s:
        """The task of each label [L]."""
        return self._column("labels", "task")

    @cached_property
    def label_stratum(self) -> Int32s:
        """The stratum of each label [L] within its task."""
        return self._column("labels", "stratum")

    @cached_property
    def label_value(self) -> Floats:
        """The value of each label [L]: a class code or a number."""
        return self._column("labels", "value")

    @cached_property
    def label_lists(self) -> pa.Table:
        """Class codes of multilabel labels (`codes`) and boxes of detections (`boxes`) [L], if there is such a task.

        `looked` holds the class codes that were looked at, null for all of them, if some label says so.
        """
        made, path = self._tables.get("labels"), self.folder / "labels.parquet"
        names = made.column_names if made is not None else read_with(pq.read_schema, path, AGAIN).names
        return self._table("labels", "sample", *(name for name in ("codes", "looked", "boxes") if name in names))

    @cached_property
    def _presence(self) -> Presence:
        tasks = [task.task for task in self.tasks]
        return Presence(tasks, self.label_lists if any(task.kind == "multilabel" for task in tasks) else pa.table({}))

    @cached_property
    def _rates(self) -> pa.Table:
        return self._table("rates", "n", "pi", "hot")

    @cached_property
    def _first_label(self) -> Ints:
        """The index of each sample's first label [S + 1]."""
        return np.searchsorted(self.label_sample, np.arange(len(self.keys) + 1))

    def _column(self, table: str, name: str) -> npt.NDArray[Any]:
        return np.asarray(self._table(table, name)[name].to_numpy())

    def _table(self, table: str, *columns: str) -> pa.Table:
        if table in self._tables:
            return self._tables[table].select(columns or self._tables[table].column_names)
        return read_parquet(self.folder / f"{table}.parquet", AGAIN, columns=list(columns) or None)


def _header(folder: Path) -> dict[str, Any]:
    if not (folder / "plan.json").is_file():
        raise NotFound(f"{folder}: there is no plan; `amber plan` makes one")
    if (folder / "withdrawn.json").is_file():
        since = read_json(folder / "withdrawn.json", AGAIN, lambda note: str(note["at"]))
        raise NotFound(
            f"plan {folder.name[:12]}: withdrawn on {since}, one of its images was forgotten; make a new one"
        )
    header = read_json(folder / "plan.json", AGAIN, dict)
    if header.get("format") != FORMAT:
        raise NotFound(f"plan {folder.name[:12]}: format {header.get('format')}, must be {FORMAT}; plan again")
    if header.get("hash") != plan_hash({name: value for name, value in header.items() if name != "hash"}):
        raise Damaged(f"{folder / 'plan.json'}: differs from what was written (its hash is another); {AGAIN}")
    return header


def _is_derived(folder: Path) -> bool:
    """Whether a training derived the plan in `folder` from its own."""
    path = folder / MADE
    return path.is_file() and read_json(path, AGAIN, lambda made: bool(made.get("derived")))


def plan_hash(header: dict[str, Any]) -> str:
    """The hash of a plan, from its header without the hash."""
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()[:32]


def _write_table(folder: Path, named: tuple[str, pa.Table]) -> None:
    name, table = named
    words = [column for column in table.column_names if column == "name"]
    pq.write_table(
        table, folder / f"{name}.parquet", compression="zstd", use_dictionary=words or False, write_page_checksum=True
    )
