"""The command line. Every verb has --json and --home; errors are one line and an exit code (`amber/exit_codes.py`).

The module of a verb is imported only when that verb is called, so that each starts fast.
"""

import platform
from collections.abc import Iterator, MutableMapping
from importlib import import_module, metadata
from typing import TYPE_CHECKING

import click

from amber.exit_codes import guarded

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["VERBS", "cli", "run"]

VERBS = {
    "accounts": ("accounting:accounts_command", "Show who paid for what over the last plans, and who lost by it."),
    "advise": ("advising:advise_command", "Say whether learning the tasks together pays here, by what was measured."),
    "affinity": ("affinity:affinity_command", "Show which tasks of RUN help or harm each other; --pairs measures it."),
    "backup": ("workspace:backup_command", "Write the whole workspace into the new FOLDER, with checksums."),
    "browse": ("browse:browse_command", "Show the catalog, or one SLICE of it, in the FiftyOne App."),
    "catalog": ("catalog:catalog_group", "Copies, backups, checks and migrations of the catalog."),
    "compare": ("judging:compare_command", "Compare two runs on every slice: differences, p values, flipped images."),
    "compare-trees": ("comparing:compare_trees_command", "Train trees of tasks with the same seeds, and compare them."),
    "completion": ("completing:completion_command", "Print the script with which a shell completes amber."),
    "coverage": ("slices:coverage_command", "Show what is labelled, by whom, and what is not missing at random."),
    "diff": ("ledger:diff", "Show what changed from commit FIRST to commit LAST, by task and slice."),
    "discover": ("discovering:discover_command", "Find slices that nobody declared on which RUN errs."),
    "doubts": ("doubting:doubts_command", "List labels that are likely wrong, and ask for them again."),
    "drift": ("drift:drift_command", "Show what differs between two commits, dates or folders of images."),
    "duplicates": ("slices:duplicates_command", "List near-duplicates, and those across training and evaluation."),
    "evaluate": ("evaluating:evaluate_command", "Judge RUN again by what is known now, or estimate its error."),
    "export-model": ("deploying:export_model_command", "Write a trained network as ONNX, torch.export, safetensors."),
    "forecast": ("forecasting:forecast_command", "Forecast how many labels of a task a target takes, and their cost."),
    "forget": ("forgetting:forget_command", "Remove SAMPLE (a key) and everything known about it."),
    "gate": ("gating:gate_command", "Decide whether RUN may replace another one: pass, block, or not enough data."),
    "group": ("group:group_command", "Choose which tasks of RUN to learn together, from measured pairs."),
    "ingest": ("ledger:ingest_command", "Add the data set declared in the folder DATASET to the catalog."),
    "init": ("ledger:init", "Create a workspace with an empty catalog, or open an existing one."),
    "label": ("labeling:label_group", "Have people label in Label Studio: push requests, pull answers, assign people."),
    "lineage": ("lineage:lineage_command", "Show the chain of trainings and plans that led to RUN."),
    "log": ("ledger:log", "List commits, newest first."),
    "loop": ("looping:loop_command", "Run rounds of: request labels, have them answered, plan, train, evaluate."),
    "notices": ("notifying:notices_group", "List what happened that somebody may want to know; send it as chosen."),
    "oracle": ("requesting:oracle_command", "Answer the open requests with the labels that the data set held back."),
    "owners": ("owners:owners_group", "List owners with their tasks and members; `set` maps one to users and tokens."),
    "pack": ("sampling:pack_command", "Write the images of the catalog into WebDataset shards, once."),
    "plan": ("planning:plan_group", "Resolve a policy into a plan: the draws, and what every task gets."),
    "policy": ("sampling:policy", "What the owners of tasks request from the plan."),
    "predict": ("deploying:predict_command", "Predict images that are not in the catalog, and how unusual each is."),
    "predictions": ("predictions:predictions_group", "Import the predictions of any model as a run without a plan."),
    "prevalence": ("prevalence:prevalence_command", "Show how common each class is, whatever mining labelled."),
    "prune": ("workspace:prune_command", "List what nothing needs any more; --yes removes it."),
    "queue": ("queueing:queue_command", "Show what changed about each task, and what to train again."),
    "release": ("releasing:release_command", "Deploy RUN where the gate passes it, or go back to the release before."),
    "replay": ("replaying:replay_command", "Rebuild the chain of RUN from the ledger, and say whether it reproduces."),
    "report": ("training:report_command", "Write report.html: figures, curves, coverage, and the worst slices."),
    "request": ("requesting:request_command", "Request labels where they help most, and list the open requests."),
    "restore": ("workspace:restore_command", "Make a workspace from the backup in FOLDER."),
    "retrain": ("retraining:retrain_command", "Train again what changed, as little as the gate accepts."),
    "revert": ("ledger:revert_command", "Undo COMMIT with a new commit."),
    "runs": ("runs:runs_command", "List runs: date, author, plan, policy, parent, figures, withdrawn."),
    "search": ("searching:search_group", "Search a tree of tasks, importances or rates, judged on fresh seeds."),
    "serve": ("serving:serve_group", "Serve images under signed URLs, and the catalog as a JSON API."),
    "similar": ("similar:similar_command", "Find the images most similar to a key, a file or a vector."),
    "simulate": ("simulating:simulate_command", "Run the loop on a data set whose labels are all known."),
    "slices": ("slices:slices", "List slices with their sizes; add, show, remove or compare them."),
    "tasks": ("tasks:tasks_group", "List tasks: kind, classes, metric and owner; `redefine` changes one."),
    "train": ("training:train_command", "Train a network on a plan; record its predictions and slice figures."),
    "triggers": ("triggers:triggers_command", "Show conditions over predictions that fire, and ask for their labels."),
    "trunks": ("trunks:trunks_command", "List the trunks that a recipe may name: features, stages, parameters."),
    "write": ("writing:write_command", "Write what is known into a file: Parquet, CSV, COCO, or labels."),
}
"""Verb -> its module and command in `amber.verbs`, and the line that `amber --help` shows for it."""


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; every error that a user can cause is one line on standard error.

    >>> run(["log", "--home", "no/such/workspace"])
    2
    """
    return guarded(lambda: cli.main(arguments, prog_name="amber", standalone_mode=False))


class LazyCommands(MutableMapping[str, click.Command]):
    """The commands of `VERBS` by name; each is imported when it is first read."""

    def __init__(self) -> None:
        self._loaded: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._loaded:
            module, _, attribute = VERBS[name][0].partition(":")
            self._loaded[name] = getattr(import_module(f"amber.verbs.{module}"), attribute)
        return self._loaded[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{name}: verbs are fixed")

    def __iter__(self) -> Iterator[str]:
        return iter(VERBS)

    def __len__(self) -> int:
        return len(VERBS)


class VerbGroup(click.Group):
    """A group whose help lists the verbs without importing them."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, VERBS[name][1]) for name in sorted(VERBS)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """The verbs that begin with what was typed, and the options of `amber`; no verb is imported for it."""
        from click.shell_completion import CompletionItem

        verbs = [CompletionItem(name, help=line) for name, (_, line) in VERBS.items() if name.startswith(incomplete)]
        return [*verbs, *click.Command.shell_complete(self, ctx, incomplete)]


def _show_version(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
    """Print the versions of Amber and of what its figures depend on, by their metadata: nothing is imported."""
    if asked and not context.resilient_parsing:
        shown = {"amber": "amber-curation", "Python": "", "DuckDB": "duckdb", "torch": "torch"}
        click.echo(", ".join(f"{name} {_version(package)}" for name, package in shown.items()))
        context.exit()


def _version(package: str) -> str:
    """The installed version of a package, of Python where it is empty; "not installed" where it is missing."""
    try:
        return metadata.version(package) if package else platform.python_version()
    except metadata.PackageNotFoundError:
        return "not installed"


@click.group(
    cls=VerbGroup,
    commands=LazyCommands(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version,
    help="Show the versions of Amber, Python, DuckDB and torch.",
)  # fmt: skip
def cli() -> None:
    """Curate and sample data for multitask vision: catalog, plan, stream, and the loop that requests labels."""
