"""The verb `amber prevalence`."""

from collections.abc import Sequence
from dataclasses import asdict

import click

from amber.completion import TASK
from amber.terminal import note, show, table
from amber.verbs.options import workspace
from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from training.judging.prevalence import ClassPrevalence, prevalence

__all__ = ["prevalence_command"]


@click.command("prevalence")
@click.argument("tasks", nargs=-1, metavar="[TASK]...", type=TASK)
@workspace
def prevalence_command(tasks: Sequence[str], home: str, as_json: bool) -> None:
    """Show how common each class of TASK (default: all) is among the images that may be trained on.

    Mined labels are richer in rare classes than the images are. So the known labels count as they are, and the images
    without one by the rate of the labels that were requested at random (the random arm of `amber request`).
    """
    with Catalog.open(home).read() as now:
        wanted = [now.task(name) for name in tasks] or [task for task in now.tasks().values() if task.classes]
        rows, refused = list[ClassPrevalence](), list[str]()
        for task in wanted:
            try:
                rows += prevalence(now, task)
            except BadInput as error:
                refused.append(str(error))
    if not rows:
        raise BadInput(refused[0] if refused else f"{home}: no task has classes; name one that has")
    for line in refused:
        note(line)
    columns = ["task", "class", "share", "images", "of", "known", "random labels"]
    show([asdict(row) for row in rows], as_json, lambda: table("Prevalence [95% interval]", columns, map(_cells, rows)))


def _cells(row: ClassPrevalence) -> list[object]:
    share = f"{100 * row.value:.2f}% [{100 * row.low:.2f}, {100 * row.high:.2f}]"
    return [row.task, row.name, share, round(row.value * row.images), row.images, row.known, row.random]
