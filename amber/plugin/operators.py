"""FiftyOne operators for the actions: each form previews what the service would do, and its button does it.

They run in the App's server and call the service at `AMBER_SERVICE`, in the name of the owner of the token
`AMBER_TOKEN`. They never touch the catalog's file.
"""

import importlib
import os
from typing import Any
from uuid import uuid4

from pydantic import ValidationError

from amber.plugin.actions import ACTIONS, Action, report
from amber.service.client import Client
from amber.service.images.signed_urls import SERVICE
from amber.service.models.ledger import ShownPicked
from curation.errors import AmberError, BadInput
from curation.fiftyone_app.refresh import Fields, documents_of, edited_keys, newer_commits, update_documents

__all__ = ["operators"]

LABEL = "label_"
"""The prefix of the mirror's label fields, before the name of the task."""


def operators() -> list[type]:
    """One operator for each action, and one that explains why an image is drawn."""
    return [*map(_button, ACTIONS), _why()]


def _button(action: Action) -> type:
    base, types = _fiftyone()

    class Button(base.Operator):  # type: ignore[misc, name-defined]
        config = property(lambda self: _config(base, action.name, action.label, action.icon, dynamic=True))

        def resolve_placement(self, ctx: Any) -> Any:
            return _placement(types, action.label, action.icon)

        def resolve_input(self, ctx: Any) -> Any:
            form = types.Object()
            try:
                keys = _selected_keys(ctx)
                action.add_fields(form, types, _tasks(ctx))
                line = _call(action, keys, ctx.params, preview=True)
                if line:
                    form.view("preview", types.Notice(label=line))
            except AmberError as error:
                form.view("fault", types.Error(label=str(error)), invalid=True, error_message=str(error))
            view = types.PromptView(label=action.label, submit_button_label=action.label)
            return types.Property(form, view=view)

        def execute(self, ctx: Any) -> dict[str, str]:
            try:
                keys = _selected_keys(ctx)
                line = _call(action, keys, ctx.params, preview=False)
                if line is None:
                    raise BadInput(f"{action.label}: a field is empty; fill the form")
            except AmberError as error:
                ctx.ops.notify(str(error), variant="error")
                return {"fault": str(error)}
            line += _refresh(ctx.dataset, keys)
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
            return _placement(types, label, icon)

        def execute(self, ctx: Any) -> dict[str, str]:
            try:
                return {"reasons": _reasons(_selected_keys(ctx))}
            except AmberError as error:
                return {"reasons": str(error)}

        def resolve_output(self, ctx: Any) -> Any:
            outputs = types.Object()
            outputs.str("reasons", view=types.MarkdownView())
            return types.Property(outputs, view=types.View(label=label))

    return Why


def _fiftyone() -> tuple[Any, Any]:
    """FiftyOne's modules of operators and of their types."""
    return importlib.import_module("fiftyone.operators"), importlib.import_module("fiftyone.operators.types")


def _config(base: Any, name: str, label: str, icon: str, *, dynamic: bool) -> Any:
    return base.OperatorConfig(name=name, label=label, icon=icon, dynamic=dynamic, view_target=False)


def _placement(types: Any, label: str, icon: str) -> Any:
    button = types.Button(label=label, icon=icon, prompt=True)
    return types.Placement(types.Places.SAMPLES_GRID_SECONDARY_ACTIONS, button)


def _selected_keys(ctx: Any) -> list[str]:
    """Keys of the selected samples, or of the open one; never of all."""
    ids = ctx.selected or ([ctx.current_sample] if ctx.current_sample else [])
    if not ids:
        raise BadInput("no image is selected; select some first")
    dataset = ctx.dataset
    if not dataset.info.get("amber"):
        raise BadInput(f"data set {dataset.name}: not a mirror of a catalog; `amber browse` makes one")
    return list(dataset.select(ids).values("key"))


def _tasks(ctx: Any) -> list[str]:
    return [name.removeprefix(LABEL) for name in ctx.dataset.get_field_schema() if name.startswith(LABEL)]


def _call(action: Action, keys: list[str], params: dict[str, Any], *, preview: bool) -> str | None:
    """Call the service; returns one line about its effect, None while the form is incomplete."""
    try:
        request = action.request(keys, params, f"app:{uuid4().hex}")
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"{'.'.join(map(str, first['loc']))} {str(first['input'])[:60]!r}: {first['msg']}") from None
    if request is None:
        return None
    with _client() as client:
        done = client.pick(request.model_copy(update={"preview": preview}))
    return report(done, action.describe(done.done, params))


def _refresh(dataset: Any, keys: list[str]) -> str:
    """Update these samples in the mirror to the catalog's newest commit.

    Returns "", or the reason why only the next `amber browse` will show the change.
    """
    mirror = dataset.info["amber"]
    if mirror.get("pinned"):
        return f"; the App shows commit {mirror['commit']}, so the next `amber browse` will show the change"
    runs = {"run": mirror.get("run", ""), "against": mirror.get("against", "")}
    documents, commits = documents_of(dataset, keys), newer_commits(dataset)
    edited, was = edited_keys(dataset, keys), dict[str, Fields]()
    try:
        with _client() as client:
            for commit in {commits.get(key, mirror["commit"]) for key in edited}:
                own = [key for key in edited if commits.get(key, mirror["commit"]) == commit]
                was |= client.shown(ShownPicked(keys=own, commit=commit, **runs)).samples
            shown = client.shown(ShownPicked(keys=keys, **runs))
    except AmberError as error:
        return f"; the next `amber browse` will show the change ({error})"
    update_documents(dataset, documents, shown.commit, shown.samples, was)
    return ""


def _reasons(keys: list[str]) -> str:
    """A Markdown table for each sample: the tasks that draw it, with probabilities and weights."""
    parts = []
    with _client() as client:
        for key in keys:
            rows = client.why(key, plan=os.environ.get("AMBER_PLAN", ""))
            lines = [
                f"| {row.task} | {row.stratum} | {row.phase} | {row.p:.3g} | {row.part:.3g} | {row.weight:.3g} | "
                f"{row.expected:.3g} | {row.drawn} |" for row in rows
            ]  # fmt: skip
            head = "| task | stratum | phase | p | p by this task | weight | expected draws | drawn for it |"
            parts += [f"**{key}** in plan {rows[0].plan[:12]}", "\n".join([head, "|---" * 8 + "|", *lines])]
    return "\n\n".join(parts)


def _client() -> Client:
    token = os.environ.get("AMBER_TOKEN", "")
    if not token:
        raise BadInput("no token: make one with `amber serve tokens add NAME label`, and pass it to browse as --token")
    return Client(os.environ.get("AMBER_SERVICE", SERVICE), token)
