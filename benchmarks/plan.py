"""`make bench-plan`: how exact, even and fast plans are, against common mixers.

Catalogs of a fleet are built first (`fleet.py`), which takes longest. A plan is timed in a separate process, from
opening the catalog to the four files, three times where it is short; memory is that process's peak. Peers mix four
sources (`plan_peers.py`); they know no labels, so nothing else of theirs compares with a plan.
SCALE=small has a hundredth of the samples.
"""

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from benchmarks.fleet import fleet, policy_of
from benchmarks.plan_peers import WEIGHTS, evenness
from benchmarks.table import Row, finish, small
from curation.catalog.catalog import Catalog
from samplers.pack.pack import Pack
from samplers.plan.build import draft_plan
from samplers.plan.interleave import interleave
from samplers.plan.plan import Plan
from samplers.plan.task_outcomes import task_outcomes
from samplers.policy.policy import Policy

PEERS_PYTHON: Final = Path(".venv-plan-peers/bin/python")
MIXED: Final = 64_000
WINDOW: Final = 10_000
MILLION: Final = 10_000 if small() else 1_000_000

Found = dict[str, Any]


def main() -> None:
    """Measure all, and print the figures."""
    rows = _mixing()
    with tempfile.TemporaryDirectory(prefix="bench-plan-") as name:
        folder = Path(name)
        rows += _locality(folder / "locality")
        rows += _scale(folder)
    finish("plan", rows, samples=10 * MILLION)


def _mixing() -> list[Row]:
    """Four sources: ours and the peers."""
    with tempfile.TemporaryDirectory() as folder:
        words = [str(PEERS_PYTHON), str(Path(__file__).with_name("plan_peers.py")), str(MIXED), folder]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    peers: dict[str, Found] = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}
    counts = np.round(np.asarray(WEIGHTS) * MIXED).astype(np.int64)
    begun = time.perf_counter()
    order = np.empty(int(counts.sum()), np.int32)
    for source, positions in interleave(counts, np.arange(len(order), dtype=np.int32)):
        order[positions] = source
    ours = {"seconds": time.perf_counter() - begun, **evenness(order)}
    beside = {name: {key: peer[key] for key in ours} for name, peer in peers.items()}
    return [
        Row(
            what="mixing 64,000 draws of .5 .3 .15 .05: worst prefix deviation", value=ours["deviation"], unit=" draws",
            asked="<= 1", met=ours["deviation"] <= 1, peers={n: peer["deviation"] for n, peer in beside.items()},
        ),
        Row(
            what="the same: batches of 64 without the 5% source", value=100 * ours["without"], unit=" %", asked="0",
            met=ours["without"] == 0, peers={n: 100 * peer["without"] for n, peer in beside.items()},
        ),
        Row(
            what="the same: draws a second", value=MIXED / ours["seconds"],
            peers={n: MIXED / peer["seconds"] for n, peer in beside.items()},
        ),
    ]  # fmt: skip


def _locality(home: Path) -> list[Row]:
    """20 tasks of 20 strata: shards that a window of cold draws touches, against draws in random order."""
    pack = fleet(home, MILLION, tasks=20, labels=2 * MILLION, shard=MILLION // 1000)
    sections = policy_of(20)["task"]
    for section in sections.values():
        section |= {"share": 1 / 20, "boost": {}}
    plan = draft_plan(Catalog.open(home), Policy.model_validate({"task": sections}), pack, draws=MILLION).save()
    cold = ~plan.hot[0][plan.cell(plan.draw_task, plan.draw_stratum)]
    shard, window = plan.shard[plan.draws], WINDOW * MILLION // 1_000_000
    shuffled = np.random.default_rng(0).permutation(MILLION)
    ours, plain = (
        max(len(np.unique(shard[p][cold[p]])) for p in np.split(order, range(window, MILLION, window)))
        for order in (np.arange(MILLION), shuffled)
    )
    return [
        Row(
            what=f"shards of 1,000 that {window:,} draws touch, the worst", value=ours, asked="<= 150",
            met=ours <= 150, peers={"shuffled": plain},
        )
    ]  # fmt: skip


def _scale(folder: Path) -> list[Row]:
    rows = []
    for millions, tasks, bound, times in ((1, 50, 3.0, 3), (1, 1_000, None, 1), (10, 50, 30.0, 1)):
        samples, home = millions * MILLION, folder / f"{millions}-{tasks}"
        pack = fleet(home, samples, tasks=tasks, labels=2 * samples, classes=20 if tasks < 100 else 4)
        before = _image_bytes(home)
        took = [_timed(home, tasks, samples, seed) for seed in range(times)]
        seconds = median(part["seconds"] for part in took)
        rows.append(
            Row(
                what=f"{samples:,} samples, {tasks} tasks, {2 * samples:,} labels, {samples:,} draws", value=seconds,
                unit=" s", asked=f"<= {bound:.0f} s" if bound else "", met=bound is None or seconds <= bound,
                peers={"CPU s": median(part["cpu"] for part in took), "image bytes": _image_bytes(home) - before},
            )
        )  # fmt: skip
        if tasks == 50:
            rows += _exact(Plan.newest(home))
        if millions == 10:
            peak = max(part["peak"] for part in took)
            rows.append(Row(what="the same, memory at the peak", value=peak, unit=" GB", asked="<= 6", met=peak <= 6))
        shutil.rmtree(pack.home)
    return rows


def _exact(plan: Plan) -> list[Row]:
    """The identities of the mathematics on a large plan, and how even its draws are."""
    weights, p = plan.label_weights(), plan.probabilities()
    cells = plan.cell(plan.label_task, plan.label_stratum)
    off = float(np.abs(np.bincount(cells, p[plan.label_sample] * weights) - plan.pi[0]).max())
    bound = float((weights * plan.shares[plan.label_task]).max())
    ess = min(row.ess / row.share / len(plan.draws) for row in task_outcomes(plan))
    rates = np.repeat(plan.shares, np.diff(plan.first_cell)) * plan.pi[0]
    quota = float(np.abs(plan.drawn().sum(axis=0) - rates * len(plan.draws)).max())
    drawn = plan.cell(plan.draw_task, plan.draw_stratum)
    task, cell = deviation(plan.draw_task.astype(np.int64)), deviation(drawn)
    size = f"{len(plan.draws):,} draws"
    return [
        Row(what=f"{size}: sum of p w over a stratum against pi, the worst", value=off * 1e12, unit="e-12",
            asked="<= 1e-12", met=off <= 1e-12),
        Row(what=f"{size}: largest weight x share", value=bound, asked="<= 1", met=bound <= 1 + 1e-12),
        Row(what=f"{size}: least closed-form ESS / (share x draws)", value=ess, asked=">= 1", met=ess >= 1 - 1e-12),
        Row(what=f"{size}: quota of a stratum, off by", value=quota, unit=" draws", asked="< 1", met=quota < 1),
        Row(what=f"{size}: worst prefix deviation of a task", value=task, unit=" draws", asked="<= 1", met=task <= 1,
            peers={"from the share itself": deviation(plan.draw_task.astype(np.int64), plan.shares)}),
        Row(what=f"{size}: worst prefix deviation of a stratum", value=cell, unit=" draws", asked="<= 2.5",
            met=cell <= 2.5, peers={"from the rate itself": deviation(drawn, rates)}),
    ]  # fmt: skip


def deviation(symbols: np.ndarray, rates: np.ndarray | None = None) -> float:
    """The worst deviation, in draws, of any symbol from its rate (default: its share of all) at any prefix."""
    counts = np.bincount(symbols, minlength=0 if rates is None else len(rates))
    rates = counts / len(symbols) if rates is None else rates
    worst = 0.0
    for places, rate in zip(np.split(np.argsort(symbols, kind="stable"), np.cumsum(counts)[:-1]), rates, strict=True):
        seen = np.arange(1, len(places) + 1)
        ahead, behind = seen - rate * (places + 1), rate * places - (seen - 1)
        worst = max(worst, ahead.max(initial=0), behind.max(initial=0), rate * len(symbols) - len(places))
    return float(worst)


def _image_bytes(home: Path) -> int:
    return sum(path.stat().st_size for path in home.rglob("*.tar"))


def _timed(home: Path, tasks: int, draws: int, seed: int) -> Found:
    words = [sys.executable, "-m", "benchmarks.plan", "one", str(home), str(tasks), str(draws), str(seed)]
    found: Found = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    return found


def one(home: Path, tasks: int, draws: int, seed: int) -> None:
    """Make one plan in this process and print its time and memory."""
    policy = Policy.model_validate(policy_of(tasks))
    begun, cpu = time.perf_counter(), time.process_time()
    pack = Pack.open(home, next((home / "packs").iterdir()).name)
    draft_plan(Catalog.open(home), policy, pack, draws=draws, seed=seed).save()
    found = {
        "seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }  # fmt: skip
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        one(Path(sys.argv[2]), *map(int, sys.argv[3:]))
    else:
        main()
