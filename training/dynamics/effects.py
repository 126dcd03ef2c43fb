"""What learning with another task does to a task, as measured in pairs, and its record in the folder of a run."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from curation.arrays import Floats
from curation.errors import NotFound
from curation.files.atomic import whole
from curation.files.read_back import read_json

__all__ = ["Effect", "Effects", "Verdict"]

Verdict = Literal["synergy", "conflict", "cannot tell"]

FILE = "pairs.json"


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What learning with `partner` does to `task`: its figure together minus alone, in points of a hundred.

    Positive is a gain. The interval holds together with those of all other pairs in 95% of cases (Bonferroni).
    """

    task: str
    partner: str
    gain: float
    low: float | None
    high: float | None

    @property
    def verdict(self) -> Verdict:
        """ "synergy" where the whole interval is a gain, "conflict" where it is a harm."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "cannot tell"
        return "synergy" if self.low > 0 else "conflict"


@dataclass(frozen=True, kw_only=True)
class Effects:
    """The effects of all pairs of `tasks`, on frozen `features`, judged on the labels of `split`.

    `labels` is how many labels each task learned from, `judged` and `groups` how many judged it; `alone` its figure in
    points learned alone, the mean over `seeds`.
    """

    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    split: str
    features: str
    labels: Mapping[str, int]
    judged: Mapping[str, int]
    groups: Mapping[str, int]
    alone: Mapping[str, float]
    effects: tuple[Effect, ...]

    def of(self, task: str, partner: str) -> Effect:
        """The effect of `partner` on `task`."""
        return next(each for each in self.effects if (each.task, each.partner) == (task, partner))

    @classmethod
    def open(cls, home: Path, run: str) -> Self:
        """The effects that were last measured for a run; NotFound where none were."""
        path = home / "runs" / run / FILE
        if not path.is_file():
            raise NotFound(f"run {run}: no pairs are measured; measure them with `amber affinity {run} --pairs`")
        return read_json(path, f"measure again with `amber affinity {run} --pairs`", cls._of)

    def save(self, home: Path, run: str) -> None:
        """Keep them in the run's folder, whole or not at all, in place of earlier ones."""
        with whole(home / "runs" / run / FILE) as part:
            part.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def _of(cls, data: dict[str, Any]) -> Self:
        lists = {"tasks": tuple(data["tasks"]), "seeds": tuple(data["seeds"])}
        return cls(**{**data, **lists, "effects": tuple(Effect(**each) for each in data["effects"])})

    @property
    def gains(self) -> Floats:
        """The gain [T, T] of each task (row) with each partner (column); 0 on the diagonal."""
        place = {name: code for code, name in enumerate(self.tasks)}
        found = np.zeros((len(place), len(place)))
        for each in self.effects:
            found[place[each.task], place[each.partner]] = each.gain
        return found
