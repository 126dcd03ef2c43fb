"""The page of one image: everything that the ledger holds of it, and nothing of a forgotten one."""

import html
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pytest
from support.every_kind import EVIL, EVIL_KEY, KEYS, RUN, TASKS, every_kind
from support.homes import copy_home, label, labels, make_home
from support.plans import written_plan
from support.visitors import Visitor, elements, visiting

from amber.forget import forget
from amber.service.client import Client
from amber.service.facts.elsewhere import app_address, dataset_name, open_items
from amber.service.tokens import Tokens
from curation.catalog.catalog import Catalog
from curation.errors import NotFound
from curation.labelstudio.item_cache import Item, ItemCache
from samplers import Policy
from samplers.pack.pack_writer import make_pack

EVIL_PATH = f"/image/{quote(EVIL_KEY)}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return every_kind(tmp_path_factory.mktemp("images"))


@pytest.fixture
def own(made: Catalog, tmp_path: Path) -> Iterator[tuple[Catalog, Visitor]]:
    catalog = copy_home(made, tmp_path)
    with visiting(catalog.home, "owner", "eve") as visitor:
        yield catalog, visitor


def state(key: str, task: str, who: str, **more: object) -> pa.Table:
    return labels([{**label(key, task, "red", annotator=who), **more}])


def test_who_said_what_is_told_newest_first_retractions_and_renamed_classes_too(own: tuple[Catalog, Visitor]) -> None:
    catalog, eve = own
    key = KEYS[1]
    for who, more in ((EVIL, {}), ("bob", {"text": "it's"}), ("bob", {"state": "retracted", "text": None})):
        with catalog.commit(author="ada", message="say") as change:
            change.add_labels(state(key, "light", who, **more), source="human")
    with catalog.commit(author="ada", message="rename") as change:
        task = TASKS["light"].model_copy(update={"classes": ("crimson", "it's", EVIL)})
        change.redefine_task(task, {"red": "crimson"})
    facts = Client("", eve.secret, http=eve.client).picture(key)
    said = [(row.annotator, row.state, row.value) for row in facts.statements if row.source == "human"]
    assert said == [
        ("bob", "retracted", "retracted"), ("bob", "known", "it's"), (EVIL, "known", "red (called crimson since)"),
    ]  # fmt: skip
    assert next(row for row in facts.labels if row.task == "light").value == "crimson"
    page = html.unescape(eve.get(f"/image/{key}").text)
    assert "red (called crimson since)" in page
    assert page.index("it's</td>") < page.index("called crimson")


def test_predictions_of_chosen_runs_requests_attributes_and_near_duplicates_are_shown(
    own: tuple[Catalog, Visitor],
) -> None:
    catalog, eve = own
    facts = Client("", eve.secret, http=eve.client).picture(EVIL_KEY, runs=[RUN])
    assert {row.task for row in facts.predictions} == set(TASKS)
    assert ("split", "validation") in [(row.name, row.value) for row in facts.attributes]
    answer = eve.send(EVIL_PATH, EVIL_PATH, act="request", tasks=["wet"], reason=EVIL)
    assert answer.status_code == 303
    page = eve.get(answer.headers["location"])
    assert "Asked for 1 label" in page.text
    requests = Client("", eve.secret, http=eve.client).picture(EVIL_KEY).requests
    assert [(row.task, row.state, row.arm, row.reason) for row in requests] == [("wet", "open", "picked", EVIL)]
    assert not [each for _, each in elements(page.text) if each.get("src") == "x"]
    eve.send(EVIL_PATH, EVIL_PATH, act="tag", tag="odd")
    with catalog.read() as now:
        assert now.members("attr.tag_odd").tolist() == [now.sample(EVIL_KEY)["sample_id"]]
    assert "tag: string should" in eve.send(EVIL_PATH, EVIL_PATH, act="tag", tag="").text


def test_near_duplicates_are_the_hashes_within_four_bits(made: Catalog) -> None:
    with made.read() as now:
        hashes = now.hashes().to_pydict()
        for key, own in list(zip(hashes["key"], hashes["phash"], strict=True))[:20]:
            right = sorted(
                (bin(own ^ other).count("1"), name)
                for name, other in zip(hashes["key"], hashes["phash"], strict=True)
                if name != key and bin(own ^ other).count("1") <= 24
            )
            found = now.near_duplicates(key, 24).to_pylist()
            assert [(row["distance"], row["key"]) for row in found] == right


def test_an_image_is_unknown_or_forgotten_and_shows_nothing(own: tuple[Catalog, Visitor]) -> None:
    catalog, eve = own
    key = KEYS[4]
    with catalog.read() as now:
        location = now.sample(key)["location"]
    forget(catalog, key, author="ada")
    for path in (f"/image/{key}", f"/why-drawn/{key}"):
        answer = eve.get(path)
        assert answer.status_code == 404
        assert "was forgotten" in answer.text
        assert location not in answer.text
        assert "/images/" not in answer.text
    assert eve.send(f"/image/{key}", act="tag", tag="x").status_code == 404
    for unknown in ("nix", quote(EVIL), "a/../b", "%00"):
        answer = eve.get(f"/image/{unknown}")
        assert answer.status_code == 404, unknown
        assert "Not done" in answer.text
        assert "<img" not in answer.text
    client = Client("", eve.secret, http=eve.client)
    with pytest.raises(NotFound, match="was forgotten"):
        client.picture(key)
    with pytest.raises(NotFound, match="no such image"):
        client.picture("nix")


@pytest.mark.parametrize("damage", ["gone", "broken"])
def test_a_picture_that_cannot_be_read_is_a_line(own: tuple[Catalog, Visitor], damage: str) -> None:
    catalog, eve = own
    with catalog.read() as now:
        path = Path(now.sample(KEYS[7])["location"])
    before = path.read_bytes()
    try:
        path.unlink() if damage == "gone" else path.write_bytes(b"no image")
        answer = eve.get(f"/image/{KEYS[7]}")
    finally:
        path.write_bytes(before)
    assert answer.status_code == 200
    assert "The picture cannot be shown: " in answer.text
    assert not [each for tag, each in elements(answer.text) if tag == "img" and each.get("alt") == KEYS[7]]


def test_why_it_is_drawn_says_the_weights_of_the_plan(tmp_path: Path) -> None:
    catalog = make_home(tmp_path, samples=40)
    pack = make_pack(catalog)
    part = {"owner": "ada", "share": 1.0, "importance": 1.0, "rule": "natural"}
    with visiting(catalog.home, "owner", "eve") as eve:
        with catalog.read() as now:
            key = now.samples()["key"][0].as_py()
        assert "there is no plan yet" in eve.get(f"/why-drawn/{key}").text
        plan = written_plan(catalog, Policy.model_validate({"task": {"color": part}}), pack, draws=64)
        drawn = plan.keys[0].as_py()
        page = eve.get(f"/why-drawn/{drawn}").text
        reasons = Client("", eve.secret, http=eve.client).why(drawn)
    assert all(f"{row.weight:.3f}" in page and row.stratum in html.unescape(page) for row in reasons)


def test_open_items_of_a_slice_are_found_where_label_studio_has_some(own: tuple[Catalog, Visitor]) -> None:
    catalog, eve = own
    with catalog.read() as now:
        part = now.slice("dark")
        inside = set(now.members(part.predicate).tolist())
        rows = now.samples().to_pylist()
    dark = next(row["key"] for row in rows if row["sample_id"] in inside)
    light = next(row["key"] for row in rows if row["sample_id"] not in inside)
    (catalog.home / "labeling").mkdir()
    cache = ItemCache(catalog.home / "labeling" / "0123456789ab.json", "http://studio.test")
    for number, key in enumerate((dark, light)):
        cache._keep(Item(project=3, item=number, key=f"k{number}", sample=key, requests={"wet": number}))
    cache.save()
    with catalog.read() as now:
        items = open_items(catalog.home, now, part, None)
    assert [(item.key, item.url) for item in items] == [(dark, "http://studio.test/projects/3/data?task=0")]
    for path in ("/slices/dark", f"/image/{dark}"):
        assert "http://studio.test/projects/3/data?task=0" in eve.get(path).text
    assert app_address(catalog.home, part) == ""
    assert dataset_name(catalog.home).startswith("amber-home-")


def test_a_reader_may_look(own: tuple[Catalog, Visitor]) -> None:
    catalog, _ = own
    assert Tokens(catalog.home).all()
    with visiting(catalog.home, "read", "reader") as reader:
        assert "need a token" in reader.get(EVIL_PATH).text
        assert reader.send(EVIL_PATH, act="tag", tag="x").status_code == 403
