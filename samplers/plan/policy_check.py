"""Advice on a policy: all its problems, notes on unusual choices, and a suggested first policy."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from pydantic import ValidationError

from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import AmberError, BadInput
from curation.files.toml_files import parse
from samplers.plan.labels import TaskLabels, known_labels
from samplers.plan.rates import PI_UNITS, quantise
from samplers.plan.strata import SliceMembership, Strata, strata_of
from samplers.policy.policy import Policy, TaskPolicy, boost_problems

__all__ = ["notes", "problems", "suggest"]

MANY = 10.0
"""Expected draws of one image, in L draws of a task with L labels, above which a cap is suggested."""
UNEVEN = 3.0
"""Ratio of the most common to the rarest class above which the rule "power" is suggested."""
RARE = 0.05
"""The fraction of a task's labels up to which a rare slice is boosted."""
MAX_BOOST = 8.0
DIGITS = 10_000


def problems(data: dict[str, Any], now: Snapshot) -> list[str]:
    """One line for each reason why the content of a policy file cannot be planned at this snapshot."""
    found: list[str] = []
    try:
        parse(Policy, data, where="policy")
    except BadInput as error:
        found += str(error).removeprefix("policy: ").split("; ")[:-1]  # without the fix at the end of the message
    sections = data.get("task", {})
    slices = now.slices()
    for name, fields in sections.items() if isinstance(sections, dict) else ():
        try:
            task = now.task(name)
        except AmberError as error:
            found.append(str(error))
            continue
        try:
            part = TaskPolicy.model_validate(fields)
        except ValidationError:
            continue
        found += [problem.removeprefix("policy: ") for problem in boost_problems(name, part, slices)]
        found += _unlabelled(now, task, part)
    return list(dict.fromkeys(found))


def notes(policy: Policy, now: Snapshot) -> list[str]:
    """One line for each unusual choice in a valid policy."""
    found = list[str]()
    for name, part in policy.task.items():
        if part.share == 0:
            found.append(f"task {name}: share 0, so it does not train on its labels")
            continue
        strata = strata_of(now, known_labels(now, now.task(name), part), part, SliceMembership(now), policy.phases)
        found += _notes_of(name, part, strata)
    return found


def suggest(now: Snapshot) -> str:
    """A first policy as TOML, over every task with at least one training label at this snapshot.

    Importances are equal. Shares follow the square root of the number of labels, at least half of an equal share.
    Uneven classes get the rule "power" with gamma 0.5; rare slices are boosted towards 5% of the task's labels, by at
    most 8; a cap of 10 bounds images that would be drawn more often. BadInput if no task can be trained.
    """
    plain = TaskPolicy(owner="nobody", share=1, importance=1)
    tasks = [task for task in now.tasks().values() if not list(_unlabelled(now, task, plain))]
    if not tasks:
        raise BadInput("policy: there is no label to train on for any task; request labels, or declare a task")
    labels = [known_labels(now, task, plain) for task in tasks]
    even = 1 / len(tasks)
    wish = np.sqrt([len(part.rows) for part in labels])
    wish = np.maximum(wish / wish.sum(), even / 2)
    shares, importances = (quantise(part, DIGITS) / DIGITS for part in (wish, np.full(len(tasks), even)))
    given = zip(labels, shares.tolist(), importances.tolist(), strict=True)
    return "\n".join(_section(*_advised(now, part, share, importance)) for part, share, importance in given)


def _unlabelled(now: Snapshot, task: Task, part: TaskPolicy) -> Iterator[str]:
    if part.share > 0:
        try:
            known_labels(now, task, part)
        except BadInput as error:
            yield str(error).removeprefix("policy: ")


def _notes_of(name: str, part: TaskPolicy, strata: Strata) -> Iterator[str]:
    for boosted in part.boost:
        if not any(boosted in marks for marks in strata.marks):
            yield f"task {name}: boosts {boosted}, which holds no label yet, so the boost has no effect"
    often = strata.pi.max(axis=0) / PI_UNITS / strata.counts * strata.counts.sum()
    for stratum, n, times in zip(strata.names, strata.counts.tolist(), often.tolist(), strict=True):
        if n == 1:
            yield f"task {name}: stratum {stratum} has one sample, so every draw of it is that sample"
        if times > MANY:
            yield (
                f"task {name}: each of the {n:,} images of {stratum} is drawn {times:.1f} times in as many draws as the"
                " task has labels; set a cap to bound that"
            )


def _advised(now: Snapshot, labels: TaskLabels, share: float, importance: float) -> tuple[Strata, TaskPolicy]:
    task, membership = labels.task, SliceMembership(now)
    part = TaskPolicy(owner=task.owner, share=share, importance=importance)
    fraction = {
        name: float(membership.slice(name, labels.samples).mean()) for name, declared in now.slices().items()
        if declared.rare and declared.task == task.name and not declared.reads_predictions
    }  # fmt: skip
    boost = {name: round(min(MAX_BOOST, RARE / f), 1) for name, f in fraction.items() if 0 < f < RARE}
    plain = strata_of(now, labels, part, membership)
    uneven = task.kind != "regression" and plain.counts.max() > UNEVEN * plain.counts.min()
    part = part.model_copy(update={"boost": boost, "rule": "power" if uneven else "natural"})
    strata = strata_of(now, labels, part, membership)
    if (strata.targets / strata.counts * strata.counts.sum()).max() > MANY:
        part = part.model_copy(update={"cap": MANY})
    return strata, part


def _section(strata: Strata, part: TaskPolicy) -> str:
    """One task as TOML, with its labels by stratum as comments."""
    boost = ", ".join(f"{name} = {factor}" for name, factor in part.boost.items())
    lines = [
        f"[task.{strata.task.name}]",
        *(f"# {n:,} {name}" for name, n in zip(strata.names, strata.counts.tolist(), strict=True)),
        f"owner = {json.dumps(part.owner)}", f"share = {part.share:.4f}", f"importance = {part.importance:.4f}",
        f'rule = "{part.rule}"', *(["gamma = 0.5"] if part.rule == "power" else []),
        *([f"boost = {{ {boost} }}"] if boost else []), *([f"cap = {part.cap}"] if part.cap else []),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"
