"""The page: renders every section with the template and writes it atomically."""

from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from curation.catalog.catalog import Catalog
from curation.files.atomic import whole
from curation.ingestion.leaks import refuse_leaks
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan
from training.report.class_results import class_view
from training.report.comparison import comparison_view
from training.report.contact_sheets import worst_view
from training.report.coverage_charts import agreement_view, coverage_view, missing_view
from training.report.formatting import FEW, WIDE
from training.report.next_steps import next_steps
from training.report.other_runs import confusions, raised_by_rate, run_before
from training.report.rounds import rounds_view
from training.report.run_results import load_results, registered_run, verified_predictions
from training.report.sections import figures_view, header_view, plan_view, training_view
from training.run import Run

__all__ = ["write_page", "write_report"]

Row = Mapping[str, Any]
View = dict[str, Any]


def write_report(
    catalog: Catalog,
    run_id: str,
    path: Path,
    *,
    title: str = "Amber report",
    rounds: Sequence[Row] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the report of an evaluated run to `path`, one self-contained HTML file; returns `path`.

    `rounds` are the rounds of a loop, of one or several arms: arm, index, labels (bought so far), found (rare slice ->
    labels bought that belong to it), run and figures (task, slice, split, metric, n, groups, value, low, high).
    `progress` is called with the sections done and all sections. NotFound when the workspace has no such run, or when
    it was not evaluated; Damaged when its predictions have changed since; BadInput when the plan drew from a group that
    is in an evaluation split, because the figures would be too good.
    """
    home, report = catalog.home, progress or (lambda done, total: None)
    run = Run.open(home, run_id)
    run_id = run.id
    plan = Plan.open(home, run.plan)
    with catalog.read() as now:
        entry = registered_run(now, run_id)
        refuse_leaks(now, plan.keys)
    with catalog.read(entry["commit_id"]) as then:
        results = load_results(then, run_id, plan, verified_predictions(home, entry))
        before = run_before(then, home, run, results)
        sums = confusions(then, home, [str(row["run"]) for row in rounds], results)
        steps = next_steps(then, home, results, run, plan)
    sections: dict[str, Callable[[], Any]] = {
        "rounds": lambda: rounds_view(results, rounds, sums),
        "header": lambda: header_view(results, run, plan, home, rounds),
        "figures": lambda: figures_view(results, raised_by_rate(results, before)),
        "comparison": lambda: comparison_view(results, before),
        "classes": lambda: class_view(results, before),
        "training": lambda: training_view(run, plan),
        "coverage": lambda: coverage_view(results),
        "missing": lambda: missing_view(results),
        "agreement": lambda: agreement_view(results),
        "worst": lambda: worst_view(results, Pack.open(home, plan.pack_hash)),
        "plan": lambda: plan_view(plan, run),
        "steps": lambda: steps,
    }
    view: View = {"title": title, "few": FEW, "wide": WIDE}
    for done, (name, section) in enumerate(sections.items()):
        report(done, len(sections))
        view[name] = section()
    write_page(path, "page.html", view)
    report(len(sections), len(sections))
    return path


def write_page(path: Path, name: str, view: Mapping[str, Any]) -> None:
    """Write the page that the template `name` of this room makes of `view`, whole or not at all."""
    pages = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    text = pages.get_template(name).render(view)
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def _source(name: str) -> str:
    return resources.files("training.report").joinpath(name).read_text(encoding="utf-8")
