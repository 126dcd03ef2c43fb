"""The verb `amber loop`."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import click

from amber.extras import need_extra
from amber.loop import Answer, Loop, Round, check_tasks, run_loop
from amber.service.images.signed_urls import SERVICE, url_for
from amber.tables import figures_table
from amber.terminal import Screen, note, output, show
from amber.verbs.options import (
    against_option,
    author,
    grouped,
    heads_option,
    like_option,
    seeded,
    size_option,
    trigger_names,
    triggers_option,
    trunk_option,
    workspace,
)
from amber.verbs.people_options import card_option, days_option, third_option
from amber.verbs.training import run_title, size_for
from curation.catalog.catalog import Catalog
from samplers.policy.policy import Policy, left_out
from training.recipe import Recipe
from training.run import Run

__all__ = ["loop_command"]


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """Options for the rounds, the policy and the training."""

    rounds: int
    budget: int
    start: int
    random_arm: bool
    policy_file: Path | None
    trunk: str
    size: tuple[int, int] | None
    heads: str | None
    draws: int
    first_draws: int | None
    like: str
    triggers: str
    against: str

    def loop(self, catalog: Catalog, seed: int) -> Loop:
        """The loop with these settings; BadInput names the setting that breaks a rule."""
        size = self.size or size_for(catalog, self.trunk)
        return Loop(
            rounds=self.rounds, budget=self.budget, start=self.start, random_share=1.0 if self.random_arm else 0.15,
            draws=self.draws, first_draws=self.first_draws, seed=seed,
            recipe=Recipe.of(self.trunk, size=size, heads=self.heads, seed=seed),
            policy=Policy.load(self.policy_file) if self.policy_file else None, like=self.like,
            triggers=trigger_names(self.triggers, self.against), against=self.against,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PeopleOptions:
    """Options for labels from people in Label Studio."""

    label_studio: str
    token: str
    overlap: int
    gold: float
    card: Path | None
    third: timedelta
    images: str
    lasting: float

    @contextmanager
    def answer(self, catalog: Catalog, screen: Screen) -> Iterator[Answer | None]:
        """What answers the requests of a round: people, or None for the oracle."""
        if not self.label_studio:
            yield None
            return
        from amber.verbs.label_server import connect
        from amber.verbs.labeling import notes_of
        from amber.wait_for_labels import ask_people
        from curation.labelstudio.push import Asking

        url = "" if self.label_studio == "local" else self.label_studio
        asking = Asking(overlap=self.overlap, gold=self.gold, notes=notes_of(catalog, self.card))
        with connect(catalog.home, url, self.token) as server:
            yield partial(
                ask_people, catalog, server, asking, third=self.third, lasting=self.lasting, progress=screen.tell,
                url_for=url_for(catalog.home, self.images, seconds=self.lasting),
            )  # fmt: skip


loop_options = grouped(
    "options", LoopOptions,
    click.option("--rounds", default=3, show_default=True, help="Rounds after the first training."),
    click.option("--budget", default=20, show_default=True, help="Labels to request per round."),
    click.option("--start", default=40, show_default=True, help="Labels to request before the first training."),
    click.option("--random", "random_arm", is_flag=True, help="Request every label at random: the baseline."),
    click.option(
        "--policy", "policy_file", type=click.Path(path_type=Path),
        help="Policy file; default: equal shares, balanced over classes.",
    ),
    trunk_option,
    size_option,
    heads_option,
    click.option("--draws", default=6_400, show_default=True, help="Draws in the plan of each round."),
    click.option(
        "--first-draws", type=int, help="Draws in the first plan, when the trunk is trained; default: --draws."
    ),
    like_option,
    triggers_option,
    against_option,
)  # fmt: skip
people_options = grouped(
    "people", PeopleOptions,
    click.option(
        "--label-studio", default="",
        help="Have people label in Label Studio instead of the oracle: its address, or `local`.",
    ),
    click.option("--token", default="", envvar="LABEL_STUDIO_API_KEY", help="Its token (LABEL_STUDIO_API_KEY)."),
    click.option("--overlap", default=1, show_default=True, help="Annotators per label."),
    click.option("--gold", default=0.0, show_default=True, help="Share of items whose answer is known, in [0, 1)."),
    card_option,
    third_option,
    click.option("--images", default=SERVICE, show_default=True, help="Address of `amber serve` for browsers."),
    days_option,
)  # fmt: skip


@click.command("loop")
@loop_options
@people_options
@seeded
@author
@workspace
def loop_command(options: LoopOptions, people: PeopleOptions, seed: int, author: str, home: str, as_json: bool) -> None:
    """Run rounds of: request labels, have them answered, plan, train, evaluate. Run again, it continues.

    With --label-studio it waits for people.
    """
    catalog = Catalog.open(home)
    loop = options.loop(catalog, seed)
    with catalog.read() as now:
        check_tasks(now, loop.policy, loop.recipe)
        if loop.triggers:
            from curation.requests.trigger_arms import check_arms

            check_arms(now, loop.triggers, against=loop.against)
        tasks = now.tasks().values()
        unheard = "" if loop.policy or now.ownership.policy() else left_out(tasks, Policy.even(tasks))
    need_extra("train")
    screen = Screen(quiet=as_json)
    with ExitStack() as stack:
        answer = stack.enter_context(people.answer(catalog, screen))
        note(unheard)
        stack.enter_context(screen.stages())
        done = list(run_loop(catalog, loop, author=author, progress=screen.tell, answer=answer))
    show([vars(step) for step in done], as_json, lambda: _print_rounds(catalog, loop, done))


def _print_rounds(catalog: Catalog, loop: Loop, done: list[Round]) -> Any:
    """A table of rounds for each rare slice, then the figures of the last run."""
    from amber.rounds_table import rounds_table

    with catalog.read() as now:
        rare = [part for part in now.slices().values() if part.rare and part.name in done[-1].found]
    for part in rare:
        output().print(rounds_table(f"{part.name} ({loop.arm})", {loop.arm: done}, task=part.task, rare=part.name))
    return figures_table(run_title(Run.open(catalog.home, done[-1].run)), done[-1].figures)
