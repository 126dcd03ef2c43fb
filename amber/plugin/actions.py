"""The actions of the buttons: each has a form, builds a request to the service, and describes its effect."""

from typing import Any, Protocol

from amber.service.models.ledger import Done, DoubtPicked, RequestPicked, TagPicked

__all__ = ["ACTIONS", "Action", "PickedRequest", "report"]

PickedRequest = RequestPicked | TagPicked | DoubtPicked
Params = dict[str, Any]


class Action(Protocol):
    """The action of one button. `types` is FiftyOne's module of form elements; `params` are the form's values."""

    name: str
    label: str
    icon: str

    def add_fields(self, form: Any, types: Any, tasks: list[str]) -> None:
        """Add the action's fields to a form."""

    def request(self, keys: list[str], params: Params, batch: str) -> PickedRequest | None:
        """The service request for the samples `keys`; None while a required field is empty."""

    def describe(self, count: int, params: Params) -> str:
        """The effect on `count` samples or labels, in words."""


class _Ask:
    name, label, icon = "ask_for_labels", "Ask for labels", "rate_review"

    def add_fields(self, form: Any, types: Any, tasks: list[str]) -> None:
        choices = types.AutocompleteView(allow_user_input=False, allow_duplicates=False, placeholder="Choose")
        for task in tasks:
            choices.add_choice(task, label=task)
        form.list("tasks", types.String(), label="Tasks", required=True, view=choices)
        form.str("reason", label="Reason", description="stored with each request", required=True)

    def request(self, keys: list[str], params: Params, batch: str) -> PickedRequest | None:
        tasks, reason = params.get("tasks"), (params.get("reason") or "").strip()
        return RequestPicked(keys=keys, batch=batch, tasks=tasks, reason=reason) if tasks and reason else None

    def describe(self, count: int, params: Params) -> str:
        return f"ask for {count} labels of {', '.join(params['tasks'])}"


class _Tag:
    name, label, icon = "tag", "Tag in the catalog", "bookmark_add"

    def add_fields(self, form: Any, types: Any, tasks: list[str]) -> None:
        form.str("tag", label="Tag", description="slices can use it as attr.tag_NAME", required=True)
        form.bool("off", label="Remove the tag", default=False)

    def request(self, keys: list[str], params: Params, batch: str) -> PickedRequest | None:
        tag = (params.get("tag") or "").strip()
        return TagPicked(keys=keys, batch=batch, tag=tag, on=not params.get("off")) if tag else None

    def describe(self, count: int, params: Params) -> str:
        return (
            f"remove the tag {params['tag']} from {count}" if params.get("off") else f"tag {count} as {params['tag']}"
        )


class _Doubt:
    name, label, icon = "doubt", "Mark unsure / retract", "help"

    def add_fields(self, form: Any, types: Any, tasks: list[str]) -> None:
        form.enum("task", tasks, label="Task", required=True)
        states = types.RadioGroup()
        states.add_choice("unsure", label="Mark unsure: I looked and cannot tell")
        states.add_choice("retracted", label="Retract: remove my own label")
        form.enum("state", states.values(), label="Action", required=True, default="unsure", view=states)

    def request(self, keys: list[str], params: Params, batch: str) -> PickedRequest | None:
        task, state = params.get("task"), params.get("state")
        return DoubtPicked(keys=keys, batch=batch, task=task, state=state) if task and state else None

    def describe(self, count: int, params: Params) -> str:
        return f"{'mark' if params['state'] == 'unsure' else 'retract'} {count} labels of {params['task']}"


ACTIONS: tuple[Action, ...] = (_Ask(), _Tag(), _Doubt())


def report(done: Done, description: str) -> str:
    """One line about what the service did, or would do in a preview."""
    line = f"as {done.author}" + (f", commit {done.commit}" if done.commit is not None else "") + f": {description}"
    for head, counts in (("passed over", done.passed_over), ("of these", done.noted)):
        if counts:
            line += f"; {head}: " + ", ".join(f"{count} {why}" for why, count in counts.items())
    return line
