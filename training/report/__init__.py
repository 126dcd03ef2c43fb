"""The report of a run: one HTML file that opens anywhere, without a network; it is written without torch.

It shows the recipe and the data of the run, its errors by slice and by class, and the plan, as of the commit that
evaluated it: labels that are added later do not change the report. May import `training.evaluation` (not the modules
that need torch) and whatever is below it.
"""

from training.report.page import write_report

__all__ = ["write_report"]
