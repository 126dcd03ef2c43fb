"""Verbs of what is learnt, and of what is asked for next."""

from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import click

from amber.loop import Answer, Loop, go_round
from amber.service.signed_urls import SERVICE, url_for
from amber.terminal import Screen, interval, output, rounds_table, show, table
from amber.verbs.labeling import card_option, connect, days_option, notes_of, third_option
from amber.verbs.options import author, heads_option, seeded, size_option, trunk_option, workspace
from amber.wait_for_labels import ask_people
from curation.catalog.catalog import Catalog
from curation.errors import NotFound
from curation.labelstudio.push import Asking
from curation.requests import oracle
from curation.requests.proposals import Proposal, propose
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan
from samplers.policy.policy import Policy
from samplers.stream.stream import OnError
from training.recipe import Recipe
from training.report import write_report
from training.run import Run

__all__ = ["loop_command", "oracle_command", "report_command", "request_command", "train_command"]


@click.command("train")
@click.option("--plan", "plan_hash", default="", help="Plan to train on (a prefix of its hash); default: the newest.")
@trunk_option
@size_option
@heads_option
@click.option("--batch", default=64, show_default=True, help="Global batch, in draws.")
@click.option("--learning-rate", type=float, help="Default: what suits the trunk.")
@click.option("--parent", default="", help="Run to go on from: its weights are where this one begins.")
@click.option(
    "--on-error",
    type=click.Choice(["raise", "quarantine"]),
    default="raise",
    show_default=True,
    help="At an image that cannot be read: stop, or draw another one of its stratum (trunks trained from scratch).",
)
@seeded
@author
@workspace
def train_command(
    plan_hash: str, trunk: str, size: tuple[int, int] | None, heads: str | None, batch: int,
    learning_rate: float | None, parent: str, on_error: OnError, seed: int, author: str, home: str, as_json: bool,
) -> None:  # fmt: skip
    """Train a network on a plan and record its predictions and slice figures."""
    from training.evaluation.evaluation import evaluate
    from training.evaluation.features import embed
    from training.loop.trainer import train

    catalog = Catalog.open(home)
    plan = Plan.open(catalog.home, plan_hash) if plan_hash else Plan.newest(catalog.home)
    recipe = Recipe.of(
        trunk, size=size or _fitted(catalog, trunk), heads=heads, global_batch=batch, seed=seed,
        learning_rate=learning_rate,
    )  # fmt: skip
    screen = Screen(quiet=as_json)
    with screen.stages():
        pack = Pack.open(catalog.home, plan.pack_hash)
        embed(catalog.home, pack, recipe, progress=lambda done, total: screen.tell("embed", done, total))
        run_ = train(
            recipe, plan, catalog, parent=parent, on_error=on_error,
            progress=lambda done, total, loss: screen.tell("train", done, total),
        )  # fmt: skip
        figures = evaluate(
            run_, catalog, author=author, progress=lambda done, total: screen.tell("evaluate", done, total)
        ).to_pylist()
    title = _run_title(run_) + (f"; the draws are not those of its plan: {run_.alarm}" if run_.alarm else "")
    replaced = run_.replaced(catalog.home)
    title += f"; {len(replaced):,} draws were taken over by other images" if replaced else ""
    shown = {"run": run_.id, "figures": figures, "alarm": run_.alarm, "alarms": run_.alarms, "replaced": replaced}
    show(shown, as_json, lambda: _figures_table(title, figures))


@click.command("report")
@click.option("--run", "run_", default="", help="Run to report; default: the newest.")
@click.option(
    "--out", default="report.html", show_default=True, type=click.Path(path_type=Path), help="Where to write it."
)
@workspace
def report_command(run_: str, out: Path, home: str, as_json: bool) -> None:
    """Write report.html: figures of every slice, curves, coverage, and the worst slices as pictures."""
    catalog = Catalog.open(home)
    with catalog.read() as now:
        runs = now.runs()["run"].to_pylist()
    if not runs:
        raise NotFound(f"{home}: the catalog has no run yet; `amber train` makes one")
    path = write_report(catalog, run_ or runs[-1], out)
    show({"report": str(path)}, as_json, lambda: f"report {path}")


@click.command("request")
@click.option("--budget", type=int, help="Ask for this many labels.")
@click.option("--run", "run_", default="", help="Run whose predictions mine; default: the newest.")
@click.option("--random-share", default=0.15, show_default=True, help="Part of the budget that is drawn at random.")
@seeded
@click.option("--author", default="", envvar="AMBER_AUTHOR", help="Who asks, with --budget (AMBER_AUTHOR).")
@workspace
def request_command(
    budget: int | None, run_: str, random_share: float, seed: int, author: str, home: str, as_json: bool
) -> None:
    """Ask for labels where they help most (with --budget), and list the open requests."""
    catalog = Catalog.open(home)
    if budget is not None:
        with catalog.read() as now:
            runs, head = now.runs()["run"].to_pylist(), now.digest
        used = run_ or (runs[-1] if runs else "")
        made = Proposal(
            budget=budget, seed=seed, random_share=random_share, run=used, embeddings=_embeddings(catalog, used)
        )
        propose(catalog, made, author=author, batch=f"request:{head}:{made}")
    with catalog.read() as now:
        rows = now.requests("open").to_pylist()
    columns = ["priority", "task", "key", "arm", "slice", "reason", "propensity"]
    show(
        rows,
        as_json,
        lambda: table(f"{len(rows):,} open requests", columns, [[row[name] for name in columns] for row in rows]),
    )


@click.command("oracle")
@workspace
def oracle_command(home: str, as_json: bool) -> None:
    """Answer the open requests with the labels that the data set held back."""
    catalog = Catalog.open(home)
    with catalog.read() as now:
        digest = now.digest
    count = oracle.answer(catalog, batch=f"oracle:{digest}")
    show({"labels": count}, as_json, lambda: f"{count:,} labels")


@click.command("loop")
@click.option("--rounds", default=3, show_default=True, help="Rounds after the first training.")
@click.option("--budget", default=20, show_default=True, help="Labels to buy in a round.")
@click.option("--start", default=40, show_default=True, help="Labels to buy before the first training.")
@click.option("--random", "random_arm", is_flag=True, help="Buy every label at random: the baseline.")
@click.option(
    "--policy", "policy_file", type=click.Path(path_type=Path), help="Policy file; default: even and balanced."
)
@trunk_option
@size_option
@heads_option
@click.option("--draws", default=6_400, show_default=True, help="Draws of each round's plan.")
@click.option("--first-draws", type=int, help="Draws of the first plan, when the trunk is trained; default: --draws.")
@click.option("--label-studio", default="", help="Ask people there instead of the oracle: its address, or `local`.")
@click.option("--token", default="", envvar="LABEL_STUDIO_API_KEY", help="Its token (LABEL_STUDIO_API_KEY).")
@click.option("--overlap", default=1, show_default=True, help="People who are asked for each label.")
@click.option("--gold", default=0.0, show_default=True, help="Part of their queue of which the answer is known.")
@card_option
@third_option
@click.option("--images", default=SERVICE, show_default=True, help="Where people's browsers reach `amber serve`.")
@days_option
@seeded
@author
@workspace
def loop_command(
    rounds: int, budget: int, start: int, random_arm: bool, policy_file: Path | None, trunk: str,
    size: tuple[int, int] | None, heads: str | None, draws: int, first_draws: int | None, label_studio: str,
    token: str, overlap: int, gold: float, card: Path | None,
    third: timedelta, images: str, lasting: float, seed: int, author: str, home: str, as_json: bool,
) -> None:  # fmt: skip
    """Go round: ask, have answered, plan, train, evaluate. Killed and run again, it goes on where it was.

    With --label-studio it waits for people.
    """
    catalog = Catalog.open(home)
    loop = Loop(
        rounds=rounds, budget=budget, start=start, random_share=1.0 if random_arm else 0.15, draws=draws,
        first_draws=first_draws, seed=seed,
        recipe=Recipe.of(trunk, size=size or _fitted(catalog, trunk), heads=heads, seed=seed),
        policy=Policy.load(policy_file) if policy_file else None,
    )  # fmt: skip
    screen = Screen(quiet=as_json)
    with ExitStack() as stack:
        answer: Answer | None = None
        if label_studio:
            url = "" if label_studio == "local" else label_studio
            asking = Asking(overlap=overlap, gold=gold, notes=notes_of(catalog, card))
            answer = partial(
                ask_people, catalog, stack.enter_context(connect(catalog.home, url, token)), asking, third=third,
                url_for=url_for(catalog.home, images, seconds=lasting), lasting=lasting, progress=screen.tell,
            )  # fmt: skip
        stack.enter_context(screen.stages())
        done = list(go_round(catalog, loop, author=author, progress=screen.tell, answer=answer))
    with catalog.read() as now:
        rare = [part for part in now.slices().values() if part.rare and part.name in done[-1].found]

    def shown() -> None:
        for part in rare:
            output().print(rounds_table(f"{part.name} ({loop.arm})", {loop.arm: done}, task=part.task, rare=part.name))
        output().print(_figures_table(_run_title(Run.open(catalog.home, done[-1].run)), done[-1].figures))

    show([vars(step) for step in done], as_json, shown)


def _fitted(catalog: Catalog, trunk: str) -> tuple[int, int] | None:
    """The size that fits the catalog's images, for a frozen trunk; the others have a default of their own."""
    from training.evaluation.image_size import fitted_size

    if trunk == "small":
        return None
    with catalog.read() as now:
        return fitted_size(now)


def _run_title(run_: Run) -> str:
    """The run, how its heads were learned, and its alarms, a line each."""
    kinds = [head.kind for head in run_.heads]
    counts = [f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds))]
    heads = f": {', '.join(counts)} head{'s' if len(kinds) > 1 else ''}" if kinds else ""
    return "\n".join([f"Run {run_.id}{heads}", *(f"alarm: {alarm}" for alarm in run_.alarms)])


def _figures_table(title: str, figures: list[dict[str, Any]]) -> Any:
    rows = [
        [row["task"], row["slice"] or "(all)", row["split"], row["n"], row["groups"], row["metric"], interval(row)]
        for row in figures
        if row["n"]
    ]
    return table(title, ["task", "slice", "split", "n", "groups", "metric", "value [95% interval]"], rows)


def _embeddings(catalog: Catalog, run_: str) -> str:
    """The embeddings that a run stands on, or else any that the workspace has."""
    name = Run.open(catalog.home, run_).recipe.embeddings if run_ else ""
    if name:
        return name
    found = sorted(path.parent.name for path in (catalog.home / "embeddings").glob("*/embeddings.json"))
    return found[0] if found else ""
