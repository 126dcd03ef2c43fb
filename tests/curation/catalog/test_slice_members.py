"""Members of slices equal those computed in plain Python."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.homes import make_home
from support.postgres import Server

from curation import BadInput, Catalog, NotFound
from curation.catalog.slice_vetting import vet
from curation.catalog.slices import terms_of


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory, lake: Server | None) -> Catalog:
    return make_home(tmp_path_factory.mktemp("slices"), lake=lake)


@pytest.fixture(scope="module")
def truth(catalog: Catalog) -> list[dict[str, object]]:
    """Plain rows: night, color, car; None where unknown."""
    with catalog.read() as now:
        rows = {id_: {"id": id_} for id_ in now.samples()["sample_id"].to_pylist()}
        for row in now.attribute("night").to_pylist():
            rows[row["sample_id"]]["night"] = row["value"]
        for task in ("color", "car"):
            classes = now.task(task).classes
            for row in now.labels(task).to_pylist():
                rows[row["sample_id"]][task] = classes[row["code"]]
    return list(rows.values())


ATOMS = {
    "attr.night": lambda row: row.get("night"),
    "NOT attr.night": lambda row: not row["night"],
    "label.color = 'yellow'": lambda row: None if "color" not in row else row["color"] == "yellow",
    "label.color <> 'red'": lambda row: None if "color" not in row else row["color"] != "red",
    "label.car": lambda row: None if "car" not in row else row["car"] == "true",
    "state.color = 'unknown'": lambda row: "color" not in row,
    "state.color = 'known'": lambda row: "color" in row,
    "coalesce(label.car, true)": lambda row: row.get("car") != "false",
    "(attr.night OR label.car)": lambda row: row["night"] or row.get("car") == "true",
    "label.car IS NULL": lambda row: "car" not in row,
    "label.car IS DISTINCT FROM attr.night": lambda row: row.get("car") != ("true" if row["night"] else "false"),
}


@settings(max_examples=25, deadline=None)
@given(atoms=st.lists(st.sampled_from(sorted(ATOMS)), min_size=1, max_size=4))
def test_members_agree_with_plain_python(catalog: Catalog, truth: list[dict[str, object]], atoms: list[str]) -> None:
    expected = [row["id"] for row in truth if all(ATOMS[atom](row) for atom in atoms)]
    with catalog.read() as now:
        found = now.members(vet(" AND ".join(atoms), now.frame()))
    assert found.tolist() == expected


def test_members_of_several_are_those_of_each(catalog: Catalog, truth: list[dict[str, object]]) -> None:
    """All atoms and pairs of neighbours at once: some read the same columns, some read columns of their own."""
    atoms = sorted(ATOMS)
    texts = [(atom,) for atom in atoms] + list(pairwise(atoms))
    with catalog.read() as now:
        found = now.members_of({" AND ".join(text): vet(" AND ".join(text), now.frame()) for text in texts})
    assert list(found) == [" AND ".join(text) for text in texts]
    for text, ids in zip(texts, found.values(), strict=True):
        assert ids.tolist() == [row["id"] for row in truth if all(ATOMS[atom](row) for atom in text)]


def test_of_several_the_one_that_breaks_is_named(catalog: Catalog) -> None:
    with catalog.read() as now:
        predicates = {
            name: vet(text, now.frame())
            for name, text in {"fine": "key <> ''", "odd": "CAST(key AS INTEGER) = 1"}.items()
        }
        with pytest.raises(BadInput, match=r"CAST.*or use TRY_CAST"):
            now.members_of(predicates)
    with catalog.read() as now:
        unknown = vet("pred.color.confidence < 0.5", now.frame()), vet("pred.color.confidence > 0.5", now.frame())
        with pytest.raises(NotFound, match="needs a run"):
            now.members_of(dict(zip("ab", unknown, strict=True)))


def test_terms_that_never_hold_for_unknown_read_one_column() -> None:
    terms = {term.text: term.strict for term in terms_of("(attr.night AND (label.car IS NULL) AND (attr.a = label.b))")}
    assert terms == {
        '"attr.night"."value"': True, '("label.car"."value" IS NULL)': False,
        '("attr.a"."value" = "label.b"."value")': False,
    }  # fmt: skip


def test_unknown_is_no_member_either_way(catalog: Catalog) -> None:
    with catalog.read() as now:
        either = [now.members(vet(text, now.frame())) for text in ("label.car", "NOT label.car")]
        assert len(either[0]) + len(either[1]) == len(now.labels("car"))


def test_assume_asks_what_a_label_would_do(catalog: Catalog) -> None:
    with catalog.read() as now:
        slice_ = now.slices()["yellow_at_night"].predicate
        night = now.members(now.slices()["night"].predicate)
        assert now.members(slice_, assume={"color": "yellow"}).tolist() == night.tolist()
        assert not len(now.members(slice_, assume={"color": "red"}))


def test_assumed_labels_are_known(catalog: Catalog) -> None:
    with catalog.read() as now:
        asked = vet("label.color = 'red' AND state.color = 'known'", now.frame())
        assert len(now.members(asked, assume={"color": "red"})) == len(now.samples())


def test_predicates_that_break_on_the_data_are_refused(catalog: Catalog) -> None:
    with (
        pytest.raises(BadInput, match="or use TRY_CAST") as caught,
        catalog.commit(author="ada", message="x") as change,
    ):
        change.add_slice("odd", "CAST(key AS INTEGER) = 1")
    assert "\n" not in str(caught.value)
    with catalog.read() as now:
        assert "odd" not in now.slices()


def test_boxes_and_lambdas(catalog: Catalog) -> None:
    with catalog.read() as now:
        tall = vet("len(list_filter(boxes.things, lambda b: b.h > 7 AND b.class = 'light')) = 1", now.frame())
        assert len(now.members(tall)) == 1


def test_predictions_are_read_from_a_run(catalog: Catalog, tmp_path: Path) -> None:
    with catalog.read() as now:
        keys = now.samples()["key"].to_pylist()
        path = tmp_path / "predictions.parquet"
        codes = pa.array(np.arange(len(keys)) % 3, pa.int32())
        table = {"key": keys, "task": ["color"] * len(keys), "code": codes, "confidence": [0.4] * len(keys)}
        pq.write_table(pa.table(table), path)
        sure = vet("pred.color.value = 'yellow' AND pred.color.confidence < 0.5", now.frame())
        assert len(now.members(sure, predictions=str(path))) == len(keys) // 3
        with pytest.raises(NotFound, match="needs a run"):
            now.members(sure)
        with pytest.raises(NotFound, match="are missing"):
            now.members(sure, predictions=str(tmp_path / "nowhere"))
