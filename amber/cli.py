"""The command line. Every verb has --json and --home; errors are one line and an exit code (`amber/exit_codes.py`)."""

import click

from amber.exit_codes import guarded
from amber.verbs.browse import browse_command
from amber.verbs.catalog import catalog_group
from amber.verbs.labeling import label_group
from amber.verbs.learning import loop_command, oracle_command, report_command, request_command, train_command
from amber.verbs.ledger import diff, forget_command, ingest_command, init, log, revert_command, tasks, write_command
from amber.verbs.planning import plan_group
from amber.verbs.sampling import pack_command, policy
from amber.verbs.serving import serve_group
from amber.verbs.slices import coverage_command, duplicates_command, slices

__all__ = ["cli", "run"]


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; every error that a user can cause is one line on standard error."""
    return guarded(lambda: cli.main(arguments, prog_name="amber", standalone_mode=False))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="amber-curation", prog_name="amber")
def cli() -> None:
    """Curate and sample data for multitask vision: ledger, plan, stream, and the loop that asks for labels."""


for verb in (
    catalog_group,
    init,
    ingest_command,
    tasks,
    log,
    diff,
    revert_command,
    forget_command,
    write_command,
    coverage_command,
    slices,
    duplicates_command,
    browse_command,
    policy,
    pack_command,
    plan_group,
    train_command,
    report_command,
    request_command,
    oracle_command,
    label_group,
    loop_command,
    serve_group,
):
    cli.add_command(verb)
