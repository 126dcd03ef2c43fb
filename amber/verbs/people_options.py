"""Options of verbs that have people label; they import nothing of Label Studio."""

from datetime import timedelta
from pathlib import Path

import click

from curation.errors import BadInput

__all__ = ["DAY", "card_option", "days_option", "third_option"]

DAY = 86_400
"""Seconds."""

LONGEST = 10_000
"""Upper limit of options in days or hours."""


def _seconds(context: click.Context, parameter: click.Parameter, days: float) -> float:
    if not 0 < days <= LONGEST:
        raise BadInput(f"days {days}: must be above 0 and at most {LONGEST:,}; correct it")
    return days * DAY


def _hours(context: click.Context, parameter: click.Parameter, third: float) -> timedelta:
    if not 0 <= third <= LONGEST:
        raise BadInput(f"third {third}: must be between 0 and {LONGEST:,} hours; correct it")
    return timedelta(hours=third)


card_option = click.option(
    "--card", type=click.Path(path_type=Path), help="Data set card (Markdown); sections named after tasks are shown."
)
days_option = click.option(
    "--days", "lasting", default=30.0, show_default=True, callback=_seconds, help="Days for which image URLs are valid."
)
third_option = click.option(
    "--third", default=24.0, show_default=True, callback=_hours,
    help="Hours to wait for a third person where two disagree.",
)  # fmt: skip
