"""The page: renders every section with the template and writes it atomically."""

from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.catalog.snapshot import Snapshot
from curation.files.atomic import whole
from training.imported import Imported, beside_of
from training.judging.request_arms import arm_figures
from training.report.baselines import baselines_view, labelled_by_name
from training.report.box_results import boxes_view
from training.report.class_results import class_view
from training.report.comparison import comparison_view
from training.report.contact_sheets import worst_view
from training.report.coverage_charts import agreement_view, coverage_view, missing_view
from training.report.formatting import FEW, WIDE
from training.report.list_results import lists_view
from training.report.next_steps import next_steps, steps_of_imported
from training.report.origin import TrainedRun, parent_of, pictures_of, reported, tasks_of
from training.report.other_runs import confusions, raised_by_rate, run_before
from training.report.request_arms import arms_view
from training.report.rounds import rounds_view
from training.report.run_results import RunResults, load_results, registered_run, verified_predictions
from training.report.runs_table import runs_view
from training.report.sections import figures_view, header_view, imported_header, plan_view, training_view

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
    baselines: Mapping[str, pa.Table] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the report of an evaluated run to `path`, one self-contained HTML file; returns `path`.

    `rounds` are the rounds of a loop, of one or several arms: arm, index, labels (bought so far), found (rare slice ->
    labels bought that belong to it), run and figures (task, slice, split, metric, n, groups, value, low, high).
    `baselines` are predictions of other trainings for the same images, by name (`evaluation.predict`): each task's
    figure stands beside theirs, and beside that of the best constant.
    `progress` is called with the sections done and all sections. NotFound when the workspace has no such run, or when
    it was not evaluated; Damaged when its predictions have changed since; BadInput when the plan drew from a group that
    is in an evaluation split, because the figures would be too good. An imported run has no section about training,
    baselines and plan; where nobody declared what its model was trained on, that stands beside its figures.
    """
    home, report, origin = catalog.home, progress or (lambda done, total: None), reported(catalog.home, run_id)
    run_id = origin.id
    with catalog.read() as now:
        entry = registered_run(now, run_id)
        origin.refuse_leaks(home, now)
    with catalog.read(entry["commit_id"]) as then:
        results = load_results(then, run_id, tasks_of(origin), verified_predictions(home, entry))
        before = run_before(then, home, run_id, results, parent=parent_of(origin))
        others = confusions(then, home, [str(row["run"]) for row in rounds], results)
        about = (
            _about_trained(then, home, origin, results, rounds, baselines or {})
            if isinstance(origin, TrainedRun) else _about_imported(then, home, origin, results)
        )  # fmt: skip
        runs = runs_view(then, home, results, run_id)
        pictures = pictures_of(origin, home, then)
        arms = arm_figures(then, home)
    raised = raised_by_rate(results, before)
    sections: dict[str, Callable[[], Any]] = {
        "rounds": lambda: rounds_view(results, rounds, others),
        "figures": lambda: figures_view(results, raised),
        "comparison": lambda: comparison_view(results, before),
        "runs": lambda: runs,
        "classes": lambda: class_view(results, before, raised),
        "boxes": lambda: boxes_view(results, pictures),
        "lists": lambda: lists_view(results),
        "coverage": lambda: coverage_view(results),
        "missing": lambda: missing_view(results),
        "agreement": lambda: agreement_view(results),
        "arms": lambda: arms_view(arms),
        "worst": lambda: worst_view(results, pictures),
        **about,
    }
    view: View = {"title": title, "few": FEW, "wide": WIDE, "beside": beside_of(home, run_id)}
    for done, (name, section) in enumerate(sections.items()):
        report(done, len(sections))
        view[name] = section()
    write_page(path, "page.html", view)
    report(len(sections), len(sections))
    return path


def _about_trained(
    then: Snapshot,
    home: Path,
    origin: TrainedRun,
    results: RunResults,
    rounds: Sequence[Row],
    baselines: Mapping[str, pa.Table],
) -> dict[str, Callable[[], Any]]:
    """The sections about a run that Amber trained."""
    run, plan = origin.run, origin.plan
    steps, beside = next_steps(then, home, results, run, plan), labelled_by_name(then, results, baselines)
    return {
        "header": lambda: header_view(results, run, plan, home, rounds), "training": lambda: training_view(run, plan),
        "baselines": lambda: baselines_view(results, plan, beside), "plan": lambda: plan_view(plan, run),
        "steps": lambda: steps,
    }  # fmt: skip


def _about_imported(
    then: Snapshot, home: Path, imported: Imported, results: RunResults
) -> dict[str, Callable[[], Any]]:
    """The sections about an imported run: how it was trained and on which plan is not for Amber to say."""
    steps = steps_of_imported(home, results, imported)
    return {
        "header": lambda: imported_header(results, imported, home), "training": lambda: None,
        "baselines": lambda: {"names": [], "rows": []}, "plan": lambda: None, "steps": lambda: steps,
    }  # fmt: skip


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
