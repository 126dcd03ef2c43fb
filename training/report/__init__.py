"""The report of a run: one HTML file that opens anywhere, without a network; it is written without torch.

It shows what the run was made of, where it fails and what it was drawn from, as of the commit that judged it: the same
run gives the same report, whatever was labelled since.
"""

from training.report.page import write_report

__all__ = ["write_report"]
