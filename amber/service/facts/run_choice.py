"""The run whose predictions somebody looks at: the one that they name, or the newest."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from curation.catalog.snapshot import Snapshot
from curation.errors import AmberError

__all__ = ["NO_RUN", "RunChoice", "chosen_run"]

NO_RUN: Final = "-"
"""What is named to see no predictions."""


@dataclass(frozen=True, kw_only=True)
class RunChoice:
    """A run ("": none) with the file of its predictions, and why the newest one cannot be read ("": it can)."""

    run: str = ""
    file: str | None = None
    problem: str = ""


def chosen_run(home: Path, now: Snapshot, asked: str) -> RunChoice:
    """The run `asked` (or the only one that begins so), the newest for "", none for `NO_RUN`.

    NotFound for an unknown one, Damaged where its predictions have changed; the newest is left out then.
    """
    if asked == NO_RUN:
        return RunChoice()
    if asked:
        run = now.runs.full_id(asked)
        return RunChoice(run=run, file=str(now.runs.predictions_file(home, run)))
    newest = now.runs()["run"].to_pylist()[-1:]
    for run in newest:
        try:
            return RunChoice(run=run, file=str(now.runs.predictions_file(home, run)))
        except (AmberError, OSError) as error:
            return RunChoice(problem=str(error))
    return RunChoice()
