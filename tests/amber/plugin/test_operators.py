"""The plugin's buttons, run by FiftyOne's own executor through a real service."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest
from support.homes import copy_home, label, labels, make_home
from support.mirrors import bare
from support.served import Served, free_port, served

from amber.service.tokens import Tokens
from curation.catalog.catalog import Catalog
from curation.fiftyone_app.columns import Overlay
from curation.fiftyone_app.edits import edits_of
from curation.fiftyone_app.mirror import mirror
from curation.fiftyone_app.refresh import documents_of
from samplers.pack.pack_writer import make_pack
from samplers.plan.build import draft_plan
from samplers.policy.policy import Policy

pytestmark = pytest.mark.filterwarnings("ignore")  # of FiftyOne itself

OURS = "@amber/catalog"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("buttons"), samples=40)


@pytest.fixture
def catalog(pictures: Catalog, tmp_path: Path) -> Catalog:
    return copy_home(pictures, tmp_path)


@pytest.fixture
def service(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A service that the buttons call, as eve."""
    with served(catalog.home) as running:
        monkeypatch.setenv("AMBER_SERVICE", running.url)
        monkeypatch.setenv("AMBER_TOKEN", Tokens(catalog.home).add("eve", "label"))
        yield running


@pytest.fixture
def dataset(catalog: Catalog, database: Any) -> Any:
    return shown_in(catalog, database)


class Page:
    """The App as a button sees it: a data set, the selection, and the values of its form."""

    def __init__(self, dataset: Any, numbers: tuple[int, ...] = ()) -> None:
        self.dataset = dataset
        keys = {f"pictures/{number:05d}" for number in numbers}
        ids = zip(*dataset.values(["key", "id"]), strict=True)
        self.selected = [id_ for key, id_ in ids if key in keys]

    def press(self, button: str, **params: Any) -> dict[str, Any]:
        import fiftyone.operators as operators
        from fiftyone.operators.executor import ExecutionError

        context = {"dataset": self.dataset, "selected": self.selected, "params": params}
        try:
            return dict(operators.execute_operator(f"{OURS}/{button}", ctx=context).result)
        except ExecutionError as error:
            return {"fault": str(error)}

    def form(self, button: str, **params: Any) -> dict[str, Any]:
        """The properties of the form, as sent to the App."""
        from fiftyone.operators.executor import ExecutionContext
        from fiftyone.operators.registry import OperatorRegistry

        asked = {"dataset_name": self.dataset.name, "selected": self.selected, "params": params}
        operator = OperatorRegistry().get_operator(f"{OURS}/{button}")
        properties = operator.resolve_input(ExecutionContext(request_params=asked)).to_json()["type"]["properties"]
        return dict(properties)


def shown(form: dict[str, Any]) -> str:
    """The preview or the error in a form."""
    lines = [form[name]["view"]["label"] for name in ("preview", "fault") if name in form]
    assert len(lines) == 1
    return str(lines[0])


def commits(catalog: Catalog) -> int:
    with catalog.read() as now:
        return now.commit


def test_a_form_shows_what_the_button_then_does(catalog: Catalog, dataset: Any, service: Served) -> None:
    page, before = Page(dataset, (5, 6, 7)), commits(catalog)
    assert set(page.form("ask_for_labels")) == {"tasks", "reason"}
    values = {"tasks": ["speed", "bike"], "reason": "rare"}
    line = shown(page.form("ask_for_labels", **values))
    assert line.startswith("as eve: ask for 6 labels of speed, bike")
    assert commits(catalog) == before
    assert page.press("ask_for_labels", **values) == {"told": line.replace("eve:", f"eve, commit {before + 1}:")}
    with catalog.read() as now:
        assert len(now.requests("open")) == 6
    assert "passed over: 6 requested already" in shown(page.form("ask_for_labels", **values))


def test_tags_and_doubts(catalog: Catalog, dataset: Any, service: Served) -> None:
    page = Page(dataset, (5, 6))
    assert shown(page.form("tag", tag="blurred")) == "as eve: tag 2 as blurred"
    assert "tag 2 as blurred" in page.press("tag", tag="blurred")["told"]
    assert "remove the tag blurred from 2" in page.press("tag", tag="blurred", off=True)["told"]
    assert "mark 2 labels of color" in page.press("doubt", task="color", state="unsure")["told"]
    assert "retract 2 labels of color" in page.press("doubt", task="color", state="retracted")["told"]
    with catalog.read() as now:
        assert [row["author"] for row in now.log().to_pylist()[:4]] == ["eve"] * 4


def test_a_buttons_effect_is_shown_at_once(catalog: Catalog, database: Any, service: Served) -> None:
    """It equals a rebuilt mirror, the next update keeps it, and none of it counts as an edit."""
    with catalog.commit(author="eve", message="tags") as change:
        change.add_attributes(pa.table({"key": ["pictures/00001"], "tag_dark": [True]}))
        change.add_slice("dark", "attr.tag_dark AND state.color IS NULL")
        change.add_labels(labels([label("pictures/00007", "color", "red", "eve")]), source="human")
    dataset = shown_in(catalog, database)
    page = Page(dataset, (5, 6, 7))
    page.press("ask_for_labels", tasks=["speed", "bike"], reason="rare")
    page.press("tag", tag="dark")
    page.press("doubt", task="car", state="unsure")
    page.press("doubt", task="color", state="retracted")
    fresh = documents_of(shown_in(catalog, database), every(dataset))
    held = documents_of(dataset, every(dataset))
    assert bare(held) == bare(fresh)
    assert held["pictures/00006"]["requests"] == ["speed open", "bike open"]
    assert "dark" in held["pictures/00005"]["tags"]
    with catalog.read() as now:
        found = edits_of(dataset, now, Overlay())
        assert (found.labels, found.tags, found.passed_over) == ([], [], [])
        done = mirror(
            now, dataset.name, scene=Overlay(), url_for=lambda key, location: None, progress=lambda d, t: None
        )
    assert (done.since, done.written) == (2, 3)
    assert bare(documents_of(dataset, every(dataset))) == bare(fresh)


def shown_in(catalog: Catalog, database: Any, commit: int | None = None, name: str = "") -> Any:
    name, scene = name or f"test-{uuid4().hex}", Overlay(pinned=commit is not None)
    with catalog.read(commit) as now:
        mirror(now, name, scene=scene, url_for=lambda key, location: None, progress=lambda done, total: None)
    return database.load_dataset(name)


def every(dataset: Any) -> list[str]:
    return list(dataset.values("key"))


def test_an_edit_stays_an_edit_when_a_button_is_pressed(catalog: Catalog, database: Any, service: Served) -> None:
    with catalog.commit(author="ada", message="red") as change:
        change.add_labels(labels([label(key, "color", "red", "ada") for key in ("pictures/00005", "pictures/00006")]),
                          source="human")  # fmt: skip
    dataset = shown_in(catalog, database)
    edited = dataset[Page(dataset, (5,)).selected[0]]
    edited["label_color"] = database.Classification(label="green")
    edited.save()
    with catalog.commit(author="ada", message="meanwhile") as change:
        change.add_labels(labels([label("pictures/00005", "car", True, "ada")]), source="human")
    page = Page(dataset, (5, 6))
    page.press("ask_for_labels", tasks=["speed"], reason="odd")
    held = documents_of(dataset, ["pictures/00005"])["pictures/00005"]
    assert (held["label_color"]["label"], held["label_car"]["label"]) == ("green", "true")
    assert held["requests"] == ["speed open"]
    with catalog.read() as now:
        found = edits_of(dataset, now, Overlay())
    assert [(row["key"], row["task"], row["text"]) for row in found.labels] == [("pictures/00005", "color", "green")]
    assert found.tags == []


def test_a_pinned_mirror_is_not_refreshed(catalog: Catalog, database: Any, service: Served) -> None:
    dataset = shown_in(catalog, database)
    Page(dataset, (5,)).press("ask_for_labels", tasks=["speed"], reason="odd")
    again = shown_in(catalog, database, commit=1, name=dataset.name)
    assert "requests" not in documents_of(again, ["pictures/00005"])["pictures/00005"]
    told = Page(again, (6,)).press("ask_for_labels", tasks=["speed"], reason="odd")["told"]
    assert told.endswith("; the App shows commit 1, so the next `amber browse` will show the change")
    assert "requests" not in documents_of(again, ["pictures/00006"])["pictures/00006"]


def test_why_an_image_is_drawn(catalog: Catalog, dataset: Any, service: Served) -> None:
    assert "there is no plan yet" in Page(dataset, (5,)).press("why_drawn")["reasons"]
    with catalog.read() as now:
        policy = Policy.for_labelled(now)
    plan = draft_plan(catalog, policy, make_pack(catalog), draws=200, seed=0, commit=None).save()
    number = int(plan.keys[0].as_py().removeprefix("pictures/"))
    told = Page(dataset, (number,)).press("why_drawn")["reasons"]
    assert f"pictures/{number:05d}** in plan {plan.hash[:12]}" in told
    assert told.count("\n| ") >= 1


BAD = {"ask_for_labels": {"tasks": ["color"], "reason": "r"}, "tag": {"tag": "x"},
       "doubt": {"task": "color", "state": "unsure"}, "why_drawn": {}}  # fmt: skip


@pytest.mark.parametrize("button", BAD)
def test_without_a_selection_a_button_does_nothing(
    catalog: Catalog, dataset: Any, service: Served, button: str
) -> None:
    before = commits(catalog)
    assert line_of(Page(dataset).press(button, **BAD[button])).endswith("no image is selected; select some first")
    assert commits(catalog) == before


@pytest.mark.parametrize("button", BAD)
def test_a_missing_expired_or_weak_token(
    catalog: Catalog, dataset: Any, service: Served, button: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, page = Tokens(catalog.home), Page(dataset, (5,))
    other = "read" if button != "why_drawn" else "admin"
    cases = {
        "": "no token: ",
        tokens.add("old", "label", expires="2020-01-01T00:00:00+00:00"): "token: missing or expired",
        tokens.add("other", other): ": must be ",
    }
    for secret, line in cases.items():
        monkeypatch.setenv("AMBER_TOKEN", secret)
        assert line in line_of(page.press(button, **BAD[button]))
        if button != "why_drawn":
            form = page.form(button, **BAD[button])
            assert line in shown(form)
            assert form["fault"]["invalid"]
    monkeypatch.setenv("AMBER_TOKEN", "any")
    monkeypatch.setenv("AMBER_SERVICE", f"http://127.0.0.1:{free_port()}")
    assert "start it with `amber serve`" in line_of(page.press(button, **BAD[button]))


def line_of(result: dict[str, Any]) -> str:
    line = result.get("fault") or result["reasons"]
    assert "\n" not in line
    return str(line)


def test_form_values_are_validated(dataset: Any, service: Served, database: Any) -> None:
    page = Page(dataset, (5,))
    assert "choose another" in shown(page.form("tag", tag="Very Blurred"))
    assert "reason" in shown(page.form("ask_for_labels", tasks=["color"], reason="x" * 501))
    assert line_of(page.press("tag")) == "Validation error. Path: tag. Reason: Required property"
    assert "fill the form" in line_of(page.press("ask_for_labels", tasks=[], reason="r"))
    foreign = database.Dataset()
    foreign.add_sample(database.Sample(filepath="x.jpg", key="pictures/00005"))
    page = Page(foreign, (5,))
    assert "not a mirror of a catalog" in line_of(page.press("tag", tag="x"))
