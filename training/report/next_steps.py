"""What to do after a run: commands that work as typed."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from curation.catalog.held_back_labels import FILE
from curation.catalog.snapshot import Snapshot
from samplers.plan.plan import Plan
from samplers.plan.sign_off import is_even
from samplers.policy.policy import Policy
from training.imported import Imported
from training.recipe import Recipe
from training.report.run_results import RunResults
from training.run import Run

__all__ = ["Step", "next_steps", "steps_of_imported"]

BUDGET = 100
"""Labels that the command for requests asks for."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What to do, and the commands that do it, in their order."""

    what: str
    commands: tuple[str, ...]


def next_steps(now: Snapshot, home: Path, results: RunResults, run: Run, plan: Plan) -> list[Step]:
    """The steps of the next round after `run`, and how to compare it with others."""
    author = str(results.commit["author"])
    return [
        *_labels(home, results, run.id, author),
        Step(what=_training_text(now, run, plan), commands=tuple(_training(now, home, run, plan, author))),
        *_comparing(home),
    ]


def steps_of_imported(home: Path, results: RunResults, imported: Imported) -> list[Step]:
    """The steps after an imported run: labels, the next predictions of the model, and a comparison."""
    author = str(results.commit["author"])
    again = _command("predictions import", home, imported.file, "--name", imported.model, "--author", author)
    return [
        *_labels(home, results, imported.id, author),
        Step(
            what="Train the model on the new labels, and import its predictions: another content is another run.",
            commands=(again,),
        ),
        *_comparing(home),
    ]


def _comparing(home: Path) -> Iterator[Step]:
    yield Step(
        what="Compare this run with others: list them, and then name two for `amber diff`.",
        commands=(_command("runs", home),),
    )


def _command(verb: str, home: Path, *words: object) -> str:
    return shlex.join(["amber", *verb.split(), "--home", str(home), *map(str, words)])


def _labels(home: Path, results: RunResults, run: str, author: str) -> Iterator[Step]:
    """How to get labels, where some are unknown: a budget, and who answers."""
    unknown = sum(cell.unknown for cell in results.coverage.cells if cell.split == "train" and not cell.slice
                  and results.tasks[cell.task].outputs)  # fmt: skip
    if not unknown:
        return
    budget = min(BUDGET, unknown)
    ask = _command("request", home, "--author", author, "--budget", budget, "--run", run)
    yield Step(what=f"Request {budget} labels where this run errs most, or knows least.", commands=(ask,))
    if (home / FILE).is_file():
        yield Step(
            what="Have them answered: the data set held labels back, so the oracle knows them.",
            commands=(_command("oracle", home),),
        )
        return
    yield Step(
        what="Have people answer in Label Studio; images come from `amber serve` in another terminal.",
        commands=(_command("label start", home), _command("label push", home),
                  _command("label pull", home, "--author", author)),
    )  # fmt: skip


def _training_text(now: Snapshot, run: Run, plan: Plan) -> str:
    text = "Plan on the new labels, train, and report again."
    if not run.recipe.plain:
        text += " This run's recipe came from a file: pass it to `amber train` by --recipe."
    if _is_default(now, plan):
        return text
    return f"{text} This run's plan followed a policy that is not in force: pass its file to `amber plan` by --policy."


def _training(now: Snapshot, home: Path, run: Run, plan: Plan, author: str) -> Iterator[str]:
    if _is_default(now, plan):
        yield _command("plan", home, "--draws", len(plan.draws))
    if run.recipe.plain and run.recipe.trunk in ("efficientnet_lite0", "small"):
        yield _command("train", home, "--author", author, *_options(run.recipe))
        yield _command("report", home, "--out", "report.html")


def _is_default(now: Snapshot, plan: Plan) -> bool:
    """Whether `amber plan` without a policy follows that of `plan`."""
    stored = now.ownership.policy()
    if not stored:
        return is_even(plan.header)
    return bool(Policy.model_validate_json(stored).sampling_rules() == plan.header["policy"])


def _options(recipe: Recipe) -> Iterator[object]:
    """Options of `amber train` that give this recipe again."""
    yield from ("--trunk", recipe.trunk, "--size", *recipe.size)
    if recipe.trunk != "small":
        yield from ("--heads", recipe.heads)
    if not recipe.solved:
        yield from ("--batch", recipe.global_batch, "--learning-rate", recipe.learning_rate)
    if recipe.seed:
        yield from ("--seed", recipe.seed)
