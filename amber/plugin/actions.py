"""What the buttons ask of the service: each has a form, the wish that follows from it, and words for what that does."""

from typing import Any, Protocol

from amber.service.models import Done, DoubtPicked, RequestPicked, TagPicked

__all__ = ["ACTS", "Act", "Wish", "told"]

Wish = RequestPicked | TagPicked | DoubtPicked
Params = dict[str, Any]


class Act(Protocol):
    """One button; `types` is FiftyOne's module of form elements."""

    name: str
    label: str
    icon: str

    def fill(self, form: Any, types: Any, tasks: list[str]) -> None:
        """Put the fields into a form."""

    def wish(self, keys: list[str], params: Params, batch: str) -> Wish | None:
        """What is wished for of the samples `keys`; None while a field is empty."""

    def words(self, count: int, params: Params) -> str:
        """What that does to `count` of them."""


class _Ask:
    name, label, icon = "ask_for_labels", "Ask for labels", "rate_review"

    def fill(self, form: Any, types: Any, tasks: list[str]) -> None:
        choices = types.AutocompleteView(allow_user_input=False, allow_duplicates=False, placeholder="Choose")
        for task in tasks:
            choices.add_choice(task, label=task)
        form.list("tasks", types.String(), label="Tasks", required=True, view=choices)
        form.str("reason", label="Reason", description="kept with each request", required=True)

    def wish(self, keys: list[str], params: Params, batch: str) -> Wish | None:
        tasks, reason = params.get("tasks"), (params.get("reason") or "").strip()
        return RequestPicked(keys=keys, batch=batch, tasks=tasks, reason=reason) if tasks and reason else None

    def words(self, count: int, params: Params) -> str:
        return f"ask for {count} labels of {', '.join(params['tasks'])}"


class _Tag:
    name, label, icon = "tag", "Tag in the catalog", "bookmark_add"

    def fill(self, form: Any, types: Any, tasks: list[str]) -> None:
        form.str("tag", label="Tag", description="slices call it attr.tag_NAME", required=True)
        form.bool("off", label="Take it away", default=False)

    def wish(self, keys: list[str], params: Params, batch: str) -> Wish | None:
        tag = (params.get("tag") or "").strip()
        return TagPicked(keys=keys, batch=batch, tag=tag, on=not params.get("off")) if tag else None

    def words(self, count: int, params: Params) -> str:
        return f"take the tag {params['tag']} from {count}" if params.get("off") else f"tag {count} as {params['tag']}"


class _Doubt:
    name, label, icon = "doubt", "Mark unsure / retract", "help"

    def fill(self, form: Any, types: Any, tasks: list[str]) -> None:
        form.enum("task", tasks, label="Task", required=True)
        states = types.RadioGroup()
        states.add_choice("unsure", label="Mark unsure: I looked, and cannot tell")
        states.add_choice("retracted", label="Retract: take back what I said")
        form.enum("state", states.values(), label="What", required=True, default="unsure", view=states)

    def wish(self, keys: list[str], params: Params, batch: str) -> Wish | None:
        task, state = params.get("task"), params.get("state")
        return DoubtPicked(keys=keys, batch=batch, task=task, state=state) if task and state else None

    def words(self, count: int, params: Params) -> str:
        return f"{'mark' if params['state'] == 'unsure' else 'retract'} {count} labels of {params['task']}"


ACTS: tuple[Act, ...] = (_Ask(), _Tag(), _Doubt())


def told(done: Done, words: str) -> str:
    """One line of what was done, or would be."""
    line = f"as {done.author}" + (f", commit {done.commit}" if done.commit is not None else "") + f": {words}"
    for head, counts in (("passed over", done.passed_over), ("of these", done.noted)):
        if counts:
            line += f"; {head}: " + ", ".join(f"{count} {why}" for why, count in counts.items())
    return line
