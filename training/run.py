"""A run: one training with its provenance, in `runs/<id>/`. `run.json` is written last; its presence means complete."""

import hashlib
import importlib.metadata
import json
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from curation.errors import BadInput, NotFound
from curation.files.atomic import whole
from curation.files.prefixes import full_name
from curation.files.read_back import read_json, sealed, sha256_of, unsealed
from curation.rows import Rows, html_table, shortened
from samplers.plan.plan import Plan
from training.imported import refuse_imported
from training.recipe import Recipe

__all__ = ["Head", "Run", "libraries", "revision", "run_id", "weights_digest"]

FORMAT = 1
LIBRARIES = ("numpy", "torch", "duckdb", "simplejpeg", "pillow", "efficientnet-lite-pytorch")


@dataclass(frozen=True, kw_only=True)
class Head:
    """How one task's head was learned, and why so.

    `kind` is "exact", "shared" or "constant" (all labels are one class). `labels`, `classes` and `groups` are those of
    the training labels. An exact head has its `ridge` (over the mean squared length of the features), the `path` of
    ridges that the cross-validation compared (ridge, held-out loss, its standard error), the `temperature` by which the
    solution was divided, and the relative `gradient` that was left after so many `iterations`. Where both kinds were
    compared, `gain` is the held-out metric of the shared layer minus that of the exact head, with its 95% interval;
    positive favours the shared layer. `epochs` is how long the shared layer trained for this head, `part` of all its
    epochs. The comparison was made on `compared` labels of the task (0: none), by this run or an earlier one. `data` is
    a digest of what an exact head was solved on: a later run on the same takes the head as it is.
    """

    task: str
    kind: str
    labels: int
    classes: int = 0
    groups: int = 0
    ridge: float = 0.0
    temperature: float = 1.0
    path: list[tuple[float, float, float]] = field(default_factory=list)
    gradient: float = 0.0
    iterations: int = 0
    epochs: int = 0
    part: float = 0.0
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    compared: int = 0
    data: str = ""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished training: what it was made of, and its loss curve (rows of `Draws` and the loss of each task).

    Heads that were solved have no curve: they did not learn from draws.
    """

    id: str
    plan: str
    commit: int
    recipe: Recipe
    parent: str = ""
    revision: str = ""
    libraries: dict[str, str] = field(default_factory=dict)
    machine: str = ""
    seconds: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)
    alarm: str = ""
    """Why the draws that it was trained on are not those that its plan asked for; `samplers.plan.exposure` judges."""
    heads: list[Head] = field(default_factory=list)
    """How each head was learned, by task; empty where heads learned from the plan's draws."""
    alarms: list[str] = field(default_factory=list)
    """What went wrong in the learning itself, one line each."""
    course: list[tuple[int, str]] = field(default_factory=list)
    """Where the draws came from several plans: the position from which each plan was followed, and its hash."""
    states: list[dict[str, Any]] = field(default_factory=list)
    """Each judgement of a task (`Recipe.stopping`): `Draws`, `task`, `state`, and `loss`, the validation loss over the
    best constant's."""
    ended: dict[str, dict[str, str]] = field(default_factory=dict)
    """The last `state` of each task that could stop, and a digest of the `labels` that it learned from."""
    gradients: list[dict[str, Any]] = field(default_factory=list)
    """Over `Draws`, where gradients were balanced or clipped: the part of steps that were `clipped`, and of each task
    the norm of its gradient at the features that heads read (`norms`) and what multiplied its loss (`factors`)."""
    affinity: list[dict[str, Any]] = field(default_factory=list)
    """Of each pair of tasks that learned from draws: how their gradients agreed (`TaskAffinity.rows`)."""

    def __repr__(self) -> str:
        return shortened(f"Run {self.id}: {self._in_short()}")

    def _repr_html_(self) -> str:
        rows = [[head.task, head.kind, head.labels, head.groups, head.ridge or None] for head in self.heads]
        columns = ["task", "head", "labels", "groups", "ridge"]
        alarms = "".join(f"; {alarm}" for alarm in (self.alarm, *self.alarms) if alarm)
        return html_table(f"Run {self.id}: {self._in_short()}{alarms}", columns if rows else [], rows)

    def _in_short(self) -> str:
        parent = f", from run {self.parent}" if self.parent else ""
        return f"trunk {self.recipe.trunk} on plan {self.plan[:12]} at commit {self.commit}{parent}"

    @property
    def layers(self) -> list[int]:
        """The checkpoints of the shared layer from which heads were taken, by their epochs; their units lie in this
        order."""
        return sorted({head.epochs for head in self.heads if head.kind == "shared"})

    @property
    def shared_units(self) -> int:
        """Units of the shared layer: the recipe's for each of `layers`."""
        return self.recipe.units * len(self.layers)

    @classmethod
    def open(cls, home: Path, id_: str) -> "Run":
        """The finished run of a workspace whose id is `id_` or begins so; NotFound when there is none, or several.

        BadInput for an imported run, which has no plan, recipe or weights.
        """
        refuse_imported(home, id_)
        names = (path.parent.name for path in (home / "runs").glob("*/run.json"))
        id_ = full_name(id_, names, what="run", where=home, listed="amber runs")
        return read_json(home / "runs" / id_ / "run.json", f"train run {id_} again", cls._of)

    @classmethod
    def _of(cls, data: dict[str, Any]) -> "Run":
        data = unsealed(data)
        # a run that does not name its heads is older than solved ones
        words = {"heads": "drawn", **data.pop("recipe"), "size": tuple(data.pop("size"))}
        try:
            recipe = Recipe.parse(words)
        except BadInput as error:  # the file differs from what was written: nobody's input
            raise ValueError(str(error)) from None
        heads = [Head(**{**row, "path": [tuple(point) for point in row["path"]]}) for row in data.pop("heads", [])]
        course = [(start, hash_) for start, hash_ in data.pop("course", [])]
        return cls(**data, recipe=recipe, heads=heads, course=course)

    def exposure(self, home: Path) -> Rows[dict[str, Any]]:
        """Requested and actual draws of each task, stratum, boosted slice and rank.

        Empty where heads were solved, which consume no draws, and in runs that are older than this record.
        """
        return self._rows(home / "runs" / self.id / "exposure.json", "kind", "name", "asked", "drawn")

    def replaced(self, home: Path) -> Rows[dict[str, Any]]:
        """The draws whose image could not be read and was replaced: position, key, by (the other image's key), reason,
        and mass, as in `samplers.streaming.draws.ReplacedDraw`."""
        return self._rows(home / "runs" / self.id / "replaced.json", "position", "key", "by", "reason", "mass")

    def _rows(self, path: Path, *columns: str) -> Rows[dict[str, Any]]:
        fix = f"remove it or train run {self.id} again"
        rows = read_json(path, fix, lambda rows: [dict(row) for row in rows]) if path.is_file() else []
        return Rows(rows, columns)

    def save(self, home: Path) -> None:
        """Write `run.json`, whole or not at all."""
        data: dict[str, Any] = asdict(self)
        data["recipe"] = self.recipe.words
        data["size"] = data["recipe"].pop("size")
        path = home / "runs" / self.id / "run.json"
        with whole(path) as part:
            part.write_text(json.dumps(sealed(data), indent=1))


def run_id(plan: Plan, recipe: Recipe, parent: str = "", order: str = "") -> str:
    """The id of the run of `recipe` on `plan`, started from the run `parent`: the same training has the same id.

    `order` says how the draws are ordered where that is not the plan's order, and which weights the trunk begins with.
    """
    more = [parent, order] if order else [parent] if parent else []
    text = json.dumps([FORMAT, plan.hash, recipe.words, *more], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def weights_digest(recipe: Recipe) -> str:
    """The sha256 of the file of weights that a recipe's trunk begins with; empty without a file, NotFound where it is
    missing."""
    if recipe.weights in ("", "hub", "random"):
        return ""
    path = Path(recipe.weights)
    if not path.is_file():
        raise NotFound(f"weights {path}: no such file; check the path")
    return f"weights {sha256_of(path)}"


def libraries() -> dict[str, str]:
    """Versions of the libraries on which a run's figures depend."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in LIBRARIES}


@cache
def revision() -> str:
    """The git revision of this code with "+" when files differ from it; empty outside a checkout."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    head = git("rev-parse", "--short", "HEAD")
    return head + ("+" if head and git("status", "--porcelain", "--untracked-files=no") else "")
