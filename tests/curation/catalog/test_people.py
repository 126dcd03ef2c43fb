"""Instructions with versions, assignments, and people who left: as commits that can be read back and reverted."""

from pathlib import Path

import pyarrow as pa
import pytest
from support.homes import copy_home, label, make_home
from support.older_catalogs import downgrade

from curation.catalog.admin.migrations import migrate
from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import GIVEN_LABELS
from curation.catalog.ownership import Identity
from curation.catalog.pending_people import LONGEST_TEXT
from curation.catalog.people import Assignment
from curation.errors import BadInput, NotFound

ADA, EVE = (Identity(name=name, via="user") for name in ("ada", "eve"))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("people"), samples=20)


@pytest.fixture
def catalog(template: Catalog, tmp_path: Path) -> Catalog:
    return copy_home(template, tmp_path)


def set_text(catalog: Catalog, text: str, by: Identity = ADA) -> int:
    """Set the instructions of color; returns their version."""
    with catalog.commit(author="ada", message="instructions") as change:
        return change.people.set_instructions("color", text, by=by).version


def give(catalog: Catalog, sample: int, value: str | None, who: str, version: int | None, source: str = "human") -> int:
    """A label of color; returns the commit."""
    row = label(f"pictures/{sample:05d}", "color", value, who) | {"instructions": version}
    with catalog.commit(author=who, message="label") as change:
        change.add_labels(pa.Table.from_pylist([row], GIVEN_LABELS), source=source)
        return change.id


def members(catalog: Catalog, predicate: str) -> list[int]:
    with catalog.read() as now:
        return now.members(now.check_slice(predicate)).tolist()


def test_each_text_has_a_version_and_an_act(catalog: Catalog) -> None:
    assert [set_text(catalog, text) for text in ("Look.", "Look twice.", "Look twice. \n", "Look.")] == [1, 2, 2, 1]
    with catalog.read() as now:
        assert now.people.instructions()["color"].text == "Look."
        acts = [row["subject"] for row in now.ownership.acts().to_pylist() if row["act"] == "instructions"]
        assert acts == ["color"] * 3
        assert now.earlier(now.commit - 4).people.instructions() == {}


def test_reverting_restores_the_text_before_with_its_version(catalog: Catalog) -> None:
    for text in ("one", "two"):
        set_text(catalog, text)
    with catalog.commit(author="ada", message="revert") as change:
        assert change.revert(change.id - 1)["instructions"] == 1
    with catalog.read() as now:
        assert vars(now.people.instructions()["color"]) == {"version": 1, "text": "one"}
    assert set_text(catalog, "three") == 3


def test_a_slice_holds_labels_of_older_instructions(catalog: Catalog) -> None:
    for sample, version in ((1, 1), (2, 2), (3, None)):
        give(catalog, sample, "red", "ann", version)
    assert members(catalog, "instructions.color < 2") == [1, 3]
    assert members(catalog, "instructions.color = 0") == [3]
    give(catalog, 2, "red", "bob", 1)
    assert members(catalog, "instructions.color < 2") == [1, 2, 3]
    given = [give(catalog, sample, "red", "ann", 2) for sample in (1, 2, 3)]
    assert members(catalog, "instructions.color < 2") == [2]
    assert members(catalog, "instructions.color < 2 AND state.color = 'known'") == [2]
    give(catalog, 2, "red", "ada", 3, source="lead")
    assert members(catalog, "instructions.color = 3") == [2]
    with catalog.commit(author="ada", message="revert") as change:
        change.revert(given[0])
    assert members(catalog, "instructions.color < 2") == [1]
    with catalog.read() as now:
        rows = now.labels.by_annotator("color").to_pylist()
        assert {row["instructions"] for row in rows if row["source"] == "import"} == {None}


def test_a_lead_overrides_people_and_a_revert_ends_that(catalog: Catalog) -> None:
    for who, value in (("ann", "red"), ("bob", "green")):
        give(catalog, 1, value, who, 0)
    settled = give(catalog, 1, "yellow", "ada", 0, source="lead")
    give(catalog, 1, "green", "cem", 0)

    def current() -> tuple[int, int | None, str]:
        with catalog.read() as now:
            (row,) = (row for row in now.labels("color").to_pylist() if row["sample_id"] == 1)
        return row["state"], row["code"], row["source"]

    assert current() == (1, 1, "lead")
    catalog.compact()
    assert current() == (1, 1, "lead")
    with catalog.commit(author="ada", message="revert") as change:
        change.revert(settled)
    assert current() == (1, 2, "human")


def test_assignments_end_with_a_limit_of_0_or_when_the_person_left(catalog: Catalog) -> None:
    def assign(task: str, person: str, most: int | None) -> None:
        with catalog.commit(author="ada", message="assign") as change:
            change.people.assign(task, person, most=most, by=ADA)

    def given() -> list[Assignment]:
        with catalog.read() as now:
            return now.people.assignments()

    assign("color", "ann", 5)
    assign("car", "ann", None)
    assign("color", "bob", 3)
    assign("color", "bob", 0)
    assert given() == [Assignment(task="color", person="ann", most=5), Assignment(task="car", person="ann", most=None)]
    with catalog.commit(author="ada", message="left") as change:
        change.people.mark_left("ann", left=True)
    assert given() == []
    with pytest.raises(BadInput, match=r"^ann: left; assign to somebody else, or say `[^\n]*--back ann`$"):
        assign("color", "ann", 1)
    with pytest.raises(BadInput, match="limit -1"):
        assign("color", "bob", -1)
    with pytest.raises(BadInput, match="limit 2147483648: must be 0 to 2,147,483,647"):
        assign("color", "bob", 2**31)
    with catalog.commit(author="ada", message="back") as change, pytest.raises(BadInput, match="bob: is here"):
        change.people.mark_left("bob", left=False)
    with catalog.commit(author="ada", message="back") as change:
        change.people.mark_left("ann", left=False)
    assert [part.person for part in given()] == ["ann", "ann"]


def test_only_members_of_the_owner_instruct_and_assign(catalog: Catalog) -> None:
    with catalog.commit(author="ada", message="members") as change:
        change.set_members("ada", [ADA], by=ADA)
    with pytest.raises(BadInput, match="instructions of color: needs ada"):
        set_text(catalog, "Look.", by=EVE)
    with catalog.commit(author="eve", message="assign") as change, pytest.raises(BadInput, match="assignment of color"):
        change.people.assign("color", "ann", most=None, by=EVE)
    assert set_text(catalog, "Look.") == 1


def test_only_members_of_the_owner_undo_what_people_are_told(catalog: Catalog) -> None:
    with catalog.commit(author="ada", message="members") as change:
        change.set_members("ada", [ADA], by=ADA)
    set_text(catalog, "Look.")
    with catalog.commit(author="ada", message="assign") as change:
        change.people.assign("color", "ann", most=1, by=ADA)
        told = change.id
    for commit in (told - 1, told):
        with catalog.commit(author="eve", message="undo") as change, pytest.raises(BadInput, match="color: needs ada"):
            change.revert(commit, by=EVE)
    with catalog.commit(author="ada", message="undo") as change:
        assert change.revert(told, by=ADA)["assignments"] == 1


@pytest.mark.parametrize("text", ["", " \n", "x" * (LONGEST_TEXT + 1), "red\0", "a\x07b", "a\x85b"])
def test_instructions_are_a_text(catalog: Catalog, text: str) -> None:
    with pytest.raises(BadInput, match="instructions of color: "):
        set_text(catalog, text)
    with catalog.commit(author="ada", message="none") as change, pytest.raises(NotFound, match="colour"):
        change.people.set_instructions("colour", "Look.", by=ADA)


def test_a_catalog_of_version_5_gets_instructions(catalog: Catalog) -> None:
    with catalog.read() as now:
        kept = now.digest, now.labels("color").to_pylist()
    downgrade(catalog.home, 5)
    assert migrate(catalog.home).before == 5
    migrated = Catalog.open(catalog.home)
    with migrated.read() as now:
        assert (now.digest, now.labels("color").to_pylist(), now.people.instructions()) == (*kept, {})
    assert set_text(migrated, "Look.") == 1
