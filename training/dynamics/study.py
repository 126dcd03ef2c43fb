"""A study: the trials of one search of one plan, in a journal that a kill at any moment leaves whole.

`studies/NAME/study.json` says what the study is of, `journal.log` holds the trials (Optuna's journal). One process at a
time writes them; it hands the points to workers. A trial that ran when its process was killed is run again under its
number.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import TrialState

from curation.errors import BadInput
from curation.files.atomic import whole
from curation.files.locks import locked
from curation.files.read_back import read_json
from samplers.plan.interleave import hash64
from training.dynamics.search_space import Space

__all__ = ["SAMPLERS", "Asked", "Study", "TrialRow", "opened_study"]

SAMPLERS = ("gp", "tpe", "random")

STARTUP = 8
"""Random trials before the sampler models the scores."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A trial to run: its number, and the value of each knob."""

    number: int
    point: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """A trial of a study; `score` is None until it ends."""

    number: int
    point: dict[str, float]
    score: float | None


class Study:
    """The trials of a search; made by `opened_study`."""

    def __init__(self, study: optuna.Study, space: Space, sampler: str, seed: int) -> None:
        self._study, self._space, self._sampler, self._seed = study, space, sampler, seed
        self._asked: set[int] = set()
        self._distributions = {
            knob.name: optuna.distributions.FloatDistribution(knob.low, knob.high, log=True) for knob in space.knobs
        }
        if len(self._study.trials) < len(space.starts):
            for point in space.starts:
                self._study.enqueue_trial(point, skip_if_exists=True)

    def ask(self, budget: int) -> Asked | None:
        """The next trial to run: one that a killed process left first; None where `budget` trials exist.

        The values of a trial depend on its number, the seed and the scores so far.
        """
        trials = self._study.get_trials(deepcopy=False)
        left = [t for t in trials if t.state == TrialState.RUNNING and t.number not in self._asked]
        if not left and len([t for t in trials if t.state != TrialState.WAITING]) >= budget:
            return None
        number = left[0].number if left else None
        self._study.sampler = self._sampler_of(len(trials) if number is None else number)
        # Optuna has no call that runs a trial again under its number; a value that it has is not drawn again
        trial = self._study.ask() if number is None else optuna.Trial(self._study, left[0]._trial_id)
        self._asked.add(trial.number)
        point = {
            name: trial.suggest_float(name, part.low, part.high, log=True)
            for name, part in self._distributions.items()
        }  # fmt: skip
        return Asked(number=trial.number, point=point)

    def tell(self, number: int, score: float) -> None:
        """Record the score of a trial."""
        self._study.tell(number, score)

    def trials(self) -> list[TrialRow]:
        """All trials that were begun, by number."""
        return [
            TrialRow(number=trial.number, point=dict(trial.params), score=trial.value)
            for trial in self._study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING
        ]  # fmt: skip

    def _sampler_of(self, number: int) -> optuna.samplers.BaseSampler:
        seed = int(hash64(self._seed, number)) % 2**32
        if self._sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        if self._sampler == "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=STARTUP + len(self._space.starts))
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=STARTUP + len(self._space.starts), multivariate=True, constant_liar=True,
        )  # fmt: skip


@contextmanager
def opened_study(
    home: Path, name: str, about: Mapping[str, Any], space: Space, *, sampler: str, seed: int
) -> Iterator[Study]:
    """The study `name` of a workspace, made where it is missing, for the length of the block.

    BadInput for a study that is about something else, such as another plan. Busy while another process searches in it.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder = home / "studies" / name
    folder.mkdir(parents=True, exist_ok=True)
    told = json.loads(json.dumps({**about, "sampler": sampler, "seed": seed}))
    with locked(
        folder / "search.lock", lambda holder: f"study {name}: {holder} searches in it; wait for it, or end it"
    ):
        _refuse_foreign(folder / "study.json", name, told)
        journal = folder / "journal.log"
        _heal(journal)
        storage = JournalStorage(JournalFileBackend(str(journal)))
        study = optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True,
            sampler=optuna.samplers.RandomSampler(seed=seed),
        )  # fmt: skip
        yield Study(study, space, sampler, seed)


def _refuse_foreign(path: Path, name: str, told: Mapping[str, Any]) -> None:
    if not path.is_file():
        with whole(path) as part:
            part.write_text(json.dumps(told, indent=1))
        return
    found = read_json(path, f"remove the folder {path.parent}, or name another study", dict)
    for word, value in told.items():
        if found.get(word) != value:
            was, is_ = (f"{word} {json.dumps(each)}"[:60] for each in (found.get(word), value))
            raise BadInput(f"study {name}: is of {was}, not of {is_}; name another with --study")


def _heal(journal: Path) -> None:
    """After a kill: remove a lock that nobody holds, and what was written of a line without its end."""
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    if journal.is_file():
        content = journal.read_bytes()
        if content and not content.endswith(b"\n"):
            with journal.open("r+b") as file:
                file.truncate(content.rfind(b"\n") + 1)
