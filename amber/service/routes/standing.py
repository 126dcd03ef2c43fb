"""Routes of what the first page and the pages of tasks show: counts that are made in the background."""

from typing import Any

from fastapi import APIRouter, Request

from amber.service.access import Reader, Served
from amber.service.facts.finite import finite
from amber.service.facts.last_counted import last_counted
from amber.service.models.ledger import FAULTS
from amber.service.models.standing import KnownLabels, Standing, TaskStanding, TrendRow
from amber.service.routes.ledger import Name
from amber.service.routes.tables_out import TABLES, Format, table_out

__all__ = ["router"]

router = APIRouter(prefix="/api", responses=FAULTS)


@router.get("/standing")
def standing(token: Reader, request: Request, workspace: Served) -> Standing:
    """Where the loop stands, as last counted: null for what is counted for the first time."""
    with workspace.catalog.read() as now:
        commit = now.commit
    names = ("worst", "week", "asked", "stale", "disputed")
    values, counted_at = last_counted(request, names, commit)
    if values["week"]:
        values["week"] = {name: values["week"][name] for name in ("commits", "authors", "labels", "runs")}
    return Standing.model_validate({"commit": commit, "counted_at": counted_at, **finite(values)})


@router.get("/standing/{task}")
def task_standing(token: Reader, request: Request, workspace: Served, task: Name) -> TaskStanding:
    """One task: its labels, what it gets from the newest plan, its classes by the newest run, and who labelled it."""
    with workspace.catalog.read() as now:
        name, commit = now.task(task).name, now.commit
    names = ("known", "outcomes", f"classes:{name}", f"labels:{name}")
    values, counted_at = last_counted(request, names, commit)
    known, outcomes, classes, labels = values.values()
    gets = dict((outcomes or {}).get(name) or {})
    found = {
        "task": name, "commit": commit, "counted_at": counted_at, "known": _states((known or {}).get(name)),
        "plan": gets.pop("plan", ""), "outcome": gets or None, "run": classes["run"] if classes else "",
        "classes": [_class(row) for row in classes["rows"]] if classes else [],
        "annotators": labels["annotators"] if labels else [],
    }  # fmt: skip
    return TaskStanding.model_validate(finite(found))


@router.get("/trends", response_model=list[TrendRow], responses=TABLES)
def trends(
    token: Reader, request: Request, workspace: Served, task: str = "", slice: str | None = None,
    format: Format = "json",
) -> object:  # fmt: skip
    """Figures of test over the newest 20 runs, the oldest first, as last counted; of a task, of a slice ("":
    everything)."""
    with workspace.catalog.read() as now:
        commit = now.commit
    values, _ = last_counted(request, ("trends",), commit)
    found = values["trends"].by_cell.values() if values["trends"] else []
    rows = [
        TrendRow.model_validate(
            {"run": run, "task": trend.task, "slice": trend.slice, "metric": trend.metric,
             **finite({name: row[name] for name in ("n", "value", "low", "high")})}
        )
        for trend in found if task in ("", trend.task) and slice in (None, trend.slice) for run, row in trend.rows
    ]  # fmt: skip
    return table_out(rows, format, of=TrendRow)


def _states(counts: dict[str, int] | None) -> dict[str, int] | None:
    return counts and {name: counts[name] for name in KnownLabels.model_fields}


def _class(row: dict[str, Any]) -> dict[str, Any]:
    figures = ("precision", "recall", "f1", "average_precision")
    return {
        "name": row["name"], "true": row["true"], "predicted": row["predicted"],
        **{name: float(row[name]["value"]) if row[name] else None for name in figures},
    }  # fmt: skip
