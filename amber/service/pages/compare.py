"""Two runs beside each other: figures with verdicts, a gate's decision, and the images on which they differ."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Request, UploadFile
from fastapi.responses import HTMLResponse
from starlette.responses import Response

from amber.comparison_tables import difference_text, value_text
from amber.service.access import Served, Workspace
from amber.service.facts.comparing import Comparison, comparison, decision, pair_of
from amber.service.facts.run_work import RunWork, Works
from amber.service.made import Asked
from amber.service.pages.accounts import Account, Labels, Looks
from amber.service.pages.rendering import page, see
from curation.errors import AmberError, BadInput
from training.imported import beside_of
from training.judging.comparison import ComparedFigure
from training.judging.flips import Flip
from training.judging.gate_rules import GateRules

__all__ = ["EXAMPLE", "router", "rules_of"]

router = APIRouter(include_in_schema=False)

View = dict[str, Any]

EXAMPLE: Final = '[[judge]]\ntask = "TASK"\nslices = ["everything", "*"]\nmargin = "2 points"\n'
"""What a new form of rules holds, with the first task in place of TASK."""

PICTURES: Final = 24
"""Flipped images of a page."""

DECIDING: Final = 8.0
"""Seconds that a form waits for a gate; it is decided in the background all the same."""

LARGEST: Final = 100_000
"""Letters of rules at most."""


@router.get("/compare")
def compare(
    request: Request, account: Looks, workspace: Served, work: Works, a: str = "", b: str = "", split: str = "test",
    task: str = "", flip: str = "", gate: str = "",
) -> HTMLResponse:  # fmt: skip
    """Run `b` compared with run `a`; `task` and `flip` choose a task, and broken or fixed images; `gate` names a
    decision that was asked for."""
    view = _view(workspace, work, a, b, split, task, flip)
    if gate:
        view |= _gate_view(work, gate)
    return page(request, "compare.html", view, account=account, status=409 if view["line"] and (a or b) else 200)


@router.post("/compare/gate")
def decide(
    request: Request, account: Labels, workspace: Served, work: Works, a: Annotated[str, Form()] = "",
    b: Annotated[str, Form()] = "", rules: Annotated[str, Form()] = "", file: UploadFile | None = None,
) -> Response:  # fmt: skip
    """Decide by the rules that were typed, or those of a file, whether `b` may replace `a`."""
    text, line = rules, ""
    try:
        text = rules_of(rules, file)
        asked, word = _begin(workspace, work, account, a, b, text)
        if not asked.error:
            return see(request, f"/compare?a={_id(a)}&b={_id(b)}&gate={word}#gate")
        line = str(asked.error)
    except AmberError as error:
        line = str(error)
    view = _view(workspace, work, a, b, "test", "", "") | {"rules": text, "gate_line": line}
    return page(request, "compare.html", view, account=account, status=409)


def rules_of(typed: str, file: UploadFile | None) -> str:
    """The TOML text of a form: that of the file if one was chosen, else what was typed. BadInput where it is empty, too
    long, or no text."""
    text = typed
    if file is not None and file.filename:
        try:
            text = file.file.read(LARGEST + 1).decode()
        except UnicodeDecodeError:
            raise BadInput(f"rules {file.filename}: is no text in UTF-8; choose a TOML file") from None
    if not text.strip():
        raise BadInput("rules: are empty; type some, or choose a file of rules")
    if len(text) > LARGEST:
        raise BadInput(f"rules: have more than {LARGEST:,} letters; shorten them")
    return text.replace("\r\n", "\n")


def _begin(workspace: Workspace, work: RunWork, account: Account, a: str, b: str, text: str) -> tuple[Asked, str]:
    """Ask for a decision, and note the text by a word that names it."""
    parsed = GateRules.of_text(text)
    first, second, commit = pair_of(workspace.catalog, a, b)
    by, author = account.identity, account.name
    key, maker = decision(workspace.catalog, (first, second), parsed, by=by, author=author, commit=commit)
    asked = work.ask(key, maker, patience=DECIDING)
    word = hashlib.sha256(repr(key).encode()).hexdigest()[:24]
    work.ask(("gate text", word), lambda tell: (key, text))
    return asked, word


def _gate_view(work: RunWork, word: str) -> View:
    """The decision that a word names, with the rules that were typed; nothing where it is not known any more."""
    noted = work.made.known(("gate text", word))
    if noted is None or not noted.ready:
        return {"gate_line": "this decision is not at hand any more; decide again"}
    key, text = noted.value
    asked = work.made.known(key)
    if asked is None:
        return {"rules": text, "gate_line": "this decision is not at hand any more; decide again"}
    view: View = {"rules": text, "deciding": None if asked.ready else asked, "word": word}
    return view | {"gate_line": str(asked.error) if asked.error else "", "gate": asked.value}


def _view(workspace: Workspace, work: RunWork, a: str, b: str, split: str, task: str, flip: str) -> View:
    """The page without a decision: `line` says why there is nothing to compare."""
    view: View = {
        "title": "Compare two runs", "a": a, "b": b, "split": split, "task": task, "flip": flip, "line": "",
        "asked": None, "found": None, "rules": "", "gate": None, "gate_line": "", "deciding": None, "word": "",
        "runs": _runs(workspace), "beside": {},
    }  # fmt: skip
    try:
        if split not in ("test", "validation"):
            raise BadInput(f"split {split!r}: must be test or validation")
        first, second, commit = pair_of(workspace.catalog, a, b)
        view |= {"a": first, "b": second}
        asked = work.ask(*comparison(workspace.catalog, first, second, split, commit))
        if asked.error:
            raise asked.error
    except AmberError as error:
        return {**view, "line": str(error)}
    view["beside"] = {run: beside_of(workspace.catalog.home, run) for run in (first, second)}
    return {**view, "asked": asked, **(_found(asked.value, workspace, task, flip) if asked.ready else {})}


def _runs(workspace: Workspace) -> list[str]:
    """The evaluated runs, newest first."""
    with workspace.catalog.read() as now:
        return list(dict.fromkeys(reversed([str(name) for name in now.runs()["run"].to_pylist()])))


def _found(found: Comparison, workspace: Workspace, task: str, flip: str) -> View:
    """The rows and pictures to show: all slices of one task; of all tasks everything, and slices with a verdict."""
    figures = [
        part for part in found.figures
        if (part.task == task if task else not part.slice or part.verdict in ("better", "worse"))
    ]  # fmt: skip
    flips = [each for each in found.flips if task in ("", each.task) and flip in ("", each.what)]
    hidden = 0 if task else len(found.figures) - len(figures)
    counts = {name: {what: found.flipped.get((name, what), 0) for what in ("broken", "fixed")} for name in found.tasks}
    return {
        "found": found, "rows": [_figure(part) for part in figures], "unshown": hidden,
        "attributes": [_figure(part) for part in found.attributes if task in ("", part.task)],
        "pictures": [_picture(each, workspace, found.locations) for each in flips[:PICTURES]],
        "flips": len(flips), "counts": {name: count for name, count in counts.items() if any(count.values())},
        "rules": EXAMPLE.replace("TASK", task or (found.tasks[0] if found.tasks else "TASK")),
    }  # fmt: skip


def _figure(part: ComparedFigure) -> View:
    return {
        **asdict(part), "first_text": value_text(part, part.first), "second_text": value_text(part, part.second),
        "difference_text": difference_text(part),
    }  # fmt: skip


def _picture(flip: Flip, workspace: Workspace, locations: Mapping[str, str]) -> View:
    said = [
        f"{value}" if confidence is None else f"{value} ({confidence:.0%})"
        for value, confidence in zip((flip.first, flip.second), flip.confidence, strict=True)
    ]
    location = locations.get(flip.key)
    image = workspace.image_path({"location": location}) + "?size=256" if location else ""
    return {**asdict(flip), "said": said, "image": image}


def _id(run: str) -> str:
    return "".join(letter for letter in run if letter.isalnum() or letter in "-_.")
