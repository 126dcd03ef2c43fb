"""The lineage of a run: the runs and the plans that it was made of, oldest first.

A run continues another one (its weights), reads the features of another one's trunk, or both. A plan continues another
plan where it was replanned. Everything is read from the records of runs and plans, from the catalog's commits and acts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput, NotFound
from curation.files.read_back import read_json
from samplers.plan.plan import AGAIN, MADE
from samplers.plan.plan_list import policy_name
from training.recipe import Recipe
from training.run import Run

__all__ = ["OF_RUN", "Edge", "Lineage", "LineagePlan", "Link", "LinkState", "lineage_of", "origins_of"]

OF_RUN: Final = "run:"
"""What the name of a trunk begins with that is one of another run."""

LinkState = Literal["", "withdrawn", "missing"]
"""Why a link cannot be repeated: an image that it learned from was forgotten, or its record is not in the workspace."""


@dataclass(frozen=True, kw_only=True)
class LineagePlan:
    """A plan of a lineage: what it continues (`parent` from `position` on; "" for nothing), and what it was made of.

    `by` says who made it ("training" for a plan that a training derived from its own), `signed` which owners signed it
    off. `policy` is "even" or the first digits of the policy's hash. `state` is that of a `Link`.
    """

    plan: str
    parent: str = ""
    position: int = 0
    commit: int = 0
    draws: int = 0
    policy: str = ""
    by: str = ""
    signed: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    state: LinkState = ""


@dataclass(frozen=True, kw_only=True)
class Link:
    """A run of a lineage: which run it continues (`parent`), whose features it reads (`features_of`), and its plans.

    `plan` is the plan that it was trained on, `course` the plans that its draws came from where these are others.
    `how` says in words how it learned. Of the plan's tasks, `learned` took steps or were solved, `distilled` learned
    soft labels for a while, `frozen` did not move, or no longer at the end. `trunk` says whose trunk it has and what of
    it learned. `commit` is that of its labels. `author` and `evaluated` are the author and the commit of its newest
    evaluation ("" and 0: none). `state` is "" for a link that can be repeated.
    """

    run: str
    parent: str = ""
    features_of: str = ""
    plan: str = ""
    course: tuple[str, ...] = ()
    commit: int = 0
    how: tuple[str, ...] = ()
    learned: tuple[str, ...] = ()
    distilled: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    trunk: str = ""
    author: str = ""
    evaluated: int = 0
    seconds: float = 0.0
    state: LinkState = ""

    @property
    def origins(self) -> tuple[str, ...]:
        """The runs that it continues or reads features of."""
        return tuple(dict.fromkeys(name for name in (self.parent, self.features_of) if name))


@dataclass(frozen=True, kw_only=True)
class Edge:
    """One arrow of a lineage: `kind` is "weights" or "features" between runs, "plan" from a plan to a run that drew
    from it, and "replan" between plans."""

    kind: Literal["weights", "features", "plan", "replan"]
    source: str
    target: str


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """The runs and plans that led to `run`: every link after those that it was made of, and so every plan."""

    run: str
    links: tuple[Link, ...]
    plans: tuple[LineagePlan, ...]

    def edges(self) -> Iterator[Edge]:
        """The arrows of the graph, in the order of the links and then of the plans."""
        for link in self.links:
            kinds: tuple[tuple[Literal["weights", "features", "plan"], tuple[str, ...]], ...] = (
                ("weights", (link.parent,)), ("features", (link.features_of,)),
                ("plan", tuple(dict.fromkeys((link.plan, *link.course)))),
            )  # fmt: skip
            for kind, sources in kinds:
                yield from (Edge(kind=kind, source=source, target=link.run) for source in sources if source)
        for plan in self.plans:
            if plan.parent:
                yield Edge(kind="replan", source=plan.parent, target=plan.plan)

    @property
    def broken(self) -> tuple[str, ...]:
        """A line for each link and plan that cannot be repeated, and why."""
        why = {
            "withdrawn": "was withdrawn, because an image that it learned from was forgotten",
            "missing": "is not in this workspace any more",
        }
        runs = [f"run {link.run}: {why[link.state]}" for link in self.links if link.state]
        return (*runs, *(f"plan {plan.plan[:12]}: {why[plan.state]}" for plan in self.plans if plan.state))

    def refuse_broken(self) -> None:
        """BadInput, naming the first link or plan that cannot be repeated."""
        if self.broken:
            raise BadInput(
                f"lineage of run {self.run}: {self.broken[0]}; train a run without it (`amber plan`, `amber train`)"
            )

    def link(self, prefix: str) -> Link:
        """The link whose run is `prefix`, or the only one that begins so; NotFound where there is none, or several."""
        found = [link for link in self.links if prefix and link.run.startswith(prefix)]
        found = [link for link in found if link.run == prefix] or found
        if len(found) != 1:
            names = ", ".join(link.run[:12] for link in self.links)
            raise NotFound(f"link {prefix!r}: must be one run of this lineage ({names}); name one")
        return found[0]


def lineage_of(home: Path, now: Snapshot, run: str) -> Lineage:
    """The lineage of a run that Amber trained; `run` may be the beginning of its id.

    Links that were withdrawn or are missing are named as such, so that a lineage can always be read. NotFound where
    the workspace has no such run; BadInput for an imported one.
    """
    top = Run.open(home, run).id
    registered = {row["run"]: row["commit_id"] for row in now.runs().to_pylist()}
    authors = {row["id"]: row["author"] for row in now.log().to_pylist()}
    links: dict[str, Link] = {}
    for name in _oldest_first(home, top):
        evaluated = registered.get(name, 0)
        links[name] = _link(home, name, author=str(authors.get(evaluated, "")), evaluated=evaluated)
    plans: dict[str, LineagePlan] = {}
    for link in links.values():
        for hash_ in dict.fromkeys((link.plan, *link.course)):
            for plan in _with_parents(home, hash_, now):
                plans.setdefault(plan.plan, plan)
    return Lineage(run=top, links=tuple(links.values()), plans=tuple(plans.values()))


def origins_of(home: Path, run: Run) -> tuple[str, ...]:
    """The whole ids of the runs that a run continues or reads features of."""
    return tuple(dict.fromkeys(name for name in (run.parent, _features_of(home, run.recipe)) if name))


def _oldest_first(home: Path, top: str) -> list[str]:
    """The ids of all runs that `top` was made of, each after its own origins; `top` is the last."""
    found: dict[str, None] = {}
    waiting = [(top, False)]
    while waiting:
        name, ready = waiting.pop()
        if name in found:
            continue
        if ready:
            found[name] = None
            continue
        waiting.append((name, True))
        origins = origins_of(home, Run.open(home, name)) if _is_there(home, name) else ()
        waiting += [(origin, False) for origin in reversed(origins)]
    return list(found)


def _features_of(home: Path, recipe: Recipe) -> str:
    """The id of the run whose trunk a recipe reads; a recipe may name the beginning of it."""
    if not recipe.trunk.startswith(OF_RUN):
        return ""
    name = recipe.trunk.removeprefix(OF_RUN)
    found = [path.parent.name for path in (home / "runs").glob(f"{name}*/run.json")]
    return found[0] if len(found) == 1 else name


def _is_there(home: Path, name: str) -> bool:
    return (home / "runs" / name / "run.json").is_file()


def _link(home: Path, name: str, *, author: str, evaluated: int) -> Link:
    if not _is_there(home, name):
        return Link(run=name, state="missing", author=author, evaluated=evaluated)
    run = Run.open(home, name)
    header = _header(home, run.plan)
    tasks = tuple(part["task"]["name"] for part in header["tasks"]) if header else tuple(sorted(run.ended))
    frozen = _frozen(run, tasks)
    withdrawn = (home / "runs" / name / "withdrawn.json").is_file()
    return Link(
        run=name, parent=run.parent, features_of=_features_of(home, run.recipe), plan=run.plan,
        course=tuple(plan for _, plan in run.course), commit=run.commit, how=tuple(_how(run, header)),
        learned=_learned(run, tasks), frozen=frozen,
        distilled=tuple(dict.fromkeys(row["task"] for row in run.states if row["state"] == "DISTILL")),
        trunk=_trunk_text(run.recipe), author=author, evaluated=evaluated, seconds=run.seconds,
        state="withdrawn" if withdrawn else "",
    )  # fmt: skip


def _learned(run: Run, tasks: tuple[str, ...]) -> tuple[str, ...]:
    """The tasks of a run that took steps or were solved, also where they were frozen later."""
    moved = {row["task"] for row in run.states if row["state"] != "FROZEN"}
    at_rest = {task for task, end in run.ended.items() if end["state"] == "FROZEN"} - moved
    return tuple(task for task in tasks if task not in at_rest and task in (run.recipe.only or tasks))


def _frozen(run: Run, tasks: tuple[str, ...]) -> tuple[str, ...]:
    """The tasks of a run that did not move: those behind the fence, or those that ended frozen."""
    if run.recipe.only:
        return tuple(task for task in tasks if task not in run.recipe.only)
    return tuple(task for task in tasks if run.ended.get(task, {}).get("state") == "FROZEN")


def _how(run: Run, header: Mapping[str, Any]) -> Iterator[str]:
    recipe = run.recipe
    yield (
        "heads solved on a frozen trunk"
        if recipe.solved
        else ("learned from pixels" if recipe.learns else "heads drawn on a frozen trunk")
    )
    if recipe.only:
        yield f"only {', '.join(recipe.only)}"
    if any(row["state"] == "DISTILL" for row in run.states):
        yield "distilled"
    if len(run.course) > 1 or header.get("parent"):
        yield "replanned"


def _trunk_text(recipe: Recipe) -> str:
    if recipe.trunk.startswith(OF_RUN):
        return f"that of run {recipe.trunk.removeprefix(OF_RUN)[:12]}, frozen"
    if not recipe.learns:
        return f"{recipe.trunk}, frozen"
    start = recipe.learn_from
    return f"{recipe.trunk}, learned" + (f" from {start} on" if start and start != "input" else "")


def _header(home: Path, plan: str) -> dict[str, Any]:
    """What a plan was made of, also of a withdrawn one; empty where the workspace lacks it."""
    path = home / "plans" / plan / "plan.json"
    return read_json(path, AGAIN, dict[str, Any]) if plan and path.is_file() else {}


def _with_parents(home: Path, plan: str, now: Snapshot) -> list[LineagePlan]:
    """A plan after the plans that it continues, oldest first."""
    found: list[LineagePlan] = []
    while plan:
        found.insert(0, _plan(home, plan, now))
        plan = found[0].parent
    return found


def _plan(home: Path, plan: str, now: Snapshot) -> LineagePlan:
    header, folder = _header(home, plan), home / "plans" / plan
    if not header:
        return LineagePlan(plan=plan, state="missing")
    parent = header["parent"] or {"plan": "", "position": 0}
    made = folder / MADE
    acts = now.ownership.acts().to_pylist()
    signed = [act["owner"] for act in acts if act["act"] == "sign_off" and act["subject"] == plan]
    return LineagePlan(
        plan=plan, parent=parent["plan"], position=parent["position"], commit=header["commit"], draws=header["draws"],
        policy=policy_name(header, now), signed=tuple(dict.fromkeys(signed)),
        by=read_json(made, AGAIN, lambda note: str(note["by"])) if made.is_file() else "",
        tasks=tuple(part["task"]["name"] for part in header["tasks"]),
        state="withdrawn" if (folder / "withdrawn.json").is_file() else "",
    )  # fmt: skip
