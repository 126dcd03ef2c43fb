"""A process of its own that trains: alone, as one of several by torchrun, or until it kills itself.

`python -m benchmarks.train_process HOME PLAN WORDS EVERY [MOMENT]`; WORDS are those of the recipe, as JSON. At MOMENT
it sends itself SIGKILL: a number is a step, after the optimiser has moved and before any checkpoint; "record" is when
soft labels are to be recorded for the first time, "replan" when the first child plan is on disk and not yet followed.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from curation import Catalog
from samplers import Plan
from training import train
from training.loop.course import Course
from training.loop.learner import Learner
from training.loop.ranks import joined
from training.loop.task_stops import TaskStops
from training.recipe import Recipe

__all__ = ["remove_run", "training_words", "weights_of"]

MOMENTS = {"record": (TaskStops, "_record"), "replan": (Course, "follow")}


def main() -> None:
    """Train."""
    home, plan, text, every, *moment = sys.argv[1:]
    for each in moment:
        die_at(each)
    place = {name: int(os.environ.get(key, "0")) for name, key in (("rank", "RANK"), ("local_rank", "LOCAL_RANK"))}
    catalog = Catalog.open(Path(home))
    with joined(**place, world=int(os.environ.get("WORLD_SIZE", "1")), device="cpu") as ranks:
        train(Recipe.parse(json.loads(text)), Plan.open(catalog.home, plan), catalog, every=int(every), ranks=ranks)


def die_at(moment: str) -> None:
    """Let this process kill itself at a moment of its training."""
    owner, name = MOMENTS.get(moment, (Learner, "step"))
    before = getattr(owner, name)

    def dying(self: Any, *arguments: Any, **more: Any) -> Any:
        if moment in MOMENTS:
            os.kill(os.getpid(), signal.SIGKILL)
        found = before(self, *arguments, **more)
        if arguments[1] == int(moment):
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, name, dying)


def training_words(catalog: Catalog, plan: Plan, recipe: Recipe, every: int, moment: str = "") -> list[str]:
    """The words after `python` that start such a process."""
    more = [moment] if moment else []
    words = [str(catalog.home), plan.hash, json.dumps(recipe.words), str(every), *more]
    return ["-m", "benchmarks.train_process", *words]


def weights_of(catalog: Catalog, run: str) -> dict[str, torch.Tensor]:
    """The weights of a finished run."""
    path = catalog.home / "runs" / run / "checkpoints" / "last.pt"
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return found


def remove_run(catalog: Catalog, run: str) -> None:
    """Forget a run, finished or not."""
    for path in sorted((catalog.home / "runs" / run).rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()


if __name__ == "__main__":
    main()
