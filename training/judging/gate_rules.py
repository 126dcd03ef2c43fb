"""The rules of a gate: a TOML file with what is judged, by which margin, and the team's rule."""

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from curation.errors import BadInput
from curation.files.toml_files import parse, read_toml, toml_value
from training.judging.box_measures import AnyMeasure
from training.judging.measures import POINTS

__all__ = ["ALL", "EVERYTHING", "GateRules", "Judged", "Margin", "Team", "margin_in"]

EVERYTHING: Final = "everything"
"""How a gate file names all labels of a task, beside its slices."""
ALL: Final = "*"
"""How it names every slice in which a task is reported."""

_MARGIN = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s+(\S.*)")


def _margin(text: str) -> str:
    if not (found := _MARGIN.fullmatch(text)) or float(found[1]) == 0:
        raise ValueError("must be a positive number and its unit, such as '2 points' or '0.5 km/h'")
    return text


Margin = Annotated[str, AfterValidator(_margin)]
"""A number with its unit: points (hundredths) for shares, the task's own unit for numbers."""


def margin_in(text: str, measure: AnyMeasure, where: str, what: str = "margin") -> float:
    """A margin (or `what` else) in the unit of `measure`; BadInput for any other unit, or 100 points and more."""
    found = _MARGIN.fullmatch(text)
    assert found is not None
    number, unit = float(found[1]), found[2].strip()
    if (POINTS if unit == "point" else unit) != measure.unit:
        raise BadInput(
            f"{where}: {what} {text!r} of {measure.task.name}: {measure.text} is measured in {measure.unit}; write it "
            f"as '{number:g} {measure.unit}'"
        )
    if measure.unit == POINTS and number >= 100:
        raise BadInput(f"{where}: {what} {text!r} of {measure.task.name}: must be below 100 points; lower it")
    return number


class Judged(BaseModel):
    """One task of the gate: on each of `slices` it may not drop by `margin`, and must be better than `floor`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = Field(description="name of the task")
    slices: tuple[str, ...] = Field(default=(EVERYTHING,), min_length=1, description="slices, 'everything' or '*'")
    metric: str = Field(default="", description="as `amber compare --metric`; empty: the task's own")
    margin: Margin = Field(description="smallest drop that matters, with its unit")
    floor: Margin | Literal[""] = Field(default="", description="what the run must beat by itself, with its unit")


class Team(BaseModel):
    """What holds for all tasks together.

    `weighted_mean`: the mean of the tasks' metrics on everything, weighted by `weights` (a number counts as so many
    points a unit), may not drop by `margin` (points). `one_better`: the task `optimise` must gain more than `margin`
    (empty: more than nothing), while all that is judged holds. `metric`: the mean over `tasks` (empty: all judged) of
    another metric, such as "map", may not drop by `margin` (points).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: Literal["weighted_mean", "one_better", "metric"]
    margin: Margin | Literal[""] = ""
    weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(default_factory=dict)
    optimise: str = ""
    metric: str = ""
    tasks: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed = {"weighted_mean": ("margin", "weights"), "one_better": ("optimise",), "metric": ("margin", "metric")}
        own = {*needed[self.rule], "margin", *(["tasks"] if self.rule == "metric" else [])}
        for name in needed[self.rule]:
            if not getattr(self, name):
                raise ValueError(f"{self.rule} needs {name}")
        for name in ("weights", "optimise", "metric", "tasks"):
            if getattr(self, name) and name not in own:
                raise ValueError(f"{self.rule} does not take {name}")
        if self.rule != "one_better" and self.margin.split()[1:] not in (["point"], [POINTS]):
            raise ValueError(f"margin {self.margin!r}: the team's figure is in points; write as '1 points'")
        return self

    def named(self) -> tuple[str, ...]:
        """The tasks that the rule names."""
        return (*self.weights, *([self.optimise] if self.optimise else []), *self.tasks)


class GateRules(BaseModel):
    """A gate: the split to judge on, what is judged, and the team's rule."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: Literal["test", "validation"] = "test"
    judge: tuple[Judged, ...] = Field(min_length=1)
    team: Team | None = None

    @classmethod
    def load(cls, path: Path) -> Self:
        """The rules of a TOML file; BadInput is one line with the key, value and rule of each problem."""
        data: dict[str, Any] = read_toml(path)
        return parse(cls, data, where=str(path))

    @classmethod
    def of_text(cls, text: str, *, where: str = "rules") -> Self:
        """The rules of a TOML text; BadInput is one line, after `where`."""
        try:
            data = toml_value(text)
        except ValueError as error:
            raise BadInput(f"{where}: not valid TOML ({error}); correct it") from None
        try:
            return parse(cls, data, where=where)
        except BadInput as error:
            raise BadInput(str(error).removesuffix("; fix the file") + "; correct it") from None

    @property
    def sha256(self) -> str:
        """The hash of the rules, whatever their layout in the file."""
        words = self.model_dump(mode="json")
        for part in words["judge"]:  # rules without floors keep the hash that they had before there were any
            if not part["floor"]:
                del part["floor"]
        return hashlib.sha256(json.dumps(words, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every task that is judged or named by the team's rule, in the order of the file."""
        named = self.team.named() if self.team else ()
        return tuple(dict.fromkeys([*(part.task for part in self.judge), *named]))
