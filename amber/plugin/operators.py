"""The acts as operators of FiftyOne: each shows in its form what the service would do, and does it when told to.

They run in the App's server. The token of `AMBER_TOKEN` says who acts, at the service of `AMBER_SERVICE`; the catalog's
file is never touched.
"""

import importlib
import os
from typing import Any
from uuid import uuid4

from pydantic import ValidationError

from amber.plugin.actions import ACTS, Act, told
from amber.service.client import Client
from amber.service.models import ShownPicked
from amber.service.signed_urls import SERVICE
from curation.errors import AmberError, BadInput
from curation.fiftyone_app.refresh import Fields, ahead, bring_in, documents_of, edited

__all__ = ["operators"]

LABEL = "label_"
"""What the mirror puts before the name of a task."""


def operators() -> list[type]:
    """One operator for each act, and one that says why an image is drawn."""
    return [*map(_button, ACTS), _why()]


def _button(act: Act) -> type:
    base, types = _fiftyone()

    class Button(base.Operator):  # type: ignore[misc, name-defined]
        config = property(lambda self: _config(base, act.name, act.label, act.icon, dynamic=True))

        def resolve_placement(self, ctx: Any) -> Any:
            return _placed(types, act.label, act.icon)

        def resolve_input(self, ctx: Any) -> Any:
            form = types.Object()
            try:
                keys = _picked(ctx)
                act.fill(form, types, _tasks(ctx))
                line = _acted(act, keys, ctx.params, preview=True)
                if line:
                    form.view("preview", types.Notice(label=line))
            except AmberError as error:
                form.view("fault", types.Error(label=str(error)), invalid=True, error_message=str(error))
            view = types.PromptView(label=act.label, submit_button_label=act.label)
            return types.Property(form, view=view)

        def execute(self, ctx: Any) -> dict[str, str]:
            try:
                keys = _picked(ctx)
                line = _acted(act, keys, ctx.params, preview=False)
                if line is None:
                    raise BadInput(f"{act.label}: a field is empty; fill the form")
            except AmberError as error:
                ctx.ops.notify(str(error), variant="error")
                return {"fault": str(error)}
            line += _shown_anew(ctx.dataset, keys)
            ctx.ops.reload_dataset()
            ctx.ops.notify(line, variant="success")
            return {"told": line}

    return Button


def _why() -> type:
    base, types = _fiftyone()
    label, icon = "Why was this drawn?", "casino"

    class Why(base.Operator):  # type: ignore[misc, name-defined]
        config = property(lambda self: _config(base, "why_drawn", label, icon, dynamic=False))

        def resolve_placement(self, ctx: Any) -> Any:
            return _placed(types, label, icon)

        def execute(self, ctx: Any) -> dict[str, str]:
            try:
                return {"reasons": _reasons(_picked(ctx))}
            except AmberError as error:
                return {"reasons": str(error)}

        def resolve_output(self, ctx: Any) -> Any:
            outputs = types.Object()
            outputs.str("reasons", view=types.MarkdownView())
            return types.Property(outputs, view=types.View(label=label))

    return Why


def _fiftyone() -> tuple[Any, Any]:
    """FiftyOne's operators and their types."""
    return importlib.import_module("fiftyone.operators"), importlib.import_module("fiftyone.operators.types")


def _config(base: Any, name: str, label: str, icon: str, *, dynamic: bool) -> Any:
    return base.OperatorConfig(name=name, label=label, icon=icon, dynamic=dynamic, view_target=False)


def _placed(types: Any, label: str, icon: str) -> Any:
    button = types.Button(label=label, icon=icon, prompt=True)
    return types.Placement(types.Places.SAMPLES_GRID_SECONDARY_ACTIONS, button)


def _picked(ctx: Any) -> list[str]:
    """Keys of the samples that are selected, or of the one that is open; never of all."""
    ids = ctx.selected or ([ctx.current_sample] if ctx.current_sample else [])
    if not ids:
        raise BadInput("no image is selected; select some first")
    dataset = ctx.dataset
    if not dataset.info.get("amber"):
        raise BadInput(f"data set {dataset.name}: is no mirror of a catalog; `amber browse` makes one")
    return list(dataset.select(ids).values("key"))


def _tasks(ctx: Any) -> list[str]:
    return [name.removeprefix(LABEL) for name in ctx.dataset.get_field_schema() if name.startswith(LABEL)]


def _acted(act: Act, keys: list[str], params: dict[str, Any], *, preview: bool) -> str | None:
    """What was done, or would be, in one line; None while the form is not filled."""
    try:
        wish = act.wish(keys, params, f"app:{uuid4().hex}")
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"{'.'.join(map(str, first['loc']))} {str(first['input'])[:60]!r}: {first['msg']}") from None
    if wish is None:
        return None
    with _client() as client:
        done = client.pick(wish.model_copy(update={"preview": preview}))
    return told(done, act.words(done.done, params))


def _shown_anew(dataset: Any, keys: list[str]) -> str:
    """Let the mirror hold of these samples what the catalog says now; words for where it does not, which is mended by
    the next `amber browse`."""
    mirror = dataset.info["amber"]
    if mirror.get("pinned"):
        return f"; shown is commit {mirror['commit']}, so look at it with the next `amber browse`"
    runs = {"run": mirror.get("run", ""), "against": mirror.get("against", "")}
    documents, commits = documents_of(dataset, keys), ahead(dataset)
    touched, was = edited(dataset, keys), dict[str, Fields]()
    try:
        with _client() as client:
            for commit in {commits.get(key, mirror["commit"]) for key in touched}:
                mine = [key for key in touched if commits.get(key, mirror["commit"]) == commit]
                was |= client.shown(ShownPicked(keys=mine, commit=commit, **runs)).samples
            shown = client.shown(ShownPicked(keys=keys, **runs))
    except AmberError as error:
        return f"; it is shown with the next `amber browse` ({error})"
    bring_in(dataset, documents, shown.commit, shown.samples, was)
    return ""


def _reasons(keys: list[str]) -> str:
    """For each sample a table of the tasks that draw it, as Markdown."""
    parts = []
    with _client() as client:
        for key in keys:
            rows = client.why(key, plan=os.environ.get("AMBER_PLAN", ""))
            lines = [
                f"| {row.task} | {row.stratum} | {row.phase} | {row.p:.3g} | {row.part:.3g} | {row.weight:.3g} | "
                f"{row.expected:.3g} | {row.drawn} |" for row in rows
            ]  # fmt: skip
            head = "| task | stratum | phase | p | of it, by this task | weight | expected draws | drawn for it |"
            parts += [f"**{key}** in plan {rows[0].plan[:12]}", "\n".join([head, "|---" * 8 + "|", *lines])]
    return "\n\n".join(parts)


def _client() -> Client:
    token = os.environ.get("AMBER_TOKEN", "")
    if not token:
        raise BadInput("no token: `amber serve tokens add NAME label` makes one; browse with it as --token")
    return Client(os.environ.get("AMBER_SERVICE", SERVICE), token)
