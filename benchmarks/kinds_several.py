"""Tasks of several classes: solved heads beside scikit-learn, the weights of their draws, and mining a class at 2%."""

import os
import time
import warnings

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GroupKFold

from benchmarks.kinds_data import Several, several
from benchmarks.table import Row, small
from curation.catalog.event_tables import LABELS
from curation.catalog.tasks import Task
from curation.requests.strategies import best_first, likely_share
from samplers.pack.pack_writer import make_pack
from samplers.plan.build import draft_plan
from samplers.plan.plan import PlanTask
from samplers.plan.presence import presence_entropy
from samplers.policy.policy import Policy
from training.loop.exact_heads import ExactHead, exact_head
from training.loop.task_labels import TaskLabels

__all__ = ["head_rows", "interval", "mining_rows", "weight_rows"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SEEDS = int(os.environ.get("SEEDS", "2" if small() else "5"))
FIRST_SEED = int(os.environ.get("FIRST_SEED", "10"))
PART = 0.25
"""Part of the training images whose labels are known to the heads that are compared."""
RIDGES = np.logspace(-1, -6, 11)
"""Ridges of scikit-learn, over the mean squared length of the features: as many as Amber's path has, over its span."""
RARE, STEPS = 0.02, 4
START, BUDGET = (40, 60) if small() else (100, 200)
"""Mining: how common the class is made, in how many rounds, labels at the start, and labels asked for."""


def head_rows() -> list[Row]:
    """Mean average precision on test of solved heads and of one logistic regression a class, on the same labels."""
    torch.set_num_threads(1)
    data, gaps, seconds = several(), list[float](), list[float]()
    first = data.rows("train")[:40]
    solved(data, first, data.states[first], 0)  # what the first call loads counts for nobody
    values: dict[str, list[float]] = {"amber": [], "scikit-learn": [], "base rate": []}
    for seed in range(FIRST_SEED, FIRST_SEED + SEEDS):
        train = data.rows("train")
        chosen = np.sort(np.random.default_rng(seed).permutation(train)[: max(40, round(PART * len(train)))])
        started = time.process_time()
        head = solved(data, chosen, data.states[chosen], seed)
        middle = time.process_time()
        theirs = one_against_rest(data, chosen)
        seconds.append((middle - started) / (time.process_time() - middle))
        test = data.rows("test")
        ours = scores_of(head, data, test)
        values["amber"].append(mean_precision(data.states[test], ours))
        values["scikit-learn"].append(mean_precision(data.states[test], theirs[test]))
        values["base rate"].append(mean_precision(data.states[test], np.zeros_like(ours)))
        gaps.append(values["amber"][-1] - values["scikit-learn"][-1])
    mean, low, high = interval(gaps)
    peers = {name: float(np.mean(each)) for name, each in values.items() if name != "amber"}
    base = float(np.mean(values["amber"]) - peers["base rate"])
    what = f"{data.name}, {len(data.classes)} classes"
    return [
        Row(what=f"mean AP of solved heads, {what}", value=float(np.mean(values["amber"])), asked="> base rate",
            met=bool(base > 0), peers=peers),
        Row(what="mean AP minus scikit-learn's, paired", value=mean, low=low, high=high, asked=">= -0.01",
            met=bool(low >= -0.01)),
        Row(what="CPU time over scikit-learn's, one thread", value=float(np.mean(seconds)), asked="<= 1",
            met=bool(np.mean(seconds) <= 1)),
    ]  # fmt: skip


def weight_rows() -> list[Row]:
    """How far the weighted mass of a stratum of several classes is from its target, over rules, shares and boosts."""
    data = several()
    catalog, name = data.catalog, "marks"
    _keep(data, name)
    worst, pack = 0.0, make_pack(catalog)
    for rule in ("natural", "balanced", "power", "effective_number", "repeat_factor"):
        for share in (0.05, 0.5, 0.95):
            with catalog.read() as now:
                other = next(task.name for task in now.tasks().values() if task.name != name)
            sections = {
                name: {"owner": "bench", "share": share, "importance": 0.5, "rule": rule, "cap": 5.0},
                other: {"owner": "bench", "share": 1 - share, "importance": 0.5},
            }
            plan = draft_plan(catalog, Policy.model_validate({"task": sections}), pack, draws=2_000)
            mine = plan.label_task == [task.name for task in plan.tasks].index(name)
            mass = (plan.probabilities()[plan.label_sample] * plan.label_weights())[mine]
            pi = np.array([row["pi"] for row in plan.rates() if row["task"] == name])
            worst = max(worst, float(np.abs(np.bincount(plan.label_stratum[mine], mass, len(pi)) - pi).max()))
    return [
        Row(what="largest |sum p w - pi| of a stratum, x 1e12", value=worst * 1e12, asked="<= 1", met=worst <= 1e-12)
    ]


def mining_rows() -> list[Row]:
    """Average precision of a class at 2% after 200 labels: asked for by its chance and by doubt, beside random ones."""
    data, gaps, found = several(), list[float](), {"mined": 0, "random": 0}
    values: dict[str, list[float]] = {"mined": [], "random": []}
    code = rare_class(data)
    for seed in range(FIRST_SEED, FIRST_SEED + SEEDS):
        pool, test = thinned(data, code, seed)
        for arm, each in values.items():
            known = mined(data, pool, code, seed, at_random=arm == "random")
            head = solved(data, known, data.states[known], seed)
            truth = data.states[test, code]
            each.append(float(average_precision_score(truth, scores_of(head, data, test)[:, code])))
            found[arm] += int((data.states[known, code] == 1).sum())
        gaps.append(values["mined"][-1] - values["random"][-1])
    mean, low, high = interval(gaps)
    peers = {f"AP {arm}": float(np.mean(each)) for arm, each in values.items()}
    counts = {f"{data.classes[code]} found, {arm}": found[arm] / SEEDS for arm in found}
    what = f"AP of {data.classes[code]} at 2% after {BUDGET} labels, mined minus random"
    return [
        Row(what=what, value=mean, low=low, high=high, asked="lower bound > 0", met=bool(low > 0), peers=peers | counts)
    ]


# Arms


def solved(data: Several, rows: Ints, states: npt.NDArray[np.int8], seed: int) -> ExactHead:
    """Amber's head on these images, each of one weight."""
    task = Task(name="marks", kind="multilabel", classes=data.classes, owner="bench")
    weights = np.full(len(rows), 1 / len(rows))
    planned = PlanTask(
        task=task, owner="bench", share=1, importance=1.0, rule="natural", mean=0.0, deviation=1.0, labelled=(),
        constant_loss=max(0.01, presence_entropy(states, weights)), class_factor=None, strata=(),
    )  # fmt: skip
    rarity = np.argsort(np.argsort((states == 1).sum(axis=0), kind="stable"))
    rarest = np.where(states == 1, rarity, len(rarity)).min(axis=1).astype(np.float64)
    labels = TaskLabels(
        task=planned, rows=rows, values=rarest, weights=weights, names=data.groups[rows], presence=states
    )
    return exact_head(labels, data.features[torch.from_numpy(rows)].double(), seed=seed)


def scores_of(head: ExactHead, data: Several, rows: Ints) -> Floats:
    """The outputs [n, C] of a head for some images."""
    own = data.features[torch.from_numpy(rows)].double()
    return np.asarray((own @ head.weights.T + head.biases).numpy(), np.float64)


def one_against_rest(data: Several, rows: Ints) -> Floats:
    """scikit-learn's outputs [n, C] for all images: one logistic regression a class, its C by grouped folds."""
    features, scores = data.features.numpy().astype(np.float64), np.zeros(data.states.shape)
    unit = float(((features[rows] - features[rows].mean(axis=0)) ** 2).sum(axis=1).mean())
    for code in range(len(data.classes)):
        own = rows[data.states[rows, code] >= 0]
        truth, groups = data.states[own, code], data.groups[own]
        folds = [
            (fit, held) for fit, held in GroupKFold(5).split(own, truth, groups)
            if len(np.unique(truth[fit])) > 1 and len(np.unique(truth[held])) > 1
        ]  # fmt: skip
        if not folds:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.simplefilter("ignore", FutureWarning)
            made = LogisticRegressionCV(
                Cs=(1 / (RIDGES * unit * len(own))).tolist(), cv=folds, scoring="neg_log_loss", tol=1e-4, max_iter=2_000
            ).fit(features[own], truth)
        scores[:, code] = made.decision_function(features)
    return scores


def mined(data: Several, pool: Ints, code: int, seed: int, *, at_random: bool) -> Ints:
    """The images known in the end: some to start with, then the budget in rounds, at random or as Amber asks."""
    generator = np.random.default_rng(seed)
    known, order = generator.permutation(pool)[:START], generator.permutation(len(pool))
    groups, share = data.groups[pool], 0.5
    for _ in range(STEPS):
        open_, count = ~np.isin(pool, known), BUDGET // STEPS
        if at_random:
            known = np.r_[known, pool[order[open_[order]]][:count]]
            continue
        chance = 1 / (1 + np.exp(-scores_of(solved(data, known, data.states[known], seed), data, pool)[:, code]))
        likely = best_first(chance, open_, groups)[: round(share * count)]
        open_[likely] = False
        doubt = best_first(np.minimum(chance, 1 - chance), open_, groups)[: count - len(likely)]
        asked = pool[np.r_[likely, doubt]]
        share = likely_share(int((data.states[asked, code] == 1).sum()), count)
        known = np.r_[known, asked]
    return np.sort(known)


# Data


def rare_class(data: Several) -> int:
    """The class that is thinned: CLASS, by default the rarest."""
    named = os.environ.get("CLASS", "")
    if named and named not in data.classes:
        raise SystemExit(f"CLASS={named}: must be one of {', '.join(data.classes)}; correct it")
    return data.classes.index(named) if named else int((data.states == 1).sum(axis=0).argmin())


def thinned(data: Several, code: int, seed: int) -> tuple[Ints, Ints]:
    """Training images of which 2% have the class, and all test images in which it is known."""
    rows = data.rows("train")
    rows = rows[data.states[rows, code] >= 0]
    there = data.states[rows, code] == 1
    keep = round(RARE / (1 - RARE) * int((~there).sum()))
    chosen = np.random.default_rng([seed, code]).permutation(rows[there])[:keep]
    test = data.rows("test", "validation")
    return np.sort(np.r_[rows[~there], chosen]), test[data.states[test, code] >= 0]


def mean_precision(states: npt.NDArray[np.int8], scores: Floats) -> float:
    """The mean over classes of the average precision, over what is known."""
    found = []
    for code in range(states.shape[1]):
        known = states[:, code] >= 0
        truth = states[known, code]
        if truth.any() and not truth.all():
            found.append(average_precision_score(truth, scores[known, code]))
    return float(np.mean(found))


def interval(values: list[float]) -> tuple[float, float, float]:
    """The mean and its two-sided 95% interval over seeds."""
    mean, half = float(np.mean(values)), np.inf
    if len(values) > 1:
        half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return mean, mean - half, mean + half


def _keep(data: Several, name: str) -> None:
    """Write the states as labels of a multilabel task into the workspace, once."""
    rows = [
        {
            "key": key, "task": name, "state": "known", "annotator": "bench",
            "names": [data.classes[code] for code in np.flatnonzero(states == 1)],
            "looked": [data.classes[code] for code in np.flatnonzero(states >= 0)],
        }
        for key, states in zip(data.keys, data.states, strict=True) if (states >= 0).any()
    ]  # fmt: skip
    with data.catalog.commit(author="bench", message="marks", batch="bench:marks") as change:
        change.add_tasks([Task(name=name, kind="multilabel", classes=data.classes, owner="bench")])
        change.add_labels(pa.Table.from_pylist(rows, LABELS), source="import")
