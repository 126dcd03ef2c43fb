"""The section of the report about what each arm of label requests found."""

from collections.abc import Sequence
from typing import Any

from training.evaluation.intervals import Figure
from training.judging.request_arms import ArmFigures
from training.report.formatting import entry_view, share_row

__all__ = ["arms_view"]


def arms_view(arms: Sequence[ArmFigures]) -> list[dict[str, Any]]:
    """A row for each arm, with the shares as entries of a table; None where nothing is known of a share."""
    return [
        {
            "arm": part.arm, "requested": part.requested, "answered": part.answered, "rare": _entry(part.rare),
            "wrong": _entry(part.wrong),
        }
        for part in arms
    ]  # fmt: skip


def _entry(figure: Figure) -> dict[str, Any] | None:
    return entry_view(share_row(figure))
