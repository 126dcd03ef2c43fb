"""What a shell completes: verbs, options, and the names that a workspace holds.

click writes the script and speaks with the shell. A name is read from the workspace of `--home`; whatever keeps it from
being read, such as a commit that takes long, completes nothing.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from click.types import StringParamType

from curation.errors import AmberError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["PLAN", "RUN", "SHELLS", "SLICE", "TASK"]

SHELLS: Final = {
    "bash": "echo 'eval \"$(amber completion bash)\"' >> ~/.bashrc",
    "zsh": "echo 'eval \"$(amber completion zsh)\"' >> ~/.zshrc",
    "fish": "amber completion fish > ~/.config/fish/completions/amber.fish",
}
"""The line that installs completion in each shell."""

PATIENCE: Final = 0.5
"""Seconds for which completion waits for a commit."""


class WorkspaceName(StringParamType):
    """A text that a shell completes with `names` of the workspace; any other text is accepted too."""

    def __init__(self, names: Callable[[Path], Iterable[str]]) -> None:
        self._names = names

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        """The names that begin with what was typed; none where there is no workspace or it cannot be read."""
        from click.shell_completion import CompletionItem

        with suppress(AmberError, OSError):
            names = self._names(Path(ctx.params.get("home") or "./amber-home"))
            return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]
        return []


def _runs(home: Path) -> list[str]:
    """Ids of runs, trained or imported."""
    return [path.parent.name for name in ("run", "imported") for path in home.glob(f"runs/*/{name}.json")]


def _plans(home: Path) -> list[str]:
    """Hashes of plans that are not withdrawn."""
    folders = [path.parent for path in home.glob("plans/*/plan.json")]
    return [folder.name for folder in folders if not (folder / "withdrawn.json").exists()]


def _tasks(home: Path) -> list[str]:
    return _read(home)[0]


def _slices(home: Path) -> list[str]:
    return _read(home)[1]


def _read(home: Path) -> tuple[list[str], list[str]]:
    """Names of the tasks and slices of a workspace."""
    from curation.catalog.catalog import Catalog

    catalog = Catalog(home.resolve(), patience=PATIENCE)
    if not catalog.backend.exists():
        return [], []
    with catalog.read() as now:
        return list(now.tasks()), list(now.slices())


RUN: Final = WorkspaceName(_runs)
PLAN: Final = WorkspaceName(_plans)
TASK: Final = WorkspaceName(_tasks)
SLICE: Final = WorkspaceName(_slices)
