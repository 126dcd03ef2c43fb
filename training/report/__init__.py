"""The report of a run: one HTML file that opens anywhere, without a network; it is written without torch.

It shows what the run was made of, where it fails and what it was drawn from, as of the commit that judged it: the same
run gives the same report, whatever was labelled since.
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
