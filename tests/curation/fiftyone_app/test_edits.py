"""Edits made in the App are imported, on a real mongod."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest
from support.homes import copy_home, make_home
from support.mirrors import LOCAL, document, show

from amber.cli import run
from amber.verbs import browse
from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from curation.fiftyone_app.edits import commit_edits, edits_of
from curation.fiftyone_app.mirror import mirror

pytestmark = pytest.mark.filterwarnings("ignore")  # of FiftyOne itself


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("pictures"), samples=60)


@pytest.fixture
def catalog(pictures: Catalog, tmp_path: Path) -> Catalog:
    return copy_home(pictures, tmp_path)


@pytest.fixture
def name() -> str:
    """A data set name: all tests share one mongod."""
    return f"test-{uuid4().hex}"


def test_edits_are_imported_as_one_commit(catalog: Catalog, database: Any, name: str) -> None:
    show(catalog, name)
    dataset = database.load_dataset(name)
    labelled = dataset.exists("label_color").limit(2).values("key")
    changed, removed = dataset[labelled_id(dataset, labelled[0])], dataset[labelled_id(dataset, labelled[1])]
    changed["label_color"] = database.Classification(label="green" if changed.label_color.label != "green" else "red")
    changed.tags.append("blurred")
    changed.save()
    removed["label_color"] = None
    removed.tags.append("yellow" if "yellow" not in removed.tags else "night")
    removed.save()
    with catalog.read() as now:
        found = edits_of(dataset, now, LOCAL)
    assert [(row["key"], row["state"]) for row in found.labels] == [(labelled[0], "known"), (labelled[1], "unsure")]
    assert found.tags == [{"key": labelled[0], "tag": "blurred", "on": True}]
    assert len(found.passed_over) == 1
    commit = commit_edits(catalog, found, author="eve")
    assert commit_edits(catalog, found, author="ada") == commit  # two people, the same edits
    with catalog.read() as now:
        given = {
            row["sample_id"]: row for row in now.labels.by_annotator("color").to_pylist() if row["annotator"] == "eve"
        }
        assert sorted(row["state"] for row in given.values()) == [1, 2]
        assert len(now.members("attr.tag_blurred")) == 1
    show(catalog, name)
    dataset = database.load_dataset(name)
    with catalog.read() as now:
        again = edits_of(dataset, now, LOCAL)
    assert (again.labels, again.tags) == ([], [])
    assert commit_edits(catalog, again, author="eve") is None
    assert "blurred" in document(dataset, labelled[0])["tags"]


def test_edits_made_during_an_import_are_imported_next(catalog: Catalog, database: Any, name: str) -> None:
    """Two people: one imports while the other edits; a run without import keeps all edits."""

    def tag(row: int, word: str) -> None:
        sample = database.load_dataset(name).sort_by("key").skip(row).first()
        sample.tags.append(word)
        sample.save()

    def imported(at: datetime | None) -> list[str]:
        with catalog.read() as now:
            found = edits_of(database.load_dataset(name), now, LOCAL)
        if at:
            tag(1, "late")
            commit_edits(catalog, found, author="eve")
        with catalog.read() as now:
            mirror(now, name, scene=LOCAL, url_for=lambda key, location: None, progress=lambda d, t: None, at=at)
        return [each["tag"] for each in found.tags]

    with catalog.commit(author="ada", message="tags that exist") as change:
        keys = change.now.samples()["key"].to_pylist()[50:52]
        change.add_attributes(pa.table({"key": keys, "tag_early": [True, False], "tag_late": [False, True]}))
    show(catalog, name)
    tag(0, "early")
    assert imported(None) == ["early"]
    assert imported(datetime.now(UTC)) == ["early"]
    assert imported(None) == ["late"]


def labelled_id(dataset: Any, key: str) -> str:
    return str(document(dataset, key)["_id"])


def test_a_foreign_data_set_is_refused(catalog: Catalog, database: Any, name: str) -> None:
    with catalog.read() as now, pytest.raises(BadInput, match="was not written by `amber browse`"):
        edits_of(database.Dataset(name), now, LOCAL)


def test_two_people_import_edits_at_once(catalog: Catalog, database: Any) -> None:
    """The edits are committed once; the other import finds nothing left, or the same commit."""
    assert run(["browse", "--no-app", "--home", str(catalog.home)]) == 0
    sample = database.load_dataset(browse._name(catalog)).first()
    sample.tags.append("odd")
    sample.save()
    words = [sys.executable, "-m", "amber", "browse", "--import", "--home", str(catalog.home), "--author"]
    both = [
        subprocess.Popen([*words, who], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for who in ("ada", "eve")
    ]
    outputs = [each.communicate(timeout=120) for each in both]
    assert [each.returncode for each in both] == [0, 0], outputs
    assert sum("1 edits since commit 1, committed as 2" in out for out, _ in outputs) == 1
    assert sum("0 edits since commit 2" in out for out, _ in outputs) == 1
    with catalog.read() as now:
        assert now.commit == 2
        assert len(now.members("attr.tag_odd")) == 1
