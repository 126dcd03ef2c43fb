"""What pages have counted in the background, read by routes."""

from collections.abc import Sequence
from typing import Any

from fastapi import Request

from amber.service.access import Workspace
from amber.service.facts.counted import Counted

__all__ = ["last_counted", "last_rows"]


def last_counted(request: Request, names: Sequence[str], commit: int) -> tuple[dict[str, Any], int]:
    """The last value of each name, None where it is counted for the first time, and the oldest commit that a value is
    of: 0 unless all were counted."""
    counted: Counted = request.app.state.counted
    figures = counted.figures(names, commit)
    made = [figure.commit for figure in figures.values() if figure]
    values = {name: figure.value if figure else None for name, figure in figures.items()}
    return values, min(made) if len(made) == len(names) else 0


def last_rows(request: Request, workspace: Workspace, name: str) -> Any:
    """The last value of a name that is a list; an empty one while it is counted for the first time."""
    with workspace.catalog.read() as now:
        commit = now.commit
    values, _ = last_counted(request, (name,), commit)
    return values[name] or []
