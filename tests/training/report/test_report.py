"""The report of real workspaces: one page that loads nothing from anywhere."""

import base64
import hashlib
import io
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.homes import copy_home, label, labels, make_home

from curation.catalog.catalog import Catalog
from curation.catalog.tasks import Task
from curation.errors import AmberError, Damaged, NotFound
from samplers.pack.pack_writer import make_pack
from samplers.plan.build import make_plan
from samplers.plan.plan import Plan
from samplers.policy.policy import Policy
from training import Recipe, Run
from training.evaluation.figures import slice_errors
from training.report import write_report
from training.report.formatting import doubt_of, error_of, value_text
from training.report.run_results import load_results, registered_run
from training.report.worst_slices import worst_slices

HOSTILE = Task(
    name="hostile", kind="categorical", classes=("<script>alert(1)</script>", '"quoted" & co'), owner="<b>mallory</b>"
)
HOSTILE_PREDICATE = "attr.night OR label.hostile = '<script>alert(1)</script>'"
VOID = {"meta", "img", "br", "path", "rect", "line", "circle", "use"}
SECTIONS = [
    "loop",
    "figures",
    "baselines",
    "classes",
    "training",
    "coverage",
    "missing",
    "agreement",
    "worst",
    "plan",
    "next",
]


@dataclass
class Home:
    """A workspace with one evaluated run, and the rounds of a loop that could have led to it."""

    catalog: Catalog
    run: str
    rounds: list[dict[str, Any]]

    def page(self, path: Path, **options: Any) -> str:
        return write_report(self.catalog, self.run, path, **options).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    catalog = make_home(tmp_path_factory.mktemp("report"), samples=320)
    with catalog.read() as now:
        samples = now.samples()
    test = samples.filter(pc.equal(samples["split"], "test"))["key"].to_pylist()
    with catalog.commit(author="mallory", message="hostile names") as change:
        change.add_tasks([HOSTILE])
        keys = [*test, *samples["key"].to_pylist()[8:40]]
        change.add_labels(
            labels([label(key, "hostile", HOSTILE.classes[key in test[:2]]) for key in keys]), source="import"
        )
        change.add_labels(labels([label(samples["key"][5].as_py(), "car", None)]), source="human")
        given = [label(key, "hostile", HOSTILE.classes[0], "<i>net</i>") for key in keys]
        change.add_labels(labels(given), source="model")
        change.add_slice("image", HOSTILE_PREDICATE, task="hostile", rare=True)
        change.add_slice("nowhere", "attr.night AND NOT attr.night")
    with catalog.read() as now:
        policy = Policy.even(now.tasks().values())
    plan = make_plan(catalog, policy, make_pack(catalog), draws=400)
    run = Run(
        id="f00d", plan=plan.hash, commit=plan.commit, recipe=Recipe(heads="drawn"), seconds=1.5,
        libraries={"numpy": "2.2"},
        curve=[{"Draws": 64 * step, **{task.name: 1 / step for task in plan.tasks}} for step in range(1, 30)],
        states=[{"Draws": 64 * step, "task": "color", "state": state, "loss": 0.5}
                for step, state in enumerate(("ACTIVE", "PLATEAU", "PLATEAU", "DISTILL", "FROZEN"), 1)],
    )  # fmt: skip
    (catalog.home / "runs" / run.id).mkdir(parents=True)
    run.save(catalog.home)
    figures = evaluate(catalog, run.id, plan)
    rounds = [
        {"arm": arm, "index": index, "labels": 40 + 20 * index, "found": {"yellow": index}, "run": run.id,
         "figures": figures}
        for arm in ("random", "mined") for index in range(3)
    ]  # fmt: skip
    return Home(catalog=catalog, run=run.id, rounds=rounds)


def evaluate(catalog: Catalog, run: str, plan: Plan) -> list[dict[str, Any]]:
    """Register a run that predicts the first class, or 40, for every image."""
    path = catalog.home / "runs" / run / "predictions.parquet"
    pq.write_table(pa.concat_tables([answers(plan, task.task) for task in plan.tasks]), path)
    with catalog.commit(author="ada", message="evaluate") as change:
        errors = slice_errors(change.now, run, [task.task for task in plan.tasks], path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        change.add_run(run, plan=plan.hash, predictions=f"runs/{run}/predictions.parquet", sha256=sha256)
        change.add_slice_errors(errors)
    return errors.to_pylist()


def answers(plan: Plan, task: Task) -> pa.Table:
    keys = [f"pictures/{number:05d}" for number in range(320)]
    number = task.kind == "regression"
    return pa.table(
        {
            "key": keys,
            "task": [task.name] * len(keys),
            "code": pa.array([None if number else 0] * len(keys), pa.int32()),
            "number": pa.array([40.0 if number else None] * len(keys), pa.float64()),
            "confidence": pa.array([None if number else 0.9] * len(keys), pa.float64()),
        }
    )


@pytest.fixture(scope="module")
def page(home: Home, tmp_path_factory: pytest.TempPathFactory) -> str:
    return home.page(tmp_path_factory.mktemp("page") / "deep" / "report.html", rounds=home.rounds)


@pytest.fixture(scope="module")
def plain(home: Home, tmp_path_factory: pytest.TempPathFactory) -> str:
    return home.page(tmp_path_factory.mktemp("plain") / "report.html", title="</title><script>")


class Outline(HTMLParser):
    """Open tags, ids and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids.update(value for name, value in attrs if name == "id" and value)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def section(page: str, name: str) -> str:
    return page[page.index(f'<section id="{name}"') :].split("</section>")[0]


def text(page: str) -> str:
    return " ".join(unescape(re.sub("<[^>]+>", " ", page)).split())


def test_the_page_loads_nothing(page: str) -> None:
    assert not re.search("https?://|//cdn|@import|<script|<link|<iframe", page)
    assert all(place.startswith("#") for place in re.findall(r"url\(([^)]*)\)", page))
    loads = [(tag, value) for tag, name, value in Outline(page).attributes if name in ("src", "href", "data", "srcset")]
    assert all(value.startswith("data:image/jpeg;" if tag == "img" else "#") for tag, value in loads)
    assert "default-src 'none'" in page


def test_the_page_is_well_formed(page: str) -> None:
    outline = Outline(page)
    assert outline.open == []
    assert [name for name, count in outline.ids.items() if count > 1] == []
    targets = {value[1:] for _, name, value in outline.attributes if name == "href"}
    assert targets <= set(outline.ids)


def test_every_section_is_there_in_order(page: str) -> None:
    assert re.findall('<section id="([a-z]+)"', page) == SECTIONS


def test_pictures_and_charts_have_alternative_texts(page: str) -> None:
    outline = Outline(page)
    pictures = [value for tag, name, value in outline.attributes if (tag, name) == ("img", "alt")]
    charts = [value for tag, name, value in outline.attributes if (tag, name) == ("svg", "aria-label")]
    assert len(pictures) == page.count("<img ")
    assert len(charts) == page.count('<svg class="chart"')
    assert all(pictures)
    assert all(charts)
    assert page.count("<caption>") == page.count("<table")


def test_a_curve_tells_the_states_of_its_task(page: str) -> None:
    assert "PLATEAU from 128 draws on; DISTILL from 256 draws on; FROZEN from 320 draws on" in page
    assert page.count("draws on;") == 2  # of one task alone


def test_thumbnails_are_small_jpegs(page: str) -> None:
    for data in re.findall(r"data:image/jpeg;base64,([^\"]+)", page):
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert image.format == "JPEG"
            assert max(image.size) <= 160


def test_names_are_escaped_everywhere(page: str) -> None:
    assert "<script" not in page
    assert "<b>mallory" not in page
    for name in (
        "hostile",
        HOSTILE_PREDICATE.removeprefix("attr.night OR "),
        HOSTILE.classes[0],
        HOSTILE.classes[1],
        HOSTILE.owner,
    ):
        assert name in text(page) or name in unescape(page)


def test_a_hostile_title_is_text(plain: str) -> None:
    assert "<script" not in plain
    assert "<title>&lt;/title&gt;&lt;script&gt;</title>" in plain


def test_the_loop_is_shown_by_arm(page: str) -> None:
    loop = text(section(page, "loop"))
    assert loop.index("mined") < loop.index("random")
    assert "recall of yellow" in loop
    assert re.search(r"yellow found .* 40 0 .* 60 1 .* 80 2", loop)


def test_without_rounds_there_is_no_loop(plain: str) -> None:
    assert re.findall('<section id="([a-z]+)"', plain) == SECTIONS[1:]
    assert 'href="#loop"' not in plain


def test_an_arm_may_lack_a_round(home: Home, tmp_path: Path) -> None:
    rounds = [{**row, "labels": row["labels"] + (row["arm"] == "random")} for row in home.rounds]
    assert "41" in text(section(home.page(tmp_path / "report.html", rounds=rounds), "loop"))


def test_figures_with_no_data_or_too_little_are_marked(page: str) -> None:
    figures = text(section(page, "figures"))
    assert len(re.findall(r"nowhere attr.night AND .{0,60} no data", figures)) == 5
    assert "too little data" in figures
    assert "green;" not in page


def test_everything_comes_first_then_the_worst(page: str) -> None:
    table = section(page, "figures").split("</table>")[0]
    assert re.search(r"<b>color</b>", table)
    rows = re.findall(r'<th scope="row"[^>]*>([a-z_]+)', table)
    values = re.findall(r'<td><span class="[a-z ]+">(?:<b>)?([\d.]+|\u2013)', table)
    assert len(values) == len(rows)
    assert rows[0] == "everything"
    assert values[-1] == "\u2013"
    assert values[1:] == sorted(values[1:])


def test_coverage_distinguishes_unknown_from_unsure(page: str) -> None:
    coverage = text(section(page, "coverage"))
    assert re.search(
        r"car false \d+ · true \d+ by vendor \(import\) .{1,30} [\d.]+% \d+ known 1 unsure \d+ unknown",
        coverage,
    )
    assert "yellow_at_night" in coverage
    assert "by its label" in coverage


def test_agreement_is_shown_for_what_several_labelled(page: str) -> None:
    agreement = section(page, "agreement")
    assert agreement.count("<article") == 1
    assert re.search(r"hostile 2 disputed images everyone -?[\d.]+ alpha \d+% of pairs agree", text(agreement))
    assert re.search(r"vendor import, \d+ known \S \d+% of \d+ \d+%", text(agreement))
    assert "<i>net</i>" in text(agreement)
    assert "<i>net" not in agreement
    assert "so agreement is not known: color, car, bike, speed, things." in text(agreement)


def test_without_a_difference_there_is_none(page: str) -> None:
    assert "None of 5 pairs of task and attribute" in text(section(page, "missing"))


def test_a_planted_difference_is_shown_with_its_shares(home: Home, tmp_path: Path) -> None:
    catalog = copy_home(home.catalog, tmp_path)
    with catalog.read() as now:
        dark = {row["sample_id"] for row in now.attribute("night").to_pylist() if row["value"]}
        keys = [row["key"] for row in now.samples().to_pylist() if row["sample_id"] in dark]
    with catalog.commit(author="ada", message="nights") as change:
        change.add_labels(labels([label(key, "things", [], "ada") for key in keys]), source="human")
    evaluate(catalog, home.run, Plan.newest(catalog.home))
    page = write_report(catalog, home.run, tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.search(r"things night (true 100% false|false 0% true 100%) .*Cramér.s V", text(section(page, "missing")))
    assert "looked at, and none there" in text(section(page, "coverage"))


def test_sheets_show_errors_with_truth_prediction_and_boxes(page: str) -> None:
    worst = section(page, "worst")
    sheets = worst.split("<article")[1:]
    assert 1 <= len(sheets) <= 6
    assert all(1 <= sheet.count("<img ") <= 12 for sheet in sheets)
    assert re.search("truth yellow predicted red confidence 90%", text(worst))
    assert re.search(r"truth [\d.]+ km/h predicted 40.0 km/h off by", text(worst))
    assert "Known boxes:" in worst


def test_the_plan_names_owners_and_shares(page: str) -> None:
    plan = text(section(page, "plan"))
    assert re.search("400 draws from", plan)
    assert re.search(r"car bob balanced 20.0% 20.0% 0.2 ", plan)
    assert "draws a label" in plan


def test_the_same_run_gives_the_same_page_whatever_is_labelled_since(home: Home, page: str, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    with home.catalog.commit(author="eve", message="later") as change:
        change.add_labels(labels([label("pictures/00100", "car", True)]), source="human")
    again = home.page(tmp_path / "b.html", rounds=home.rounds, progress=lambda done, total: calls.append((done, total)))
    assert again == page
    assert calls == [(done, 17) for done in range(18)]
    assert [path.name for path in tmp_path.iterdir()] == ["b.html"]


def test_an_unknown_run_and_one_that_was_not_evaluated(home: Home, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such run"):
        write_report(home.catalog, "nope", tmp_path / "report.html")
    (home.catalog.home / "runs" / "beef").mkdir()
    run = Run.open(home.catalog.home, home.run)
    Run(id="beef", plan=run.plan, commit=run.commit, recipe=run.recipe).save(home.catalog.home)
    with pytest.raises(NotFound, match="'beef': the catalog has no figures of it"):
        write_report(home.catalog, "beef", tmp_path / "report.html")


def test_changed_predictions_are_refused(home: Home, tmp_path: Path) -> None:
    path = home.catalog.home / "runs" / home.run / "predictions.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(Damaged, match="differs from what was written"):
        write_report(home.catalog, home.run, tmp_path / "report.html")
    path.write_bytes(whole)


def test_a_path_that_cannot_be_written(home: Home, tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(AmberError, match="not written"):
        write_report(home.catalog, home.run, tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_reports_run_without_torch() -> None:
    code = "import sys, training.report; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_worst_slices_are_those_of_the_report(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has the report's error; the worst come first, those with too little data last."""
    monkeypatch.setattr("training.report.formatting.FEW", 5)
    monkeypatch.setattr("training.report.formatting.WIDE", 0.5)
    plan = Plan.newest(home.catalog.home)
    with home.catalog.read() as now:
        path = home.catalog.home / str(registered_run(now, home.run)["predictions"])
        results, worst = (
            load_results(now, home.run, [task.name for task in plan.tasks], path),
            worst_slices(now, home.run, path),
        )
    rows = {(row["task"], row["slice"]): row for row in results.figures if row["split"] == "test"}
    assert {(part.task, part.slice) for part in worst} == {
        cell for cell, row in rows.items() if cell[1] and row["value"] is not None
    }
    for part in worst:
        row = rows[part.task, part.slice]
        assert part.error == error_of(results, row)
        assert part.sure == (not doubt_of(row))
        assert f"{value_text(row)} " in part.told
    assert [(not part.sure, -part.error) for part in worst] == sorted((not part.sure, -part.error) for part in worst)
    assert len({part.sure for part in worst}) == 2
    assert any(rows[part.task, part.slice]["metric"] == "mae" and part.error > 0 for part in worst)
