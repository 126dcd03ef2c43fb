"""An imported run: predictions of a model that Amber did not train, with what is declared about its training.

It lies in `runs/<id>/`, like the run of a training: `imported.json` in place of `run.json`, `predictions.parquet`, and
`trained_on.parquet` where the keys of the images that the model was trained on were declared.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput
from curation.files.atomic import whole
from curation.files.prefixes import full_name
from curation.files.read_back import check_sha256, read_json, read_parquet, sealed, unsealed

__all__ = ["AGAIN", "UNKNOWN", "Imported", "beside_of", "is_imported", "origin_of", "refuse_imported"]

FORMAT: Final = 1
AGAIN: Final = "import its predictions again"

UNKNOWN: Final = "unknown"
"""What a model was trained on where nobody declared it: its figures may be too good, and nothing can tell."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """The predictions of the model `model`, imported from a file.

    `file` and `sha256` are the name and digest of that file, `tasks` what it predicts, with the number of predictions
    of each. `commit` is the commit whose labels and definitions it was imported at. `training_keys` is how many images
    the model was declared to be trained on, None where nobody knows; `training_sha256` is the digest of their list.
    """

    id: str
    model: str
    file: str
    sha256: str
    commit: int
    tasks: dict[str, int]
    training_keys: int | None = None
    training_sha256: str = ""

    @classmethod
    def open(cls, home: Path, id_: str) -> "Imported":
        """The imported run whose id is `id_` or begins so; NotFound when there is none, or several."""
        names = (path.parent.name for path in (home / "runs").glob("*/imported.json"))
        id_ = full_name(id_, names, what="imported run", where=home, listed="amber runs")
        return read_json(_record(home, id_), AGAIN, cls._of)

    @classmethod
    def _of(cls, data: dict[str, Any]) -> "Imported":
        data = unsealed(data)
        if (found := data.pop("format", None)) != FORMAT:
            raise ValueError(f"its format is {found!r}, this Amber knows {FORMAT}")
        return cls(**data)

    @property
    def trained_on(self) -> str:
        """ "declared" or "unknown"."""
        return UNKNOWN if self.training_keys is None else "declared"

    def trained(self, home: Path) -> pa.Array | None:
        """The keys of the images that the model was declared to be trained on; None where nobody knows.

        Damaged when the list differs from what was declared.
        """
        if self.training_keys is None:
            return None
        path = check_sha256(home / "runs" / self.id / "trained_on.parquet", self.training_sha256, AGAIN)
        return read_parquet(path, AGAIN)["key"].combine_chunks()

    def refuse_leaks(self, home: Path, now: Snapshot) -> None:
        """BadInput where an image that the model was trained on shares its group with an evaluation sample."""
        from curation.ingestion.leaks import refuse_leaks

        if (trained := self.trained(home)) is not None:
            refuse_leaks(now, trained)

    def save(self, home: Path) -> None:
        """Write `imported.json`, whole or not at all."""
        with whole(_record(home, self.id)) as part:
            part.write_text(json.dumps(sealed({"format": FORMAT, **asdict(self)}), indent=1))


def is_imported(home: Path, run: str) -> bool:
    """Whether the run of this id was imported."""
    return _record(home, run).is_file()


def origin_of(home: Path, run: str) -> dict[str, str]:
    """`model` and `trained_on` of an imported run, to stand beside its figures; empty for a run that Amber trained."""
    if not is_imported(home, run):
        return {}
    found = read_json(_record(home, run), AGAIN, Imported._of)
    return {"model": found.model, "trained_on": found.trained_on}


def beside_of(home: Path, run: str) -> str:
    """What stands beside each figure of a model whose training images are unknown; empty for all others."""
    return "trained on: unknown" if origin_of(home, run).get("trained_on") == UNKNOWN else ""


def refuse_imported(home: Path, run: str) -> None:
    """BadInput when `run`, or the only run that begins so, was imported: it has no plan, recipe or weights."""
    names = {
        path.parent.name for path in (home / "runs").glob("*/*.json") if path.name in ("run.json", "imported.json")
    }
    found = [run] if run in names else [name for name in names if run and name.startswith(run)]
    if len(found) == 1 and is_imported(home, found[0]):
        raise BadInput(
            f"run {found[0]}: was imported, so it has no plan, recipe or weights; name a run that Amber trained"
        )


def _record(home: Path, run: str) -> Path:
    return home / "runs" / run / "imported.json"
