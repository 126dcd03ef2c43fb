"""The plan: what will be drawn, resolved from a policy at a commit. Immutable, hashed, and the same everywhere.

The stream draws image i with probability p(i) = sum_t a_t q_t(i), and every known label of a drawn image counts with
the weight w_t(i) = q_t(i) / p(i) (balance heuristic, Veach & Guibas 1995). So each task sees exactly the distribution
q_t that its owner asked for, whatever the others ask: sum p w 1[stratum] = pi; w_t <= 1 / a_t; and the effective sample
size draws / sum q_t^2 / p is at least a_t x draws.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import BadInput, Damaged, NotFound
from curation.files import whole
from curation.leaks import refuse_leaks
from curation.ledger.catalog import Catalog
from curation.tasks import Task
from samplers.order import interleave, quotas, repeat_in_sweeps
from samplers.pack import Pack
from samplers.policy import Policy
from samplers.rates import PI_UNITS, SHARE_UNITS, Floats, Ints, quantise
from samplers.strata import Strata, strata_of

__all__ = ["Plan", "PlanTask", "Standing", "make_plan"]

FORMAT = 1


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
class Standing:
    """What a task gets out of a plan. `ess` is draws / sum q^2/p; `distinct_ess` counts repeats of an image once."""

    task: str
    owner: str
    share: float
    importance: float
    labels: int
    ess: float
    distinct_ess: float
    distinct: int
    most_repeated: int


class Plan:
    """A plan of D draws over S samples and T tasks, opened from `plans/<hash>/`.

    `draws` [D] gives each position's row in the sample arrays, `draw_task` and `draw_stratum` [D] whom it is for.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / "plan.json").is_file():
            raise NotFound(f"{folder}: there is no plan; `amber plan` makes one")
        if (folder / "withdrawn.json").is_file():
            since = json.loads((folder / "withdrawn.json").read_text())["at"]
            raise NotFound(
                f"plan {folder.name[:12]}: withdrawn on {since}, an image of it was forgotten; make a new one"
            )
        self.folder = folder
        self.header: dict[str, Any] = json.loads((folder / "plan.json").read_text())
        self.hash: str = self.header["hash"]
        self.pack_hash: str = self.header["pack"]
        self.commit: int = self.header["commit"]
        self.tasks = tuple(_plan_task(part) for part in self.header["tasks"])
        self._load(folder)

    @classmethod
    def open(cls, home: Path, prefix: str) -> "Plan":
        """The plan of `home` whose hash starts with `prefix`; NotFound when none or several do."""
        found = sorted(path.parent for path in (home / "plans").glob(f"{prefix}*/plan.json"))
        if len(found) != 1:
            raise NotFound(f"plan {prefix!r}: {len(found)} plans of {home} start so; `amber plan --list` lists them")
        return cls(found[0])

    @classmethod
    def newest(cls, home: Path) -> "Plan":
        """The plan of `home` that was written last."""
        headers = [
            path for path in (home / "plans").glob("*/plan.json") if not path.with_name("withdrawn.json").is_file()
        ]
        found = sorted(headers, key=lambda path: path.stat().st_mtime_ns)
        if not found:
            raise NotFound(f"{home}: there is no plan yet; `amber plan` makes one")
        return cls(found[-1].parent)

    def labels(
        self, rows: npt.NDArray[np.int32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
        """Values, known and weights [B, T] of the samples `rows` [B]; padding rows (-1) know nothing.

        Values are class codes or numbers, 0 where unknown; weights are w_t, 0 where unknown.
        """
        values = np.zeros((len(rows), len(self.tasks)), np.float32)
        known = np.zeros(values.shape, np.bool_)
        weights = np.zeros(values.shape, np.float32)
        safe = np.maximum(rows, 0)
        counts = np.where(rows >= 0, self._first[safe + 1] - self._first[safe], 0)
        batch_row = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(len(batch_row)) - np.repeat(np.cumsum(counts) - counts, counts)
        entry = self._first[safe][batch_row] + within
        column = self.label_task[entry]
        values[batch_row, column] = self.label_value[entry]
        known[batch_row, column] = True
        weights[batch_row, column] = self.label_weight[entry]
        return values, known, weights

    @property
    def seed(self) -> int:
        """The seed of whatever is drawn."""
        return int(self.header["seed"])

    def members(self, position: int) -> npt.NDArray[np.int64]:
        """Rows of the samples in the stratum that the draw at `position` is from, sorted."""
        mine = (self.label_task == self.draw_task[position]) & (self.label_stratum == self.draw_stratum[position])
        return np.asarray(self.label_sample[mine], np.int64)

    def standings(self) -> list[Standing]:
        """What every task gets, in closed form, and its distinct figures from the draws themselves."""
        times = np.bincount(self.draws, minlength=len(self.keys))
        rows = []
        for code, task in enumerate(self.tasks):
            mine = self.label_task == code
            sample, weight = self.label_sample[mine], self.label_weight64[mine]
            q = weight * self.p[sample]
            own = np.bincount(self.draws[self.draw_task == code], minlength=1)
            mass = times[sample] * weight
            rows.append(
                Standing(
                    task=task.name, owner=task.owner, share=task.share / SHARE_UNITS, importance=task.importance,
                    labels=int(mine.sum()),
                    ess=float(len(self.draws) / (q * weight).sum()) if q.any() else 0.0,
                    distinct_ess=float(mass.sum() ** 2 / (mass**2).sum()) if mass.any() else 0.0,
                    distinct=int((mass > 0).sum()), most_repeated=int(own.max()),
                )
            )  # fmt: skip
        return rows

    def rates(self) -> list[dict[str, Any]]:
        """One row for each task and stratum: its labels n, target pi, and how often it was drawn for its task."""
        table = pq.read_table(self.folder / "rates.parquet").to_pylist()
        drawn = np.bincount(self._first_cell[self.draw_task] + self.draw_stratum, minlength=len(table))
        return [
            {
                "task": self.tasks[row["task"]].name, "stratum": row["name"], "n": row["n"],
                "pi": row["pi"] / PI_UNITS, "drawn": int(count),
            }
            for row, count in zip(table, drawn, strict=True)
        ]  # fmt: skip

    def _load(self, folder: Path) -> None:
        try:
            samples, labels, rates, draws = (
                pq.read_table(folder / f"{name}.parquet") for name in ("samples", "labels", "rates", "draws")
            )
        except (OSError, pa.ArrowException) as error:
            raise Damaged(f"{folder}: {error}; make the plan again") from error
        self.keys: pa.StringArray = samples["key"].combine_chunks()
        self.shard, self.offset, self.size = (samples[name].to_numpy() for name in ("shard", "offset", "size"))
        self.draws, self.draw_task, self.draw_stratum = (
            draws[name].to_numpy() for name in ("sample", "task", "stratum")
        )
        self.label_sample, self.label_task, self.label_stratum, self.label_value = (
            labels[name].to_numpy() for name in ("sample", "task", "stratum", "value")
        )
        self._first = np.searchsorted(self.label_sample, np.arange(len(samples) + 1))
        cells = rates["task"].to_numpy()
        self._first_cell = np.searchsorted(cells, np.arange(len(self.tasks)))
        share = np.asarray([task.share for task in self.tasks], np.float64) / SHARE_UNITS
        cell = self._first_cell[self.label_task] + self.label_stratum
        q = (rates["pi"].to_numpy() / PI_UNITS / rates["n"].to_numpy())[cell]
        self.p = np.bincount(self.label_sample, share[self.label_task] * q, minlength=len(samples))
        """p [S]: the probability with which one draw is this image."""
        self.label_weight64: Floats = np.where(share[self.label_task] > 0, q, 0.0) / self.p[self.label_sample]
        self.label_weight = self.label_weight64.astype(np.float32)


def make_plan(
    catalog: Catalog, policy: Policy, pack: Pack, *, draws: int, seed: int = 0, commit: int | None = None
) -> Plan:
    """Resolve `policy` at `commit` into a plan of `draws` draws over the images of `pack`.

    A pure function of the commit's content, the policy, the pack, `draws` and `seed`: an equal plan is opened, not
    written again. BadInput for a task without labels, for labelled images that the pack lacks, or where a group stands
    in training and in evaluation.
    """
    if draws < 1:
        raise BadInput(f"draws {draws}: a plan has at least 1; raise it")
    with catalog.read(commit) as now:
        policy.check(now)
        refuse_leaks(now)
        trained = {name: part for name, part in policy.task.items() if part.share > 0}
        strata = [strata_of(now, now.task(name), part) for name, part in trained.items()]
        samples = now.samples().select(["sample_id", "key"])
        at, digest = now.commit, now.digest
    ids = np.unique(np.concatenate([part.samples for part in strata]))
    keys = _keys(samples, ids)
    shares = quantise(np.asarray([part.share for part in trained.values()]), SHARE_UNITS)
    header = {
        "format": FORMAT, "commit": at, "digest": digest, "policy": policy.model_dump(mode="json"), "seed": seed,
        "pack": pack.hash, "draws": draws,
        "tasks": [
            _header_of(part, policy, int(share)) for part, share in zip(strata, shares, strict=True)
        ],
    }  # fmt: skip
    tables = {
        "samples": _sample_table(pack, keys),
        "labels": _label_table(strata, ids, keys),
        "rates": _rate_table(strata),
        "draws": _draw_table(strata, shares, ids, keys, draws, seed),
    }
    return Plan(_write(catalog.home, header, tables))


def _keys(samples: pa.Table, ids: Ints) -> list[str]:
    of = dict(zip(samples["sample_id"].to_pylist(), samples["key"].to_pylist(), strict=True))
    return [of[id_] for id_ in ids.tolist()]


def _header_of(strata: Strata, policy: Policy, share: int) -> dict[str, Any]:
    part = policy.task[strata.task.name]
    mean, deviation, constant = map(_nine_digits, (*strata.statistics(), strata.constant_loss()))
    classes = 0 if strata.task.kind == "regression" else len(strata.task.classes)
    mass = np.bincount(strata.classes, strata.labelled_mass, minlength=classes)
    labelled = [_nine_digits(part) for part in mass.tolist()] if classes else []
    return {
        "task": strata.task.model_dump(mode="json"), "owner": part.owner, "share": share,
        "importance": part.importance, "rule": part.rule, "constant_loss": constant, "mean": mean,
        "deviation": deviation, "labelled": labelled, "class_factor": strata.class_factor(), "strata": strata.names,
    }  # fmt: skip


def _nine_digits(value: float) -> float:
    """Rounded, so that the last bits of a sum, which hang on the machine, stay out of the plan's hash."""
    return float(f"{value:.9g}")


def _order(keys: Sequence[str]) -> Ints:
    """Places of the samples in the plan: by key, so that ids, which hang on the order of ingest, do not matter."""
    rank = np.empty(len(keys), np.int64)
    rank[sorted(range(len(keys)), key=keys.__getitem__)] = np.arange(len(keys))
    return rank


def _sample_table(pack: Pack, keys: Sequence[str]) -> pa.Table:
    keys = sorted(keys)
    rows = pack.rows(keys)
    return pa.table(
        {
            "key": pa.array(keys, pa.string()),
            "shard": pa.array(pack.shard[rows], pa.int32()),
            "offset": pa.array(pack.offset[rows], pa.int64()),
            "size": pa.array(pack.size[rows], pa.int32()),
        }
    )


def _label_table(strata: Sequence[Strata], ids: Ints, keys: Sequence[str]) -> pa.Table:
    rank = _order(keys)
    sample = np.concatenate([rank[np.searchsorted(ids, part.samples)] for part in strata])
    task = np.repeat(np.arange(len(strata)), [len(part.samples) for part in strata])
    order = np.lexsort((task, sample))
    return pa.table(
        {
            "sample": pa.array(sample[order], pa.int32()),
            "task": pa.array(task[order], pa.int16()),
            "stratum": pa.array(np.concatenate([part.stratum for part in strata])[order], pa.int32()),
            "value": pa.array(np.concatenate([part.values for part in strata])[order], pa.float64()),
        }
    )


def _rate_table(strata: Sequence[Strata]) -> pa.Table:
    return pa.table(
        {
            "task": pa.array(np.repeat(np.arange(len(strata)), [len(part.pi) for part in strata]), pa.int16()),
            "stratum": pa.array(np.concatenate([np.arange(len(part.pi)) for part in strata]), pa.int32()),
            "name": pa.array([name for part in strata for name in part.names], pa.string()),
            "n": pa.array(np.concatenate([part.counts for part in strata]), pa.int64()),
            "pi": pa.array(np.concatenate([part.pi for part in strata]), pa.int64()),
        }
    )


def _draw_table(
    strata: Sequence[Strata], shares: Ints, ids: Ints, keys: Sequence[str], draws: int, seed: int
) -> pa.Table:
    """Quotas of every (task, stratum), their order over tasks and then strata, and the images of each in sweeps."""
    quota = quotas(np.concatenate([share * part.pi for share, part in zip(shares, strata, strict=True)]), draws, seed)
    parts = np.split(quota, np.cumsum([len(part.pi) for part in strata])[:-1])
    task = interleave(np.asarray([part.sum() for part in parts]))
    stratum = np.empty(draws, np.int32)
    sample = np.empty(draws, np.int32)
    rank = _order(keys)
    for code, (mine, part) in enumerate(zip(parts, strata, strict=True)):
        places = np.flatnonzero(task == code)
        stratum[places] = interleave(mine)
        rows = rank[np.searchsorted(ids, part.samples)]
        for cell, count in enumerate(mine.tolist()):
            members = np.sort(rows[part.stratum == cell])
            chosen = repeat_in_sweeps(count, len(members), seed, code, cell)
            sample[places[stratum[places] == cell]] = members[chosen]
    return pa.table(
        {
            "sample": pa.array(sample, pa.int32()),
            "task": pa.array(task, pa.int16()),
            "stratum": pa.array(stratum),
        }
    )


def _write(home: Path, header: dict[str, Any], tables: dict[str, pa.Table]) -> Path:
    """Write the folder beside its place and rename it, so that a plan is there whole or not at all."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tables):
        for column in tables[name].column_names:
            digest.update(f"{name}.{column}".encode())
            digest.update(_bytes(tables[name][column]))
    hash_ = digest.hexdigest()[:32]
    final = home / "plans" / hash_
    if (final / "plan.json").is_file():
        return final
    with whole(final) as part:
        part.mkdir()
        for name, table in tables.items():
            pq.write_table(table, part / f"{name}.parquet")
        (part / "plan.json").write_text(json.dumps({**header, "hash": hash_}, indent=1))
    return final


def _bytes(column: pa.ChunkedArray) -> bytes:
    if pa.types.is_string(column.type):
        return "\0".join(column.to_pylist()).encode()
    return bytes(column.to_numpy().tobytes())


def _plan_task(part: dict[str, Any]) -> PlanTask:
    factor = part["class_factor"]
    return PlanTask(
        **{**part, "task": Task.model_validate(part["task"]), "strata": tuple(part["strata"]),
           "labelled": tuple(part["labelled"]), "class_factor": None if factor is None else tuple(factor)},
    )  # fmt: skip
