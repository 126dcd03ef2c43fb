"""Making a plan: a policy resolved at a commit, over the images of a pack."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from curation.files.digest import digest
from curation.ingest.leaks import refuse_leaks
from samplers.pack.pack import Pack
from samplers.plan.image_order import Sweep
from samplers.plan.interleave import deal, hash64, quotas
from samplers.plan.labels import Rows, eligible_labels, grouped
from samplers.plan.plan import FORMAT, DraftPlan, Plan
from samplers.plan.rates import SHARE_UNITS, Ints, quantise
from samplers.plan.strata import Strata, Within, strata_of
from samplers.policy.policy import Policy

__all__ = ["Parent", "draft_plan", "make_plan"]

THREADS = 2
PLACE = ["key", "shard", "offset", "size"]


@dataclass(frozen=True, kw_only=True)
class Parent:
    """The plan that another one goes on from, and at which of its positions."""

    plan: str
    position: int


def make_plan(
    catalog: Catalog, policy: Policy, pack: Pack, *, draws: int, seed: int = 0, commit: int | None = None
) -> Plan:
    """Resolve `policy` at `commit` into a plan of `draws` draws over the images of `pack`, and write it.

    An equal plan is opened, not written again. Raises as `draft_plan` does; nothing is written then.
    """
    return draft_plan(catalog, policy, pack, draws=draws, seed=seed, commit=commit).save()


def draft_plan(
    catalog: Catalog,
    policy: Policy,
    pack: Pack,
    *,
    draws: int,
    seed: int = 0,
    commit: int | None = None,
    parent: Parent | None = None,
) -> Plan:
    """A plan that is not written until it is saved.

    A pure function of the commit's content, the policy, the pack, `draws`, `seed` and `parent`. BadInput for a task
    without labels, for labelled images that the pack lacks, or where a group stands in training and in evaluation.
    """
    if draws < len(policy.phases):
        raise BadInput(f"draws {draws}: a plan has at least one in each of its {len(policy.phases)} phases; raise it")
    with catalog.read(commit) as now:
        policy.check(now)
        refuse_leaks(now)
        trained = {name: part for name, part in policy.task.items() if part.share > 0}
        inside = Within(now)
        strata = [
            strata_of(now, labels, trained[labels.task.name], inside, policy.phases)
            for labels in eligible_labels(now, trained, pack)
        ]
        at, commit_digest = now.commit, now.digest
    shares = quantise(np.asarray([part.share for part in trained.values()]), SHARE_UNITS)
    lengths = quotas(quantise(np.asarray(policy.phases), SHARE_UNITS), draws, seed=0)
    header = {
        "format": FORMAT, "commit": at, "digest": commit_digest, "policy": policy.drawn(), "seed": seed,
        "pack": pack.hash, "draws": draws, "phases": lengths.tolist(), "parent": vars(parent) if parent else None,
        "tasks": [_header_of(part, policy, int(share)) for part, share in zip(strata, shares, strict=True)],
    }  # fmt: skip
    tables = _tables(strata, shares, pack, lengths.tolist(), _order_seed(seed, parent))
    return Plan(*_hashed(catalog.home, header, tables))


def _order_seed(seed: int, parent: Parent | None) -> int:
    """A child plan has hashes of its own, so that it does not begin with the images that its parent began with."""
    return seed if parent is None else int(hash64(seed, parent.position)) >> 1


def _header_of(strata: Strata, policy: Policy, share: int) -> dict[str, Any]:
    part = policy.task[strata.task.name]
    mean, deviation, constant = map(_nine_digits, (*strata.statistics(), strata.constant_loss()))
    labelled = [_nine_digits(part) for part in strata.labelled().tolist()] if strata.task.classes else []
    return {
        "task": strata.task.model_dump(mode="json", exclude={"decide"}), "owner": part.owner, "share": share,
        "importance": part.importance, "rule": part.rule, "constant_loss": constant, "mean": mean,
        "deviation": deviation, "labelled": labelled, "class_factor": strata.class_factor(), "strata": strata.names,
    }  # fmt: skip


def _nine_digits(value: float) -> float:
    """Rounded, so that the last bits of a sum, which hang on the machine, stay out of the plan's hash."""
    return float(f"{value:.9g}")


def _tables(strata: Sequence[Strata], shares: Ints, pack: Pack, phases: list[int], seed: int) -> dict[str, pa.Table]:
    used = np.zeros(pack.images, np.bool_)
    for part in strata:
        used[part.labels.rows] = True
    kept = np.flatnonzero(used).astype(np.int32)
    row = np.cumsum(used, dtype=np.int32) - np.int32(1)
    samples = pq.read_table(pack.home / "packs" / pack.hash / "index.parquet", columns=PLACE).take(pa.array(kept))
    sweep = Sweep(samples["shard"].to_numpy(), seed)
    rates, draws = _drawn(strata, shares, row, sweep, phases, seed)
    return {"samples": samples, "labels": _label_table(strata, row, len(kept)), "rates": rates, "draws": draws}


def _label_table(strata: Sequence[Strata], row: Rows, samples: int) -> pa.Table:
    sample = np.concatenate([row[part.labels.rows] for part in strata])
    task = np.repeat(np.arange(len(strata), dtype=np.int16), [len(part.stratum) for part in strata])
    order, _ = grouped(sample, samples)
    columns = {
        "sample": sample[order], "task": task[order],
        "stratum": np.concatenate([part.stratum for part in strata])[order],
        "value": np.concatenate([part.labels.values for part in strata])[order],
    }  # fmt: skip
    return pa.table({**columns, **_several(strata, order)})


def _several(strata: Sequence[Strata], order: Rows) -> dict[str, pa.ChunkedArray]:
    """Lists of codes, and boxes, where a task has such labels; null for the labels of the others."""
    columns = {}
    for kind, name in (("multilabel", "codes"), ("detection", "boxes")):
        parts = [part.labels.several if part.task.kind == kind else None for part in strata]
        types = {part.type for part in parts if part is not None}
        if types:
            (type_,) = types
            filled = [pa.nulls(len(of.stratum), type_) if p is None else p for p, of in zip(parts, strata, strict=True)]
            columns[name] = pa.chunked_array([pa.concat_arrays(filled).take(pa.array(order))])
    return columns


def _drawn(
    strata: Sequence[Strata], shares: Ints, row: Rows, sweep: Sweep, phases: list[int], seed: int
) -> tuple[pa.Table, pa.Table]:
    """Rates and draws: in each phase the quotas of every stratum, their order over tasks, then strata, the images."""
    sizes = np.concatenate([part.counts for part in strata])
    first = np.cumsum([0, *(len(part.counts) for part in strata)], dtype=np.int64)
    members = [_members(part, row) for part in strata]
    draws = _Draws.empty(sum(phases))
    earlier: Ints = np.zeros(len(sizes), np.int64)
    rates, begin = [], 0
    with ThreadPoolExecutor(THREADS) as pool:
        for phase, length in enumerate(phases):
            target = [share * part.pi[phase] for share, part in zip(shares, strata, strict=True)]
            quota = quotas(np.concatenate(target), length, seed, phase)
            counts, before = (np.split(each, first[1:-1]) for each in (quota, earlier))

            def fill(task: tuple[int, Rows], counts: Any = counts, before: Any = before, length: int = length) -> None:
                code, places = task
                draws.fill(code, places, counts[code], members[code], sweep, before[code], length)

            positions = np.arange(begin, begin + length, dtype=np.int32)
            list(pool.map(fill, deal(np.asarray([part.sum() for part in counts]), positions)))
            rates.append(_rate_table(strata, phase, sweep.hot(quota, sizes, length)))
            earlier = earlier + quota
            begin += length
    return pa.concat_tables(rates), pa.table(vars(draws))


@dataclass(frozen=True)
class _Draws:
    """Columns of the draws [D], filled in task by task."""

    sample: Rows
    task: npt.NDArray[np.int16]
    stratum: Rows

    @classmethod
    def empty(cls, draws: int) -> "_Draws":
        return cls(np.empty(draws, np.int32), np.empty(draws, np.int16), np.empty(draws, np.int32))

    def fill(
        self, code: int, places: Rows, counts: Ints, members: list[Rows], sweep: Sweep, earlier: Ints, draws: int
    ) -> None:
        """The draws of one task in one phase of `draws`, at `places`: how many of each stratum, and which samples."""
        self.task[places] = code
        for cell, mine in deal(counts, places):
            self.stratum[mine] = cell
            self.sample[mine] = sweep.choose(
                members[cell], len(mine), cell=(code, cell), earlier=int(earlier[cell]), draws=draws
            )


def _members(part: Strata, row: Rows) -> list[Rows]:
    """The samples of each stratum, ascending."""
    order, ends = grouped(part.stratum, len(part.counts))
    return np.split(row[part.labels.rows[order]], ends[1:-1])


def _rate_table(strata: Sequence[Strata], phase: int, hot: npt.NDArray[np.bool_]) -> pa.Table:
    sizes = [len(part.counts) for part in strata]
    return pa.table(
        {
            "phase": pa.array(np.full(sum(sizes), phase, np.int16)),
            "task": pa.array(np.repeat(np.arange(len(strata), dtype=np.int16), sizes)),
            "stratum": pa.array(np.concatenate([np.arange(size, dtype=np.int32) for size in sizes])),
            "name": pa.array([name for part in strata for name in part.names], pa.string()),
            "n": pa.array(np.concatenate([part.counts for part in strata])),
            "pi": pa.array(np.concatenate([part.pi[phase] for part in strata])),
            "hot": pa.array(hot),
        }
    )


def _hashed(home: Path, header: dict[str, Any], tables: dict[str, pa.Table]) -> tuple[Path, DraftPlan]:
    """The folder of the plan, named by its hash, and what will lie in it."""
    with ThreadPoolExecutor(THREADS) as pool:
        contents = dict(zip(tables, pool.map(digest, tables.values()), strict=True))
    header = {**header, "tables": contents}
    hash_ = hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()[:32]
    return home / "plans" / hash_, DraftPlan(header={**header, "hash": hash_}, tables=tables)
