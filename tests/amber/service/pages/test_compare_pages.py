"""The page of two runs: verdicts, flipped images, a gate's decision, and what cannot be compared."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from support.homes import copy_home
from support.planted_runs import noisy, plant_run, planted_home
from support.served import served
from support.visitors import Visitor, alerts, visiting

from amber.service.client import Client
from amber.service.models.runs import GateAsked
from amber.service.tokens import Tokens
from curation.catalog.catalog import Catalog
from curation.errors import BadInput

WIDE = '[[judge]]\ntask = "color"\nmargin = "60 points"\n'
TIGHT = '[[judge]]\ntask = "color"\nmargin = "2 points"\n'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """`good` and `again` are equally good, `bad` knows little of the color, `other` predicts other tasks."""
    catalog, plan = planted_home(tmp_path_factory.mktemp("compared"))
    plant_run(catalog, plan, "good", lambda task: noisy(catalog, task, signal=6.0))
    plant_run(catalog, plan, "again", lambda task: noisy(catalog, task, signal=6.0, seed=1), parent="good")
    plant_run(catalog, plan, "bad", lambda task: noisy(catalog, task, signal=0.5 if task.name == "color" else 6.0))
    return catalog


@pytest.fixture(scope="module")
def visitor(made: Catalog) -> Iterator[Visitor]:
    with visiting(made.home, "label", "ann") as visitor:
        yield visitor


def test_a_worse_run_is_said_to_be_worse_with_pictures(visitor: Visitor) -> None:
    text = visitor.get("/compare?a=good&b=bad").text
    assert "▼ worse" in text
    assert "▲ better" in visitor.get("/compare?a=bad&b=good").text
    assert "color: " in text
    assert 'class="shot"' in text
    broken = visitor.get("/compare?a=good&b=bad&task=color&flip=broken").text
    assert "yellow_at_night" in broken  # all slices of the task
    assert '<b class="good">fixed' not in broken
    image = broken.split('<img loading="lazy" src="')[1].split('"')[0]
    assert visitor.client.get(image.replace("&amp;", "&")).headers["content-type"] == "image/jpeg"


LINES = {
    "itself": ("/compare?a=good&b=good", "cannot be compared with itself"),
    "unknown": ("/compare?a=nosuch&b=good", "has no such run"),
    "first of all": ("/compare?b=good", "no run was evaluated before it"),
    "another split": ("/compare?a=good&b=bad&split=train", "must be test or validation"),
}


@pytest.mark.parametrize(("path", "line"), LINES.values(), ids=LINES)
def test_what_cannot_be_compared_is_one_line(visitor: Visitor, path: str, line: str) -> None:
    answer = visitor.get(path)
    assert answer.status_code == 409
    assert line in alerts(answer)


def test_runs_of_other_tasks_are_refused_by_the_library(made: Catalog, tmp_path: Path) -> None:
    import hashlib

    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    catalog = copy_home(made, tmp_path)
    for run, task in (("good", "color"), ("bad", "car")):
        path = catalog.home / "runs" / run / "predictions.parquet"
        table = pq.read_table(path)
        pq.write_table(table.filter(pc.equal(table["task"], task)), path)
        with catalog.commit(author="ada", message="again") as change:
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            change.add_run(run, plan="0" * 32, predictions=str(path.relative_to(catalog.home)), sha256=sha256)
    with visiting(catalog.home) as visitor:
        answer = visitor.get("/compare?a=good&b=bad")
        assert "have no task in common (color; car)" in alerts(answer)


def acts(catalog: Catalog) -> list[dict[str, str]]:
    with catalog.read() as now:
        return [act for act in now.ownership.acts().to_pylist() if act["act"] == "gate"]


def test_a_gate_decides_and_records_the_decision_once(made: Catalog, visitor: Visitor) -> None:
    before = len(acts(made))
    for _ in range(2):
        answer = visitor.send("/compare/gate", a="good", b="again", rules=WIDE)
        assert answer.status_code == 303
        shown = visitor.get(answer.headers["location"].partition("#")[0]).text
        assert '<p class="verdict pass">Pass</p>' in shown
        assert "60 points" in shown
    assert len(acts(made)) == before + 1
    assert {"subject": "again", "before": "good", "member": "ann", "via": "token"}.items() <= acts(made)[-1].items()
    file = {"file": ("gate.toml", TIGHT.encode(), "text/plain")}
    answer = visitor.send("/compare/gate", a="good", b="bad", rules=WIDE, files=file)
    shown = visitor.get(answer.headers["location"].partition("#")[0]).text
    assert '<p class="verdict block">Block</p>' in shown  # by the file, not by what was typed


def test_a_file_of_rules_is_not_lost_when_the_session_has_ended(made: Catalog) -> None:
    with visiting(made.home, "label", "eva") as eva:
        page = eva.get("/compare?a=good&b=bad")
        Tokens(made.home).remove("eva")
        file = {"file": ("gate.toml", TIGHT.encode(), "text/plain")}
        asked = eva.send("/compare/gate", page, files=file, rules=WIDE)
        assert asked.status_code == 401
        again = eva.send("/sign-in", asked, token=Tokens(made.home).add("eva", "label"))
        answer = eva.send("/compare/gate", again)
        assert answer.status_code == 303
        shown = eva.get(answer.headers["location"].partition("#")[0]).text
        assert '<p class="verdict block">Block</p>' in shown  # by the file, not by what was typed


WRONG = {
    "unit": (TIGHT.replace("2 points", "2 km/h"), "is measured in points; write it as '2 points'"),
    "syntax": ("[[judge]\n", "not valid TOML"),
    "field": (TIGHT + "margn = 1\n", "margn"),
    "task": (TIGHT.replace("color", "colour"), "colour"),
    "empty": (" ", "rules: are empty"),
}  # fmt: skip


@pytest.mark.parametrize(("rules", "line"), WRONG.values(), ids=WRONG)
def test_wrong_rules_are_one_line_and_the_text_is_kept(made: Catalog, visitor: Visitor, rules: str, line: str) -> None:
    before = acts(made)
    answer = visitor.send("/compare/gate", a="good", b="bad", rules=rules)
    assert answer.status_code == 409
    assert line in alerts(answer)
    assert "\n" not in answer.text.split('role="alert">')[1].split("</p>")[0]
    kept = answer.text.split('spellcheck="false">')[1].split("</textarea>")[0]
    assert kept.strip() == rules.strip().replace('"', "&#34;")
    assert acts(made) == before


def test_a_gate_needs_a_scope_and_a_form_of_the_session(made: Catalog) -> None:
    with visiting(made.home, "read") as reader:
        assert "can decide" in reader.get("/compare?a=good&b=bad").text
        assert reader.send("/compare/gate", a="good", b="bad", rules=WIDE).status_code == 403
        assert reader.send("/compare/gate", a="good", b="bad", rules=WIDE, form_word="x").status_code == 403


def test_routes_give_the_same(made: Catalog) -> None:
    names = {scope: Tokens(made.home).add(f"api-{scope}", scope) for scope in ("read", "label")}  # type: ignore[arg-type]
    with served(made.home) as service, Client(service.url, names["read"]) as reader:
        found = reader.comparison("bad", "good")
        worse = [row for row in found.figures if row.task == "color" and not row.slice]
        assert [row.verdict for row in worse] == ["worse"]
        assert found.flipped["color"]["broken"] == sum(
            flip.task == "color" and flip.what == "broken" for flip in found.flips
        )
        with Client(service.url, names["label"]) as labeler:
            assert labeler.gate(GateAsked(run="again", against="good", rules=WIDE)).outcome == "pass"
            with pytest.raises(BadInput, match="measured in points"):
                labeler.gate(GateAsked(run="again", against="good", rules=TIGHT.replace("points", "km/h")))
        with closing(httpx.Client(base_url=service.url)) as http:
            words = {"Authorization": f"Bearer {names['read']}"}
            asked = {"first": "good", "second": "bad", "format": "csv"}
            rows = http.get("/api/comparison", params=asked, headers=words).text.splitlines()
            assert len(rows) == 1 + len(found.figures)
            assert rows[0].startswith('"task","slice"')
