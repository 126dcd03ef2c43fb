"""Make a plan: resolve a policy at a commit of the catalog, over the images of a pack."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.arrays import Bools, Int16s, Int32s, Ints
from curation.catalog.catalog import Catalog
from curation.catalog.ownership import Identity, os_user
from curation.errors import BadInput
from curation.files.digest import digest
from curation.ingestion.leaks import refuse_leaks
from samplers.pack.pack import Pack
from samplers.plan.image_order import ImageOrder
from samplers.plan.interleave import hash64, interleave, quotas
from samplers.plan.labels import eligible_labels, group_by_code
from samplers.plan.plan import FORMAT, DraftPlan, Plan, plan_hash
from samplers.plan.rates import SHARE_UNITS, quantise
from samplers.plan.sign_off import save_signed
from samplers.plan.strata import SliceMembership, Strata, strata_of
from samplers.policy.policy import Policy

__all__ = ["Parent", "draft_plan", "make_plan"]

THREADS = 2
LOCATION_COLUMNS = ["key", "shard", "offset", "size"]


@dataclass(frozen=True, kw_only=True)
class Parent:
    """The plan that a child plan continues, and the position at which the child takes over."""

    plan: str
    position: int


def make_plan(
    catalog: Catalog, policy: Policy, pack: Pack, *, draws: int, seed: int = 0, commit: int | None = None,
    by: Identity | None = None,
) -> Plan:  # fmt: skip
    """The written plan of `draws` draws for `policy` at `commit` (default: the newest), over the images of `pack`.

    An equal plan that exists is opened, not written again. Raises what `draft_plan` raises, and BadInput where the
    plan takes from an owner who has not signed it off and of whom `by` (default: the operating system's user) is no
    member (`samplers.plan.sign_off`); then nothing is written.

    >>> with catalog.read() as now:
    ...     policy = Policy.for_labelled(now)
    >>> plan = make_plan(catalog, policy, make_pack(catalog), draws=100)
    >>> len(plan.draws), plan.hash == make_plan(catalog, policy, make_pack(catalog), draws=100).hash
    (100, True)
    """
    draft = draft_plan(catalog, policy, pack, draws=draws, seed=seed, commit=commit)
    return save_signed(catalog, draft, Plan.newest_or_none(catalog.home), policy, by=by or os_user())


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
    """A plan in memory; `save` writes it without asking for sign-offs, which `make_plan` does.

    A pure function of the commit's content, the policy, the pack, `draws`, `seed` and `parent`. BadInput for a task
    without labels, for labelled images that the pack lacks, and for a group that is both in training and in evaluation.

    >>> with catalog.read() as now:
    ...     policy = Policy.for_labelled(now)
    >>> draft = draft_plan(catalog, policy, make_pack(catalog), draws=100, seed=7)
    >>> draft.folder.exists(), draft.save().folder.exists()
    (False, True)
    """
    if draws < len(policy.phases):
        raise BadInput(f"draws {draws}: at least one for each of the {len(policy.phases)} phases; raise it")
    with catalog.read(commit) as now:
        policy.check(now)
        refuse_leaks(now)
        trained = {name: section for name, section in policy.task.items() if section.share > 0}
        membership = SliceMembership(now)
        strata = [
            strata_of(now, labels, trained[labels.task.name], membership, policy.phases)
            for labels in eligible_labels(now, trained, pack)
        ]
        commit, commit_digest = now.commit, now.digest
    shares = quantise(np.asarray([section.share for section in trained.values()]), SHARE_UNITS)
    lengths = quotas(quantise(np.asarray(policy.phases), SHARE_UNITS), draws, seed=0)
    header = {
        "format": FORMAT, "commit": commit, "digest": commit_digest, "policy": policy.sampling_rules(), "seed": seed,
        "pack": pack.hash, "draws": draws, "phases": lengths.tolist(), "parent": vars(parent) if parent else None,
        "tasks": [_header_of(part, policy, int(share)) for part, share in zip(strata, shares, strict=True)],
    }  # fmt: skip
    tables = _tables(strata, shares, pack, lengths.tolist(), _order_seed(seed, parent))
    return Plan(*_hashed(catalog.home, header, tables))


def _order_seed(seed: int, parent: Parent | None) -> int:
    """The seed of the image order: a child's differs from its parent's, so the child starts with other images."""
    return seed if parent is None else int(hash64(seed, parent.position)) >> 1


def _header_of(strata: Strata, policy: Policy, share: int) -> dict[str, Any]:
    section = policy.task[strata.task.name]
    mean, deviation, constant = map(_nine_digits, (*strata.statistics(), strata.constant_loss()))
    labelled = [_nine_digits(count) for count in strata.class_counts().tolist()] if strata.task.classes else []
    found = {
        "task": strata.task.model_dump(mode="json", exclude={"decide"}), "owner": section.owner, "share": share,
        "importance": section.importance, "rule": section.rule, "constant_loss": constant, "mean": mean,
        "deviation": deviation, "labelled": labelled, "class_factor": strata.class_factor(), "strata": strata.names,
    }  # fmt: skip
    attributes = [
        {name: _nine_digits(value) if isinstance(value, float) else value for name, value in vars(each).items()}
        for each in strata.attributes()
    ]
    return found | {"attributes": attributes} if attributes else found


def _nine_digits(value: float) -> float:
    """`value` rounded: the last bits of a sum depend on the machine and must not enter the plan's hash."""
    return float(f"{value:.9g}")


def _tables(strata: Sequence[Strata], shares: Ints, pack: Pack, phases: list[int], seed: int) -> dict[str, pa.Table]:
    used = np.zeros(pack.images, np.bool_)
    for part in strata:
        used[part.labels.rows] = True
    kept = np.flatnonzero(used).astype(np.int32)
    row = np.cumsum(used, dtype=np.int32) - np.int32(1)
    samples = pq.read_table(pack.home / "packs" / pack.hash / "index.parquet", columns=LOCATION_COLUMNS).take(
        pa.array(kept)
    )
    image_order = ImageOrder(samples["shard"].to_numpy(), seed)
    rates, draws = _rates_and_draws(strata, shares, row, image_order, phases, seed)
    return {"samples": samples, "labels": _label_table(strata, row, len(kept)), "rates": rates, "draws": draws}


def _label_table(strata: Sequence[Strata], row: Int32s, samples: int) -> pa.Table:
    sample = np.concatenate([row[part.labels.rows] for part in strata])
    task = np.repeat(np.arange(len(strata), dtype=np.int16), [len(part.stratum) for part in strata])
    order, _ = group_by_code(sample, samples)
    columns = {
        "sample": sample[order], "task": task[order],
        "stratum": np.concatenate([part.stratum for part in strata])[order],
        "value": np.concatenate([part.labels.values for part in strata])[order],
    }  # fmt: skip
    return pa.table({**columns, **_list_columns(strata, order)})


def _list_columns(strata: Sequence[Strata], order: Int32s) -> dict[str, pa.ChunkedArray]:
    """Columns `codes`, `looked` and `boxes`, each if a task has such labels; null for labels of other tasks."""
    columns = {}
    for kind, name in (("multilabel", "codes"), ("multilabel", "looked"), ("detection", "boxes")):
        parts = [_lists(part, name) if part.task.kind == kind else None for part in strata]
        types = {part.type for part in parts if part is not None}
        if types:
            (type_,) = types
            filled = [
                pa.nulls(len(task.stratum), type_) if lists is None else lists
                for lists, task in zip(parts, strata, strict=True)
            ]
            columns[name] = pa.chunked_array([pa.concat_arrays(filled).take(pa.array(order))])
    return columns


def _lists(part: Strata, name: str) -> pa.ListArray | None:
    return part.labels.looked if name == "looked" else part.labels.lists


def _rates_and_draws(
    strata: Sequence[Strata], shares: Ints, row: Int32s, image_order: ImageOrder, phases: list[int], seed: int
) -> tuple[pa.Table, pa.Table]:
    """The tables of rates and draws. A phase fixes the quotas of strata, then the order of tasks, strata and images."""
    sizes = np.concatenate([part.counts for part in strata])
    first = np.cumsum([0, *(len(part.counts) for part in strata)], dtype=np.int64)
    members = [_members(part, row) for part in strata]
    draws = _DrawColumns.empty(sum(phases))
    earlier: Ints = np.zeros(len(sizes), np.int64)
    rates, begin = [], 0
    with ThreadPoolExecutor(THREADS) as pool:
        for phase, length in enumerate(phases):
            target = [share * part.pi[phase] for share, part in zip(shares, strata, strict=True)]
            quota = quotas(np.concatenate(target), length, seed, phase)
            counts, before = (np.split(each, first[1:-1]) for each in (quota, earlier))

            def fill(
                task: tuple[int, Int32s], counts: Any = counts, before: Any = before, length: int = length
            ) -> None:
                code, at = task
                draws.fill(code, at, counts[code], members[code], image_order, before[code], length)

            positions = np.arange(begin, begin + length, dtype=np.int32)
            list(pool.map(fill, interleave(np.asarray([part.sum() for part in counts]), positions)))
            rates.append(_rate_table(strata, phase, image_order.hot(quota, sizes, length)))
            earlier = earlier + quota
            begin += length
    return pa.concat_tables(rates), pa.table(vars(draws))


@dataclass(frozen=True)
class _DrawColumns:
    """Columns of the draws [D]; `fill` sets those of one task."""

    sample: Int32s
    task: Int16s
    stratum: Int32s

    @classmethod
    def empty(cls, draws: int) -> "_DrawColumns":
        return cls(np.empty(draws, np.int32), np.empty(draws, np.int16), np.empty(draws, np.int32))

    def fill(
        self,
        code: int,
        positions: Int32s,
        counts: Ints,
        members: list[Int32s],
        image_order: ImageOrder,
        earlier: Ints,
        draws: int,
    ) -> None:
        """Set the draws of task `code` at `positions` in a phase of `draws`: `counts` draws of each stratum."""
        self.task[positions] = code
        for cell, mine in interleave(counts, positions):
            self.stratum[mine] = cell
            self.sample[mine] = image_order.choose(
                members[cell], len(mine), cell=(code, cell), earlier=int(earlier[cell]), draws=draws
            )


def _members(part: Strata, row: Int32s) -> list[Int32s]:
    """The samples of each stratum, in ascending order."""
    order, ends = group_by_code(part.stratum, len(part.counts))
    return np.split(row[part.labels.rows[order]], ends[1:-1])


def _rate_table(strata: Sequence[Strata], phase: int, hot: Bools) -> pa.Table:
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
    """The plan's folder, named by its hash, and the plan's content."""
    with ThreadPoolExecutor(THREADS) as pool:
        contents = dict(zip(tables, pool.map(digest, tables.values()), strict=True))
    header = {**header, "tables": contents}
    hash_ = plan_hash(header)
    return home / "plans" / hash_, DraftPlan(header={**header, "hash": hash_}, tables=tables)
