"""The report of a run: one HTML file that opens anywhere, without a network; it is written without torch.

It shows the recipe and the data of the run, its errors by slice and by class, and the plan, as of the commit that
evaluated it: labels that are added later do not change the report. May import `training.evaluation` (not the modules
that need torch) and whatever is below it.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.report.page import write_report

__all__ = ["write_report"]


def __getattr__(name: str) -> object:
    """`write_report` on first use: it loads matplotlib, which takes half a second."""
    if name == "write_report":
        return importlib.import_module("training.report.page").write_report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
