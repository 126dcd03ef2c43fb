"""Every list of the JSON API as a table too: Arrow and CSV hold what JSON does."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import pyarrow as pa
import pytest
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from support.every_kind import KEYS, RUN, TASKS, every_kind
from support.homes import label, labels
from support.label_requests import answer, ask
from support.pages import PAGES
from support.visitors import Visitor, visiting

from amber.service.app import ROUTERS
from amber.service.client import Client
from amber.service.models.ledger import ListedPlan
from curation.catalog.ownership import Identity
from curation.labelstudio.item_cache import Item, ItemCache
from samplers import Policy, make_pack, make_plan
from samplers.plan.waiting import ask_sign_offs
from training.live_run import LiveRun

ROUTES = {
    route.path: route for router in ROUTERS for route in router.routes
    if isinstance(route, APIRoute) and "GET" in route.methods
}  # fmt: skip
INSIDE = {"/api/releases": "releases", "/api/comparison": "figures", "/api/slices/{slice}/elsewhere": "items"}
"""Routes whose list is a part of what they give."""

LISTS = sorted({path for path, route in ROUTES.items() if get_origin(route.response_model) is list} | set(INSIDE))
ELSEWHERE = {"/api/releases", "/api/comparison", "/api/accounts"}
"""Those that hold nothing without a second run, which tests of their pages have."""

EVE = Identity(name="eve", via="token")


@pytest.fixture(scope="module")
def visitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    """A workspace in which every list holds something."""
    catalog = every_kind(tmp_path_factory.mktemp("tables"))
    ask(catalog, (1, "light"), (2, "wet"))
    answer(catalog, *((sample, "light", "ann", "known", 4.0, sample) for sample in (1, 2)))
    with catalog.commit(author="people", message="label") as change:
        for who, value in (("ann", "red"), ("bob", "it's")):
            change.add_labels(labels([label(KEYS[1], "light", value, who)]), source="human")
        change.sign_off("bob", plan="1" * 64, before="0" * 64, policy="2" * 64, by=EVE)
    with catalog.read() as now:
        policy = Policy.even([TASKS["light"], TASKS["speed"]])
        ask_sign_offs(catalog.home, now, "release", (RUN, "", "3" * 64), {"ada": ["light: falls"]}, by=EVE)
    make_plan(catalog, policy, make_pack(catalog), draws=64)
    LiveRun.begin(catalog.home / "runs" / "live", plan="p", parent="", solved=False).step(1, 2, lambda: {"light": 0.5})
    cache = ItemCache(catalog.home / "labeling" / f"{'0' * 12}.json", "https://studio.example.org")
    cache._keep(Item(project=3, item=14, key="k", sample=KEYS[0], requests={"light": 0}))
    cache.save()
    with catalog.commit(author="ada", message="everything") as change:
        change.add_slice("everything", "TRUE")
    with visiting(catalog.home, "owner") as visitor:
        for path in PAGES:
            visitor.get(path)  # until all is counted
        yield visitor


def test_lists_are_known() -> None:
    assert len(LISTS) >= 27
    assert not [path for path in LISTS if "format" not in {field.name for field in ROUTES[path].dependant.query_params}]


def address(path: str, visitor: Visitor) -> str:
    drawn = visitor.client.get("/api/samples").json()
    assert isinstance(drawn, list), drawn
    for name, value in {"{run}": RUN, "{slice}": "everything", "{task}": "things"}.items():
        path = path.replace(name, value)
    if "{key:path}" in path:
        found = (path.replace("{key:path}", row["key"]) for row in drawn)
        path = next(each for each in found if visitor.client.get(each).status_code == 200)
    return path


def comparable(model: Any, found: list[dict[str, Any]]) -> list[Any]:
    """Rows as the model reads them, without signed addresses, which differ by the second; in Arrow all mappings of a
    column have the same keys, some without a value."""
    maps = [name for name, field in model.model_fields.items() if get_origin(field.annotation) is dict]
    found = [row | {name: {key: each for key, each in row[name].items() if each is not None} for name in maps}
             for row in found]  # fmt: skip
    read = TypeAdapter(list[model]).validate_python(found)
    return [row.model_copy(update={"image": ""}) if "image" in model.model_fields else row for row in read]


@pytest.mark.parametrize("path", [path for path in LISTS if path not in ELSEWHERE])
def test_a_list_is_the_same_as_json_arrow_and_csv(visitor: Visitor, path: str) -> None:
    there, part, model = address(path, visitor), INSIDE.get(path, ""), ROUTES[path].response_model
    found = visitor.client.get(there).json()
    held = found[part] if part else found
    assert held
    row: Any = get_args(model.model_fields[part].annotation if part else model)[0]
    if row is str:  # the list of plans
        row, held = ListedPlan, [{"plan": plan} for plan in held]
    table = Client("", visitor.secret, http=visitor.client).table(there)
    assert table.column_names == list(row.model_fields)
    assert comparable(row, table.to_pylist()) == comparable(row, held)
    answer = visitor.client.get(there, params={"format": "csv"})
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    assert list(lines[0]) == list(row.model_fields)
    assert len(lines) == len(held)
    if link := visitor.client.get(there, params={"limit": 1}).links.get("next"):
        assert visitor.client.get(there, params={"limit": 1, "format": "csv"}).links.get("next")
        assert visitor.client.get(link["url"] + "&format=arrow").status_code == 200


@pytest.mark.parametrize("task", TASKS)
def test_labels_of_every_kind_are_a_table(visitor: Visitor, task: str) -> None:
    held = visitor.client.get(f"/api/labels/{task}").json()
    table = Client("", visitor.secret, http=visitor.client).table(f"/api/labels/{task}")
    assert table["value"].to_pylist() == [row["value"] for row in held]
    text = visitor.client.get(f"/api/labels/{task}?format=csv").text
    cells = [row["value"] for row in csv.DictReader(io.StringIO(text))]
    if pa.types.is_nested(table["value"].type):
        assert [json.loads(cell) if cell else None for cell in cells] == table["value"].to_pylist()
    else:
        assert sum(cell != "" for cell in cells) == sum(row["state"] == "known" for row in held)
