"""A run: one training with its provenance, in `runs/<id>/`. `run.json` is written last; its presence means complete."""

import hashlib
import importlib.metadata
import json
import math
import platform
import subprocess
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from curation.errors import BadInput, NotFound
from curation.files.atomic import whole
from curation.files.read_back import read_json
from samplers.plan.plan import Plan

__all__ = ["Recipe", "Run", "libraries", "revision", "run_id"]

FORMAT = 1
LIBRARIES = ("numpy", "torch", "duckdb", "simplejpeg", "pillow", "efficientnet-lite-pytorch")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained on a plan; `Recipe.of(trunk)` gives what suits a trunk.

    `trunk` is "efficientnet_lite0" (pretrained and frozen), "run:ID" (what that run of this workspace trained, frozen)
    or "small" (trained from scratch); features of a frozen trunk are computed once. `size` is height and width in
    pixels. `hidden` is the width of the branch between trunk and heads; 0 puts linear heads on the trunk. `optimizer`
    is "sgd" (with momentum 0.9) or "adamw"; `schedule` keeps the learning rate "constant" or lets it fall to 0 along a
    "cosine", after a linear warm-up over the first `warmup` of the steps.
    `augment` mirrors and moves images; labels must not hang on left and right.
    """

    trunk: str = "efficientnet_lite0"
    size: tuple[int, int] = (64, 128)
    global_batch: int = 64
    optimizer: str = "sgd"
    learning_rate: float = 0.3
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup: float = 0.0
    hidden: int = 0
    augment: bool = False
    seed: int = 0
    threads: int = 2

    @classmethod
    def of(cls, trunk: str, **changed: Any) -> "Recipe":
        """The defaults of `trunk`, with `changed` fields (None leaves a default); BadInput for what is unknown."""
        given = {name: value for name, value in changed.items() if value is not None}
        return cls(**{"trunk": trunk, **DEFAULTS.get(trunk, {}), **given})

    @property
    def embeddings(self) -> str:
        """The name of the embeddings that this recipe stands on; empty when its trunk is trained on pixels."""
        height, width = self.size
        return "" if self.trunk == "small" else f"{self.trunk.replace(':', '-')}-{height}x{width}"

    def features(self, run: str) -> "Recipe | None":
        """What computes the features by which images are compared: this recipe's frozen trunk, or that of `run`.

        None when the trunk learns from pixels and there is no run yet.
        """
        if self.embeddings:
            return self
        return replace(self, trunk=f"run:{run}") if run else None

    def __post_init__(self) -> None:
        rules = {
            "trunk": self.trunk in DEFAULTS or self.trunk.startswith("run:"),
            "optimizer": self.optimizer in ("sgd", "adamw"),
            "schedule": self.schedule in ("constant", "cosine"),
            "global_batch": self.global_batch >= 1,
            "learning_rate": 0 < self.learning_rate < math.inf,
            "weight_decay": 0 <= self.weight_decay < math.inf,
            "warmup": 0 <= self.warmup < 1,
            "hidden": self.hidden >= 0,
            "threads": self.threads >= 1,
            "size": min(self.size) >= 32,
        }
        for name, holds in rules.items():
            if not holds:
                raise BadInput(f"recipe: {name} = {getattr(self, name)} is out of range; correct it")


DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "efficientnet_lite0": {},
    "small": {
        "size": (80, 128), "optimizer": "adamw", "learning_rate": 3e-3, "weight_decay": 0.5, "schedule": "cosine",
        "warmup": 0.05, "hidden": 128, "augment": True,
    },
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished training: what it was made of, and its loss curve (rows of `Draws` and the loss of each task)."""

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

    @classmethod
    def open(cls, home: Path, id_: str) -> "Run":
        """The finished run `id_` of a workspace; NotFound when there is none."""
        path = home / "runs" / id_ / "run.json"
        if not path.is_file():
            raise NotFound(f"run {id_!r}: {home} has no such finished run; `amber log` lists them")
        return read_json(path, f"train run {id_} again", cls._of)

    @classmethod
    def _of(cls, data: dict[str, Any]) -> "Run":
        recipe = Recipe(**{**data.pop("recipe"), "size": tuple(data.pop("size"))})
        return cls(**data, recipe=recipe)

    def exposure(self, home: Path) -> list[dict[str, Any]]:
        """What each task, stratum, boosted slice and rank was asked to get, and what this run was trained on; empty
        for a run of before this was kept."""
        return self._rows(home / "runs" / self.id / "exposure.json")

    def replaced(self, home: Path) -> list[dict[str, Any]]:
        """The draws that other images took over, since theirs could not be read: position, key, by (another key),
        reason, and mass, as `samplers.stream.draws.Replaced` has them."""
        return self._rows(home / "runs" / self.id / "replaced.json")

    def _rows(self, path: Path) -> list[dict[str, Any]]:
        fix = f"remove it or train run {self.id} again"
        return read_json(path, fix, lambda rows: [dict(row) for row in rows]) if path.is_file() else []

    def save(self, home: Path) -> None:
        """Write `run.json`, whole or not at all."""
        data: dict[str, Any] = asdict(self)
        data["size"] = data["recipe"].pop("size")
        path = home / "runs" / self.id / "run.json"
        with whole(path) as part:
            part.write_text(json.dumps(data, indent=1))


def run_id(plan: Plan, recipe: Recipe, parent: str = "") -> str:
    """The id of the run of `recipe` on `plan`: the same training has the same id, so that it is done once."""
    text = json.dumps([FORMAT, plan.hash, asdict(recipe), *([parent] if parent else [])], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def libraries() -> dict[str, str]:
    """Versions of what a run's figures hang on."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in LIBRARIES}


def revision() -> str:
    """The git revision of this code with "+" when it was changed since; empty outside a checkout."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    head = git("rev-parse", "--short", "HEAD")
    return head + ("+" if head and git("status", "--porcelain", "--untracked-files=no") else "")
