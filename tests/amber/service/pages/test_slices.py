"""The page of all slices: what a predicate holds before it is declared, and declaring it."""

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from support.every_kind import EVIL, every_kind
from support.homes import copy_home
from support.visitors import Visitor, elements, visiting

from amber.service.client import Client
from amber.service.facts.counted import Figure
from amber.service.facts.slice_table import slice_rows, slice_sizes
from amber.service.models.slices import NewSlice
from amber.service.tokens import Tokens
from curation.catalog.catalog import Catalog
from curation.errors import BadInput, NotFound


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return every_kind(tmp_path_factory.mktemp("slices"))


@pytest.fixture
def own(made: Catalog, tmp_path: Path) -> Iterator[tuple[Catalog, Visitor]]:
    catalog = copy_home(made, tmp_path)
    with visiting(catalog.home, "label", "eve") as visitor:
        yield catalog, visitor


BAD = {
    "attr.drak": "there is no attr.drak (did you mean 'dark'?)",
    "attr.dark AND label.light = 'blue'": "light has no class 'blue'",
    "attr.dark +": "syntax error",
    "now() > '2020-01-01'": "now() is not a function that slices may use",
    "(SELECT 1) = 1": "holds a subquery",
    "label.speed": "gives DOUBLE, must be true or false",
    "CAST(attr.key AS INTEGER) = 1": "correct it, or use TRY_CAST",
    "label.light = '" + EVIL.replace("'", "''") + "x'": "light has no class",
}


@pytest.mark.parametrize(("predicate", "line"), BAD.items(), ids=range(len(BAD)))
def test_vetting_says_which_part_fails_wherever_a_predicate_is_typed(
    own: tuple[Catalog, Visitor], predicate: str, line: str
) -> None:
    catalog, eve = own
    typed = {"name": "mine", "predicate": predicate, "task": "light", "rare": "1"}
    answers = [
        eve.client.get("/preview-slice", params={"predicate": predicate}, headers={"HX-Request": "true"}),
        eve.client.get("/slices", params={**typed, "check": "1"}),
        eve.send("/slices", "/slices", **typed),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 409]
    for answer in answers:
        assert line in html.unescape(answer.text)
        assert not [each for _, each in elements(answer.text) if each.get("src") == "x"]
    assert "<nav" not in answers[0].text  # htmx swaps it into the page
    kept = elements(answers[2].text)
    assert ("mine", True) in [(each.get("value"), tag == "input") for tag, each in kept]
    assert [each for _, each in kept if each.get("name") == "rare" and "checked" in each]
    with catalog.read() as now:
        assert "mine" not in now.slices()
    client = Client("", Tokens(catalog.home).add("read", "read"), http=eve.client)
    with pytest.raises(BadInput):
        client.preview_slice(predicate)


def test_the_live_count_is_that_of_the_slice(own: tuple[Catalog, Visitor]) -> None:
    catalog, eve = own
    predicate = "attr.dark and pred.light.confidence>0.5"
    shown = eve.client.get("/preview-slice", params={"predicate": predicate}).text
    client = Client("", Tokens(catalog.home).add("read", "read"), http=eve.client)
    found = client.preview_slice(predicate)
    with catalog.read() as now:
        file = str(now.runs.predictions_file(catalog.home, found.run))
        right = len(now.members(found.predicate, predictions=file))
    assert (found.samples, found.of, len(found.examples)) == (right, 80, 6)
    assert f"<b>{right}</b> of 80 images" in shown
    assert len([each for tag, each in elements(shown) if tag == "img"]) == 6


def test_a_slow_predicate_is_ended(own: tuple[Catalog, Visitor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amber.service.facts.slice_declaration.COUNT_SECONDS", 0.0)
    answer = own[1].client.get("/preview-slice", params={"predicate": "attr.dark AND attr.key LIKE '%1%'"})
    assert "ran longer than 0 s" in answer.text or "of 80 images" in answer.text


def test_a_slice_is_declared_once_by_who_signed_in(own: tuple[Catalog, Visitor]) -> None:
    catalog, eve = own
    typed = {
        "name": "red_dark",
        "predicate": "label.light='red' and attr.dark",
        "task": "light",
        "rare": "1",
        "once": "a",
    }
    answer = eve.send("/slices", "/slices", **typed)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/slices/red_dark?done=")
    assert "is declared" in eve.get(answer.headers["location"]).text
    assert eve.send("/slices", "/slices", **typed).status_code == 303  # a double click
    with catalog.read() as now:
        made, log = now.slice("red_dark"), now.log()
    assert (made.predicate, made.task, made.rare) == ("((\"label\".light = 'red') AND attr.dark)", "light", True)
    assert log["message"].to_pylist().count("slice red_dark") == 1
    assert log["author"][0].as_py() == "eve"
    taken = eve.send("/slices", "/slices", name="red_dark", predicate="attr.dark")
    assert "exists" in taken.text
    assert eve.send("/slices", "/slices", name="red_dark", predicate="attr.dark", replace="1").status_code == 303
    with catalog.read() as now:
        assert now.slice("red_dark").predicate == "attr.dark"
        assert len(now.slice_history("red_dark")) == 2


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"name": EVIL, "predicate": "attr.dark"}, "a name is of a-z"), ({"name": "x", "predicate": ""}, "predicate:"),
        ({"name": "x", "predicate": "attr.dark", "task": "nix"}, "there is no task 'nix'"),
        ({"name": "", "predicate": "attr.dark"}, "name:"), ({"name": "x", "predicate": "a" * 10_001}, "predicate:"),
    ],
)  # fmt: skip
def test_bad_declarations_are_one_line(own: tuple[Catalog, Visitor], fields: dict[str, Any], line: str) -> None:
    answer = own[1].send("/slices", "/slices", **fields)
    assert answer.status_code == 409
    assert line in html.unescape(answer.text)
    assert not [each for _, each in elements(answer.text) if each.get("src") == "x"]


def test_the_api_declares_alike_and_a_reader_may_not(own: tuple[Catalog, Visitor]) -> None:
    catalog, eve = own
    client = Client("", eve.secret, http=eve.client)
    wanted = NewSlice(name="wet_ones", predicate="label.wet", task="wet", batch="b")
    assert client.declare_slice(wanted).predicate == '"label".wet'
    assert client.declare_slice(wanted).name == "wet_ones"
    with pytest.raises(BadInput, match="exists"):
        client.declare_slice(wanted.model_copy(update={"batch": "c"}))
    with pytest.raises(NotFound):
        client.declare_slice(wanted.model_copy(update={"name": "y", "task": "nix", "batch": "d"}))
    with visiting(catalog.home, "read", "reader") as reader:
        page = reader.get("/slices").text
        assert "Declaring needs a token" in page
        assert reader.send("/slices", name="x", predicate="attr.dark").status_code == 403


def test_the_table_comes_as_arrow_and_as_csv(own: tuple[Catalog, Visitor]) -> None:
    catalog, eve = own
    secret = {"Authorization": f"Bearer {Tokens(catalog.home).add('read', 'read')}"}
    arrow = eve.client.get("/api/slice-summaries", params={"format": "arrow"}, headers=secret)
    assert pa.ipc.open_stream(arrow.content).read_all()["name"].to_pylist() == ["dark", "red", "sure"]
    text = eve.client.get("/api/slice-summaries", params={"format": "csv"}, headers=secret).text
    assert text.splitlines()[0].startswith('"name","task","predicate"')
    assert len(text.splitlines()) == 4


def test_sizes_and_figures_are_those_of_the_ledger(made: Catalog) -> None:
    with made.read() as now:
        sizes, slices = slice_sizes(now, made.home), now.slices()
        right = {name: len(now.members(slices[name].predicate)) for name in ("dark", "red")}
    assert {name: sizes[name] for name in right} == right
    assert 0 < sizes["sure"] < sizes["dark"]
    rows = slice_rows(
        slices, {"slice sizes": Figure(value=sizes, commit=2), "trends": None}, {("light", "red"): "pass"}
    )
    assert [(row.slice.name, row.slice.samples, row.slice.gate) for row in rows][1] == ("red", right["red"], "pass")


def test_an_empty_workspace_says_what_to_do(tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path / "home")
    with visiting(catalog.home, "label", "eve") as eve:
        page = eve.get("/slices").text
    assert "amber slices add" in page


def test_forms_of_another_session_are_refused(own: tuple[Catalog, Visitor]) -> None:
    catalog, eve = own
    with httpx.Client(base_url=eve.client.base_url, cookies=eve.client.cookies) as other:
        answer = other.post("/slices", data={"name": "x", "predicate": "attr.dark", "form_word": "guess"})
    assert answer.status_code == 403
    with catalog.read() as now:
        assert "x" not in now.slices()
