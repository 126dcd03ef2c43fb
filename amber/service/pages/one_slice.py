"""One slice: its images with what is known and predicted, its figures by task and run, and what to do with pictures."""

from collections.abc import Sequence
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from amber.service.access import Served, Workspace
from amber.service.facts.counted import Counted
from amber.service.facts.elsewhere import app_address, app_command, open_items
from amber.service.facts.run_choice import NO_RUN, RunChoice, chosen_run
from amber.service.facts.slice_declaration import sizes_over_commits
from amber.service.facts.slice_pictures import Labelled, PictureFilter, picture_page, shown_keys
from amber.service.facts.slice_table import PARTS, slice_facts, trends_of
from amber.service.facts.trends import Trend, spark
from amber.service.models.slices import PictureRow
from amber.service.pages.accounts import Account, Labels, Looks
from amber.service.pages.done_lines import DONE, done_line, see_done
from amber.service.pages.picked import MOST, Chosen, act_on, new_once
from amber.service.pages.rendering import page
from amber.service.pages.slices import MAY_LABEL
from amber.service.routes.ledger import Name
from amber.service.routes.paging import Paging
from curation.analysis.coverage import SPLITS, UNSPLIT
from curation.catalog.slices import Slice
from curation.catalog.snapshot import Snapshot
from curation.catalog.tasks import Task
from curation.errors import AmberError
from training.report.formatting import entry_view, plain_text

__all__ = ["here", "path_of", "router", "runs_shown"]

router = APIRouter(include_in_schema=False)

PICTURES: Final = 24
"""Pictures of one page at most."""

COLUMNS: Final = 6
"""Runs whose figures stand side by side."""

RUNS: Final = 50
"""Runs to choose from: the newest."""

STATES: Final = (
    ("", "any"), ("known", "labelled"), ("unknown", "not labelled"), ("unsure", "unsure"),
    ("inapplicable", "inapplicable"),
)  # fmt: skip


class Asked:
    """The parameters of the page: the run, the task, and the filters."""

    def __init__(
        self, run: Annotated[str, Query(max_length=100)] = "", task: Annotated[str, Query(max_length=100)] = "",
        split: Annotated[str, Query(max_length=100)] = "", state: Labelled = "",
        predicted: Annotated[str, Query(max_length=500)] = "", wrong: bool = False,
    ) -> None:  # fmt: skip
        self.run, self.task = run, task
        self.filters: dict[str, Any] = {"split": split, "state": state, "predicted": predicted, "wrong": wrong}

    def shown(self, part: Slice, tasks: Sequence[str]) -> PictureFilter:
        """The filters, of the slice's own task or the first where none is named."""
        task = "" if self.task == NO_RUN else self.task or part.task or next(iter(tasks), "")
        return PictureFilter(task=task, **self.filters)


Filters = Annotated[Asked, Depends()]


@router.get("/slices/{name}")
def one_slice(
    request: Request, account: Looks, workspace: Served, paging: Paging, asked: Filters, name: Name
) -> HTMLResponse:
    """A page of a slice's images."""
    return _page(request, account, workspace, paging, asked, name, Chosen())


@router.post("/slices/{name}")
async def read_form(
    request: Request, account: Labels, workspace: Served, paging: Paging, asked: Filters, name: Name
) -> Response:
    """Do something with the chosen pictures."""
    chosen = Chosen.of(await request.form())
    return await run_in_threadpool(_act, request, account, workspace, paging, asked, name, chosen)


@router.get("/slices/{name}/sizes")
def sizes(request: Request, account: Looks, workspace: Served, name: Name) -> HTMLResponse:
    """How large a slice was after older commits."""
    found, problem = [], ""
    with workspace.catalog.read() as now:
        part = now.slice(name)
        try:
            found = sizes_over_commits(now, part, chosen_run(workspace.catalog.home, now, "").file)
        except AmberError as error:
            problem = str(error)
    points = [(str(row.commit), {"value": row.samples}) for row in found]
    view = {"title": f"Size of {name}", "slice": part, "sizes": found, "points": points, "spark": spark,
            "problem": problem}  # fmt: skip
    return page(request, "slice_sizes.html", view, account=account)


def _act(
    request: Request, account: Account, workspace: Workspace, paging: Paging, asked: Asked, name: str, chosen: Chosen
) -> Response:
    try:
        keys: Sequence[str] = chosen.keys
        if chosen.every:
            keys = _every(workspace, asked, name)
        line = act_on(workspace, account, chosen, keys)
    except AmberError as error:
        return _page(request, account, workspace, paging, asked, name, chosen, problem=str(error))
    return see_done(request, here(request), line)


def _every(workspace: Workspace, asked: Asked, name: str) -> list[str]:
    """The keys of all images of a slice that the filters show."""
    home = workspace.catalog.home
    with workspace.catalog.read() as now:
        part, choice = now.slice(name), chosen_run(home, now, asked.run)
        return shown_keys(now, part.predicate, asked.shown(part, list(now.tasks())), choice, most=MOST)


def _page(
    request: Request, account: Account, workspace: Workspace, paging: Paging, asked: Asked, name: str, chosen: Chosen,
    problem: str = "",
) -> HTMLResponse:  # fmt: skip
    counted: Counted = request.app.state.counted
    home = workspace.catalog.home
    with paging.read() as now:
        part, tasks = now.slice(name), now.tasks()
        figures = counted.figures(PARTS, now.commit)
        facts, shown = slice_facts(now, part, figures), asked.shown(part, list(tasks))
        choice, fault = _choice(workspace, now, asked.run)
        pictures, after, unshown = _pictures(now, workspace, part, shown, choice, paging)
        items = open_items(home, now, part, choice.file)
        runs = runs_shown(now, choice.run)
        commit = now.commit
    view = {
        "title": name, "slice": part, "facts": facts, "predicate": plain_text(part.predicate), "figures": figures,
        "commit": commit, "shown": shown, "runs": runs, "run": choice.run, "run_problem": choice.problem,
        "tasks": list(tasks), "label_states": STATES, "splits": [split for split in SPLITS if split != UNSPLIT],
        "pictures": pictures, "some_boxes": any(each.boxes or each.predicted_boxes for each in pictures),
        "next": paging.next_path(after, commit) if after is not None else "", "after": bool(paging.after),
        "first": here(request, but=("after", DONE)), "here": here(request), "chosen": chosen,
        "once": chosen.once or new_once(), "problem": problem or fault or unshown, "done": done_line(request),
        "may": account.may(*MAY_LABEL), "filtered": any(asked.filters.values()), "spark": spark,
        "items": items, "app": app_address(home, part), "command": app_command(home, part, choice.run),
        **_predictions_of(tasks.get(shown.task)), **_figures(trends_of(figures, part)),
    }  # fmt: skip
    return page(request, "slice.html", view, account=account, status=409 if problem else 200)


def _choice(workspace: Workspace, now: Snapshot, run: str) -> tuple[RunChoice, str]:
    """The run to show, or none and why."""
    try:
        return chosen_run(workspace.catalog.home, now, run), ""
    except AmberError as error:
        return RunChoice(), str(error)


def _pictures(
    now: Snapshot, workspace: Workspace, part: Slice, shown: PictureFilter, choice: RunChoice, paging: Paging
) -> tuple[list[PictureRow], Any, str]:
    """The pictures, the position after them, and why there are none ("": there may be)."""
    limit = min(paging.limit, PICTURES)
    try:
        return *picture_page(now, workspace, part.predicate, shown, choice, paging.after, limit=limit), ""
    except AmberError as error:
        return [], None, str(error)


def runs_shown(now: Snapshot, run: str) -> list[str]:
    """The newest evaluated runs, the newest first, and the one that is shown."""
    names = list(dict.fromkeys(reversed([str(row) for row in now.runs()["run"].to_pylist()])))[:RUNS]
    return names if not run or run in names else [*names, run]


def _predictions_of(task: Task | None) -> dict[str, Any]:
    """By which predictions of a task images can be filtered."""
    outputs = bool(task and task.outputs)
    return {"classes": task.classes if task and outputs else (), "may_be_wrong": outputs}


def _figures(trends: Sequence[Trend]) -> dict[str, Any]:
    """The newest figures of each trend by run."""
    order = dict.fromkeys(run for trend in trends for run, _ in reversed(trend.rows))
    runs = list(order)[:COLUMNS]
    rows = [(trend, [entry_view(dict(trend.rows).get(run)) for run in runs]) for trend in trends]
    return {"trends": rows, "shown_runs": runs}


def here(request: Request, but: Sequence[str] = (DONE,)) -> str:
    """The address of this page, with its parameters but some."""
    kept = [(name, text) for name, text in request.query_params.multi_items() if name not in but]
    return f"{path_of(request)}{'?' if kept else ''}{urlencode(kept)}"


def path_of(request: Request) -> str:
    """The path of this page as an address: a key may hold any letter, `?` and `#` too."""
    return quote(request.scope["path"])
