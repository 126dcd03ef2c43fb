"""Verbs of label requests: request, oracle."""

from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Group

from amber.completion import RUN
from amber.terminal import WrappedTable, interval, plain, show, table
from amber.verbs.options import (
    against_option,
    grouped,
    like_option,
    seeded,
    trigger_names,
    triggers_option,
    using_files,
    workspace,
)
from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from curation.requests.proposals import Proposal
from curation.requests.ranking import STRATEGIES, Strategy
from curation.requests.spending import Spent, spend
from samplers.policy.policy import Policy
from training.evaluation.intervals import Figure
from training.recipe import Recipe
from training.run import Run
from training.run_list import embeddings_of, trained_here

__all__ = ["oracle_command", "request_command"]

COLUMNS = ["priority", "task", "key", "arm", "slice", "reason", "propensity"]


@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """Options of a budget and what guides it."""

    budget: int | None
    run: str
    random_share: float
    policy_file: Path | None
    like: str
    triggers: str
    against: str
    strategy: Strategy

    def proposal(self, catalog: Catalog, seed: int) -> Proposal | None:
        """How to spend the budget; None without one."""
        names = trigger_names(self.triggers, self.against)
        if self.budget is None:
            if names:
                raise BadInput(f"--triggers {self.triggers}: shares a budget with mining; name one with --budget N")
            return None
        with catalog.read() as now:
            runs = now.runs()["run"].to_pylist()
            run = now.runs.full_id(self.run) if self.run else runs[-1] if runs else ""
        self._check_strategy(catalog, run)
        from amber.example import example_of

        recipe = Run.open(catalog.home, run).recipe if trained_here(catalog.home, run) else Recipe()
        return Proposal(
            budget=self.budget, seed=seed, random_share=self.random_share, run=run,
            embeddings=embeddings_of(catalog.home, run), importance=self._importance(catalog), strategy=self.strategy,
            triggers=names, against=self.against,
            **example_of(catalog, self.like, recipe.features(run)),
        )  # fmt: skip

    def _check_strategy(self, catalog: Catalog, run: str) -> None:
        """Refuse a strategy that lacks what it ranks images by."""
        if self.strategy in ("margin", "entropy", "badge", "direct") and not run:
            raise BadInput(
                f"--strategy {self.strategy}: needs the predictions of a run; train first, or choose another"
            )
        if self.strategy in ("badge", "typiclust") and not embeddings_of(catalog.home, run):
            raise BadInput(f"--strategy {self.strategy}: needs features of the images; train first, or choose another")

    def _importance(self, catalog: Catalog) -> dict[str, float] | None:
        if self.policy_file is None:
            return None
        policy = Policy.load(self.policy_file)
        with catalog.read() as now:
            policy.check(now)
        return policy.importances()


request_options = grouped(
    "options", RequestOptions,
    click.option("--budget", type=int, help="Request this many labels."),
    click.option("--run", default="", type=RUN, help="Run whose predictions guide the mining; default: the newest."),
    click.option("--random-share", default=0.15, show_default=True, help="Share of the budget requested at random."),
    click.option(
        "--policy", "policy_file", type=click.Path(path_type=Path),
        help="Policy file whose importances weigh the tasks; default: all alike.",
    ),
    like_option,
    triggers_option,
    against_option,
    click.option(
        "--strategy", type=click.Choice(STRATEGIES), default="mined", show_default=True,
        help="What chooses the images: what is known (mined), chance, or one published strategy.",
    ),
)  # fmt: skip


@click.command("request")
@request_options
@seeded
@click.option("--arms", is_flag=True, help="Show what each arm of requests found, in place of the open requests.")
@click.option("--author", default="", envvar="AMBER_AUTHOR", help="Author of the requests (AMBER_AUTHOR).")
@workspace
@using_files
def request_command(options: RequestOptions, seed: int, arms: bool, author: str, home: str, as_json: bool) -> None:
    """Request labels where they help most (with --budget), and list the open requests.

    With --budget it also prints how many labels each task and slice gets, how long an answer takes people (from ten
    timed answers on; a task whose answers take longer gets fewer labels), and why a task gets fewer or none. A budget
    larger than what can be requested is refused.

    Example: amber request --budget 200 --author ada
    """
    catalog = Catalog.open(home)
    if arms and options.budget is not None:
        raise BadInput(f"--budget {options.budget}: --arms shows what was found, and requests nothing; leave one out")
    if arms:
        _show_arms(catalog, as_json)
        return
    spent: list[Spent] = []
    if proposal := options.proposal(catalog, seed):
        with catalog.read() as now:
            head = now.digest
        spent = spend(catalog, proposal, author=author, batch=f"request:{head}:{proposal}")
    with catalog.read() as now:
        rows = now.requests("open").to_pylist()
    cells = [[row[name] for name in COLUMNS] for row in rows]
    listed = table(f"{len(rows):,} open requests", COLUMNS, cells)
    show(rows, as_json, lambda: Group(listed, _spent_table(options.budget or 0, spent)) if spent else listed)


def _show_arms(catalog: Catalog, as_json: bool) -> None:
    """What each arm of requests found: rare samples, and errors of the runs that they were made with."""
    with catalog.read() as now:
        from training.judging.request_arms import arm_figures

        found = arm_figures(now, catalog.home)
    columns = ["arm", "requested", "answered", "rare finds", "of", "run was wrong", "of"]
    cells = [
        [
            part.arm,
            part.requested,
            part.answered,
            *(cell for share in (part.rare, part.wrong) for cell in _share(share)),
        ]
        for part in found
    ]
    show([asdict(part) for part in found], as_json, lambda: table("What each arm of requests found", columns, cells))


def _share(figure: Figure) -> tuple[str, int]:
    return ("" if figure.value is None else interval({"metric": "share", **vars(figure)})), figure.n


def _spent_table(budget: int, spent: list[Spent]) -> WrappedTable:
    requested = sum(part.requests for part in spent)
    rows = [
        [part.task, part.slice or "(all)", part.requests, plain(part.arms), _seconds(part.seconds), part.why]
        for part in spent
    ]
    title = f"{requested:,} of {budget:,} labels requested"
    if hours := sum(part.requests * (part.seconds or 0) for part in spent) / 3600:
        title += f", {hours:.1f} hours of the tasks whose answers were timed"
    return table(title, ["task", "slice", "labels", "by", "seconds an answer", "why not more"], rows)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


@click.command("oracle")
@workspace
def oracle_command(home: str, as_json: bool) -> None:
    """Answer the open requests with the labels that the data set held back."""
    from curation.requests import oracle

    catalog = Catalog.open(home)
    with catalog.read() as now:
        digest = now.digest
    count = oracle.answer(catalog, batch=f"oracle:{digest}")
    show({"labels": count}, as_json, lambda: f"{count:,} labels")
