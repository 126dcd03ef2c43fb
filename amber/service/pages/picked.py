"""The form of things to do with pictures that somebody chose: ask for labels, tag, mark as unsure, retract."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from starlette.datastructures import FormData

from amber.service.access import Workspace
from amber.service.facts.picking import pick
from amber.service.models.ledger import Done, DoubtPicked, PickedSamples, RequestPicked, TagPicked
from amber.service.pages.accounts import Account
from curation.errors import BadInput

__all__ = ["ACTS", "MOST", "Chosen", "act_on", "new_once"]

MOST: Final = 10_000
"""Pictures that one form changes at most."""

ACTS: Final = ("request", "tag", "untag", "unsure", "retracted")
"""What the form does, by the value of the button."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What a form says: the keys of pictures, or `every` one that the filters show; what to do, and with what."""

    keys: tuple[str, ...] = ()
    every: bool = False
    act: str = ""
    tasks: tuple[str, ...] = ()
    reason: str = ""
    tag: str = ""
    task: str = ""
    once: str = ""

    @classmethod
    def of(cls, form: FormData) -> "Chosen":
        """The fields of a form; those that it lacks are empty."""
        words = {name: str(form.get(name, "")).strip() for name in ("act", "reason", "tag", "task", "once")}
        keys, tasks = (tuple(str(each) for each in form.getlist(name)) for name in ("keys", "tasks"))
        return cls(keys=keys, every=form.get("every") == "1", tasks=tasks, **words)


def new_once() -> str:
    """A word for a form that is about to be shown: sent twice, the form does its work once."""
    return secrets.token_urlsafe(9)


def act_on(workspace: Workspace, account: Account, chosen: Chosen, keys: Sequence[str]) -> str:
    """Do what the form says with the pictures `keys`, and return in words what was done.

    BadInput or NotFound in one line for what cannot be done; then nothing was.
    """
    if chosen.act not in ACTS:
        raise BadInput("form: says nothing to do; press one of its buttons")
    if not keys:
        raise BadInput("pictures: none is chosen; choose some")
    try:
        wish = _wish(chosen, list(keys))
    except ValidationError as error:
        row = error.errors()[0]
        raise BadInput(f"{row['loc'][-1]}: {row['msg'].lower()}; correct it") from None
    return _told(wish, pick(workspace.catalog, wish, account.token))


def _wish(chosen: Chosen, keys: list[str]) -> PickedSamples:
    common: dict[str, Any] = {"keys": keys, "batch": f"{chosen.act}:{chosen.once or new_once()}"}
    if chosen.act == "request":
        if not chosen.tasks:
            raise BadInput("tasks: none is chosen; choose those to ask for labels of")
        return RequestPicked(**common, tasks=list(chosen.tasks), reason=chosen.reason or "picked by hand")
    if chosen.act in ("tag", "untag"):
        return TagPicked(**common, tag=chosen.tag, on=chosen.act == "tag")
    return DoubtPicked(**common, task=chosen.task, state="unsure" if chosen.act == "unsure" else "retracted")


def _told(wish: PickedSamples, done: Done) -> str:
    """What was done, in words."""
    things = f"{done.done:,} {'label' if isinstance(wish, RequestPicked) else 'picture'}{'s' * (done.done != 1)}"
    match wish:
        case RequestPicked():
            text = f"Asked for {things}"
        case TagPicked():
            text = f"Tagged {things} {wish.tag}" if wish.on else f"Took the tag {wish.tag} from {things}"
        case DoubtPicked():
            retracted = f"Retracted your labels of {wish.task} on {things}"
            text = retracted if wish.state == "retracted" else f"Marked {things} as unsure in {wish.task}"
        case _:
            raise AssertionError(wish)
    counts = [*done.passed_over.items(), *done.noted.items()]
    more = "; ".join(f"{count:,} {why}" for why, count in counts)
    commit = f" in commit {done.commit}" if done.commit is not None else ""
    return f"{text}{commit}{f' ({more})' if more else ''}."
