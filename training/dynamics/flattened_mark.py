"""Whether one training from scratch on a run's last plan does as well as its chain: kept beside the run, and shown."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from curation.files.atomic import whole
from curation.files.read_back import read_json

__all__ = ["FlattenedMark"]

FILE: Final = "flattened.json"


@dataclass(frozen=True, kw_only=True)
class FlattenedMark:
    """What `amber replay --flat` found of a run: on what the chain is shown to be better and worse than one training
    from scratch, on which split, with how many seeds of both."""

    better: tuple[str, ...]
    worse: tuple[str, ...]
    split: str
    seeds: int

    @classmethod
    def of(cls, home: Path, run: str) -> "FlattenedMark | None":
        """The mark of a run of the workspace `home`; None where it was never flattened."""
        path = home / "runs" / run / FILE
        if not path.is_file():
            return None
        words = read_json(path, "remove it, or run `amber replay --flat` again", dict)
        return cls(**{**words, "better": tuple(words["better"]), "worse": tuple(words["worse"])})

    def save(self, home: Path, run: str) -> None:
        """Keep it beside the run."""
        with whole(home / "runs" / run / FILE) as part:
            part.write_text(json.dumps(asdict(self), indent=1))

    @property
    def text(self) -> str:
        """The mark in one line."""
        judged = f"({self.split}, {self.seeds} seed{'s' * (self.seeds > 1)})"
        if self.better:
            worse = ", ".join(self.better)
            return f"not reproduced: one training from scratch on its last plan is worse on {worse} {judged}"
        if self.worse:
            return f"one training from scratch on its last plan is better on {', '.join(self.worse)} {judged}"
        return f"no difference from one training from scratch on its last plan is shown {judged}"
