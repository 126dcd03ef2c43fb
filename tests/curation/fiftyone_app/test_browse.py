"""The mirror in FiftyOne, on a real mongod."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support.homes import copy_home, label, labels, make_home, sample_rows
from support.mirrors import LOCAL, bare, document, show

from amber.cli import run
from amber.forget import forget
from amber.verbs import browse
from curation.catalog.catalog import Catalog
from curation.catalog.tasks import Task
from curation.fiftyone_app.columns import NEAR, Overlay, SliceError, columns_of, field_types, near_duplicates
from curation.fiftyone_app.mirror import mirror
from curation.fiftyone_app.panels import draw_map
from curation.images.embeddings import add_vectors

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


def test_documents_equal_those_of_add_samples(catalog: Catalog, database: Any, name: str) -> None:
    show(catalog, name)
    ours = database.load_dataset(name)
    theirs = ours.clone(f"{name}-theirs")
    theirs.delete_samples(theirs)
    with catalog.read() as now:
        columns = columns_of(now, LOCAL, lambda key, location: None, near=near_duplicates(now))
        fields = list(field_types(now, LOCAL))
    samples = [as_sample(database, columns, fields, row) for row in range(len(columns["key"]))]
    theirs.add_samples(samples, progress=False)
    assert theirs.get_field_schema().keys() == ours.get_field_schema().keys()
    for key in columns["key"]:
        assert bare(document(ours, key)) == bare(document(theirs, key))
    assert ours.count_values("label_color.label") == theirs.count_values("label_color.label") != {}
    assert ours.media_type == "image"


def as_sample(fo: Any, columns: dict[str, list[Any]], fields: list[str], row: int) -> Any:
    def made(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        inner = {name: [made(each) for each in part] if isinstance(part, list) and name in ("detections",
                 "classifications") else part for name, part in value.items() if name != "_cls"}  # fmt: skip
        return getattr(fo, value["_cls"])(**inner)

    metadata = fo.ImageMetadata(
        size_bytes=columns["size_bytes"][row], mime_type=f"image/{columns['mime_type'][row].lower()}",
        width=columns["width"][row], height=columns["height"][row],
    )  # fmt: skip
    return fo.Sample(
        filepath=columns["location"][row], tags=columns["tags"][row], metadata=metadata,
        **{name: made(columns[name][row]) for name in fields},
    )  # fmt: skip


def test_a_task_that_does_not_apply_is_listed(catalog: Catalog, database: Any, name: str) -> None:
    show(catalog, name)
    with catalog.commit(author="ada", message="no light here") as change:
        key = change.now.samples()["key"][3].as_py()
        change.add_labels(labels([{**label(key, "color", None, "ada"), "state": "inapplicable"}]), source="human")
    show(catalog, name)
    assert database.load_dataset(name).load_saved_view("inapplicable").values("key") == [key]
    assert document(database.load_dataset(name), key)["inapplicable"] == ["color"]


def test_unknown_is_empty_and_unsure_is_listed(catalog: Catalog, database: Any, name: str) -> None:
    with catalog.commit(author="ada", message="cannot tell") as change:
        key = change.now.samples()["key"][3].as_py()
        change.add_labels(labels([label(key, "color", None, "ada")]), source="human")
    with catalog.commit(author="ada", message="two people") as change:
        other = change.now.samples()["key"][5].as_py()
        given = [label(other, "car", value, person) for person, value in (("ada", True), ("bob", False))]
        change.add_labels(labels(given), source="human")
    show(catalog, name)
    dataset = database.load_dataset(name)
    assert dataset.load_saved_view("disputed").values("key") == [other]
    with catalog.read() as now:
        known = {task: int(sum(state == 1 for state in now.labels(task)["state"].to_pylist())) for task in now.tasks()}
        night = len(now.members("attr.night"))
    for task, count in known.items():
        assert len(dataset.exists(f"label_{task}")) == count
        assert len(dataset.exists(f"label_{task}", False)) == len(dataset) - count
    assert document(dataset, key)["unsure"] == ["color"]
    assert "label_color" not in document(dataset, key)
    assert len(dataset.match_tags("night")) == len(dataset.load_saved_view("slice night")) == night > 0
    box = next(iter(dataset.exists("label_things"))).label_things.detections[0]
    assert box.label == "light"
    assert box.bounding_box == pytest.approx([2 / 48, 2 / 32, 5 / 48, 8 / 32])


def test_predictions_errors_and_flips_of_a_run(catalog: Catalog, database: Any, tmp_path: Path, name: str) -> None:
    with catalog.read() as now:
        keys = now.samples()["key"].to_pylist()
        known = {row["sample_id"]: row["code"] for row in now.labels("color").to_pylist()}
        ids = dict(zip(keys, now.samples()["sample_id"].to_pylist(), strict=True))
    rows = [
        {"key": key, "task": "color", "code": 1, "number": None, "confidence": 0.95, "probabilities": [0.0, 0.95, 0.05]}
        for key in keys
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "predictions.parquet")
    earlier = [row | {"code": number % 3} for number, row in enumerate(rows)]
    pq.write_table(pa.Table.from_pylist(earlier), tmp_path / "before.parquet")
    scene = Overlay(
        predictions=str(tmp_path / "predictions.parquet"),
        before=str(tmp_path / "before.parquet"),
        extra=pa.table({"key": keys[:2], "plan_p": [0.25, 0.75]}),
    )
    show(catalog, name, scene)
    dataset = database.load_dataset(name)
    wrong = sum(known.get(ids[key], 1) != 1 for key in keys)
    assert len(dataset.load_saved_view("errors color")) == wrong > 0
    assert len(dataset.load_saved_view("suspected labels color")) == wrong
    flips = dataset.count_values("flip_color")
    truths = [(number % 3, known.get(ids[key])) for number, key in enumerate(keys) if number % 3 != 1]
    assert flips["fixed"] == sum(truth == 1 for _, truth in truths) > 0
    assert flips["broken"] == sum(truth == was for was, truth in truths) > 0
    assert len(dataset.load_saved_view("flips color")) == len(truths)
    report = dataset.load_evaluation_results("eval_color").report()
    with catalog.read() as now:
        test = set(now.samples().filter(pc.equal(now.samples()["split"], "test"))["sample_id"].to_pylist())
    right = [code == 1 for id_, code in known.items() if id_ in test]
    assert report["weighted avg"]["support"] == len(right) > 0
    assert dataset.load_evaluation_results("eval_color").metrics()["accuracy"] == pytest.approx(np.mean(right))
    assert document(dataset, keys[1])["plan_p"] == 0.75
    assert "plan_p" not in document(dataset, keys[2])


def test_evaluations_equal_ours_on_known_labels_in_every_slice(
    catalog: Catalog, database: Any, tmp_path: Path, name: str
) -> None:
    """Accuracy per task and per scenario equals ours on known labels of the test split."""
    from fiftyone.operators.store import ExecutionStore

    generator = np.random.default_rng(0)
    with catalog.commit(author="ada", message="more to test with") as change:
        tested = change.now.samples()["key"].to_pylist()[:40]
        change.add_attributes(pa.table({"key": tested, "split": ["test"] * 40}))
    with catalog.read() as now:
        keys, sizes = now.samples()["key"].to_pylist(), {"color": 3, "car": 2, "bike": 2}
        rows = [
            {"key": key, "task": task, "code": int(generator.integers(size)), "number": None, "confidence": 0.9,
             "probabilities": [1 / size] * size} for key in keys for task, size in sizes.items()
        ]  # fmt: skip
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "predictions.parquet")
        ours = {(task, part): accuracy(now, task, part, rows) for task in sizes for part in ("", *now.slices())}
    show(catalog, name, Overlay(predictions=str(tmp_path / "predictions.parquet")))
    dataset = database.load_dataset(name)
    scenarios = ExecutionStore.create("model_evaluation_panel_builtin", dataset._doc.id).get("scenarios")
    offered = {each["name"]: each["subsets"] for each in scenarios.values()}
    held = {part for (_, part), (count, _) in ours.items() if count and part}
    assert offered == {"all slices": sorted(held), **{part: [part] for part in held}}
    for (task, part), (count, value) in ours.items():
        results = dataset.load_evaluation_results(f"eval_{task}")
        if part and part in held:
            results.use_subset({"type": "field", "field": "tags", "value": part})
        if not part or part in held:
            assert len(results.ytrue) == count
            assert results.metrics()["accuracy"] == pytest.approx(value)
        results.clear_subset()
    assert len({value for _, value in ours.values()}) > 4  # the slices differ


def test_the_worst_slices_come_first(catalog: Catalog, database: Any, tmp_path: Path, name: str) -> None:
    """In the given order; each has its evaluated samples, wrong ones first, then by falling confidence."""
    with catalog.commit(author="ada", message="more to test with") as change:
        tested = change.now.samples()["key"].to_pylist()[:50]
        change.add_attributes(pa.table({"key": tested, "split": ["test"] * 50}))
    with catalog.read() as now:
        keys = now.samples()["key"].to_pylist()
    rows = [
        {"key": key, "task": "color", "code": number % 3, "number": None, "confidence": number / 60,
         "probabilities": [1 / 3] * 3} for number, key in enumerate(keys)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "predictions.parquet")
    worst = tuple(
        SliceError(task="color", slice=part, error=error, told=f"figure of {part}", sure=sure)
        for part, error, sure in (("night", 0.625, True), ("yellow", 0.5, False))
    )
    scene = Overlay(predictions=str(tmp_path / "predictions.parquet"), worst=worst)
    assert show(catalog, name, scene).since is None
    dataset = database.load_dataset(name)
    assert dataset.list_saved_views()[:2] == [
        "worst 1: night of color, error 0.62",
        "worst 2: yellow of color, error 0.50",
    ]
    views = [dataset.get_saved_view_info(view) for view in dataset.list_saved_views()[:2]]
    assert [(each["description"], each["color"]) for each in views] == [
        ("figure of night", "#EE0000"), ("figure of yellow", None)
    ]  # fmt: skip
    found = dataset.load_saved_view("worst 1: night of color, error 0.62")
    judged = list(zip(*found.values(["error_color", "pred_color.confidence", "attr_split", "attr_night"]), strict=True))
    assert judged == sorted(judged, key=lambda row: (not row[0], -row[1]))
    assert {row[0] for row in judged} == {True, False}
    assert {row[2:] for row in judged} == {("test", True)}
    assert show(catalog, name, scene).written == 0
    assert show(catalog, name, replace(scene, worst=worst[:1])).since is None


def test_views_of_co_labelling_holes(catalog: Catalog, database: Any, name: str) -> None:
    """A pair never labelled together has a view of the training samples with one of the two, until the hole closes."""
    with catalog.commit(author="ada", message="never together") as change:
        change.add_tasks([Task(name=task, kind="binary", owner="ada") for task in ("rain", "snow")])
        samples = change.now.samples()
        train = samples.filter(pc.equal(samples["split"], "train"))["key"].to_pylist()
        test = samples.filter(pc.equal(samples["split"], "test"))["key"].to_pylist()
        rows = [label(key, ("rain", "snow")[place % 2], True) for place, key in enumerate(train[:40])]
        change.add_labels(labels([*rows, label(test[0], "rain", True)]), source="import")
    show(catalog, name)
    dataset = database.load_dataset(name)
    view = dataset.load_saved_view("hole rain + snow")
    assert set(view.values("key")) == set(train[:40])
    known = view.values("known_tasks")
    assert known == sorted(known, reverse=True)
    assert known[0] > known[-1] >= 1
    described = dataset.get_saved_view_info("hole rain + snow")["description"]
    assert described.startswith(f"known together on 0 samples, by chance on {20 * 20 / len(train):.0f}; ")
    assert view.first()["known_tasks"] == sum(view.first()[f"label_{task}"] is not None for task in tasks_of(catalog))
    with catalog.commit(author="ada", message="closed") as change:
        rows = [label(key, ("snow", "rain")[place % 2], True) for place, key in enumerate(train[:20])]
        change.add_labels(labels(rows), source="import")
    assert show(catalog, name).since is not None
    assert "hole rain + snow" not in database.load_dataset(name).list_saved_views()


def tasks_of(catalog: Catalog) -> list[str]:
    with catalog.read() as now:
        return list(now.tasks())


def accuracy(now: Any, task: str, part: str, rows: list[dict[str, Any]]) -> tuple[int, float]:
    """The number of known labels of the test split in a slice, and the share predicted correctly."""
    samples = now.samples().filter(pc.equal(now.samples()["split"], "test"))
    inside = set(samples["sample_id"].to_pylist())
    if part:
        inside &= set(now.members(now.slice(part).predicate).tolist())
    ids = dict(zip(samples["key"].to_pylist(), samples["sample_id"].to_pylist(), strict=True))
    predicted = {ids[row["key"]]: row["code"] for row in rows if row["task"] == task and row["key"] in ids}
    labels = [row for row in now.labels(task).to_pylist() if row["state"] == 1 and row["sample_id"] in inside]
    hits = [predicted[row["sample_id"]] == row["code"] for row in labels]
    return len(hits), float(np.mean(hits)) if hits else 0.0


def test_embeddings_become_a_map(catalog: Catalog, database: Any, name: str) -> None:
    show(catalog, name)
    dataset = database.load_dataset(name)
    generator = np.random.default_rng(0)
    keys = dataset.values("key")
    vectors = generator.normal(size=(40, 8)).astype(np.float32) * [9, 5, 1, 1, 1, 1, 1, 1]
    table = pa.table({"key": keys[:40], "vector": pa.array(vectors.tolist(), pa.list_(pa.float32()))})
    add_vectors(catalog.home, "toy", table)
    assert draw_map(dataset, catalog.home, "toy") == 40
    points = dataset.load_brain_results("embeddings_toy").points
    assert points.shape == (40, 2)
    assert points.std(axis=0)[0] > points.std(axis=0)[1] > 3


def test_a_commit_updates_the_samples_it_touched(catalog: Catalog, database: Any, name: str) -> None:
    first = show(catalog, name)
    assert (first.since, first.written) == (None, 60)
    with catalog.commit(author="ada", message="more") as change:
        keys = change.now.samples()["key"].to_pylist()[:5]
        change.add_labels(labels([label(key, "color", "yellow", "ada") for key in keys]), source="human")
    second = show(catalog, name)
    assert (second.since, second.written) == (first.since or 1, 5)
    dataset = database.load_dataset(name)
    found = {key: bare(document(dataset, key)) for key in dataset.values("key")}
    assert set(keys) <= set(dataset.match_tags("yellow").values("key"))
    show(catalog, f"{name}-rebuilt")
    rebuilt = database.load_dataset(f"{name}-rebuilt")
    assert found == {key: bare(document(rebuilt, key)) for key in rebuilt.values("key")}
    third = show(catalog, name)
    assert third.written == 0
    with catalog.commit(author="ada", message="a slice") as change:
        change.add_slice("speeding", "label.speed > 50")
    assert show(catalog, name).since is None


def test_near_duplicates_are_side_by_side(pictures: Catalog, database: Any, tmp_path: Path, name: str) -> None:
    catalog = Catalog.create(tmp_path / "near")
    with pictures.read() as now:
        paths = [Path(path) for path in now.samples()["location"].to_pylist()]

    def add(keys: list[str], hashes: list[int]) -> None:
        rows = sample_rows(keys, paths[: len(keys)])
        rows = rows.set_column(rows.column_names.index("phash"), "phash", pa.array(hashes, pa.uint64()))
        with catalog.commit(author="ada", message="pictures") as change:
            change.add_samples(rows, dataset="near")

    def side_by_side() -> list[str]:
        show(catalog, name)
        return list(database.load_dataset(name).load_saved_view("near-duplicates").values("key"))

    alone = [0xFFFF << 48, 0xFFFF << 32, 0xFFFF << 16, 0xFF00FF00FF00FF00]
    add(["e", "a", "d", "b", "c", "f"], [0, 3, *alone])
    assert side_by_side() == ["a", "e"]
    add(["g", "h"], [0xFFFF << 48 | 1, 15])  # near-duplicates of d, and of a through a chain
    assert show(catalog, f"{name}-rebuilt").since is None
    assert show(catalog, name).since == 1
    assert sorted(side_by_side()) == ["a", "d", "e", "g", "h"]
    dataset = database.load_dataset(name)
    assert dict(zip(*dataset.values(["key", NEAR]), strict=True)) == dict(
        zip(*database.load_dataset(f"{name}-rebuilt").values(["key", NEAR]), strict=True)
    )
    with catalog.read() as now:
        assert near_duplicates(now) == {"a": "a", "e": "a", "h": "a", "d": "d", "g": "d"}


def test_a_forgotten_image_leaves_the_mirror(catalog: Catalog, database: Any, name: str) -> None:
    show(catalog, name)
    key = database.load_dataset(name).first()["key"]
    forget(catalog, key, author="ada")
    show(catalog, name)
    dataset = database.load_dataset(name)
    assert dataset._sample_collection.find_one({"key": key}) is None
    assert len(dataset) == 59


def test_a_killed_or_deleted_mirror_is_rebuilt(catalog: Catalog, database: Any, name: str) -> None:
    class Killed(Exception):
        pass

    def kill(done: int, total: int) -> None:
        raise Killed

    with catalog.read() as now, pytest.raises(Killed):
        mirror(now, name, scene=LOCAL, url_for=lambda key, location: None, progress=kill)
    assert not database.dataset_exists(name)
    assert show(catalog, name).written == 60
    database.delete_dataset(name)
    assert show(catalog, name).written == 60
    assert not database.dataset_exists(f"{name}.part")


def test_no_samples_make_an_empty_mirror(
    database: Any, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = Catalog.create(tmp_path / "home")
    assert show(catalog, name).samples == 0
    assert len(database.load_dataset(name)) == 0
    assert run(["browse", "--home", str(catalog.home)]) == 2
    assert "the catalog has no sample at that commit; add some with `amber ingest`" in capsys.readouterr().err


def test_the_command_line(catalog: Catalog, database: Any, capsys: pytest.CaptureFixture[str]) -> None:
    home = ["--home", str(catalog.home)]
    assert run(["browse", *home, "--no-app"]) == 0
    assert "60 samples, built, 60 written" in capsys.readouterr().out
    assert run(["browse", *home, "--import", "--dry-run", "--json"]) == 0
    assert '"labels": []' in capsys.readouterr().out
    assert run(["browse", *home, "nowhere"]) == 2
    with catalog.commit(author="ada", message="slices") as change:
        change.add_slice("never", "attr.key = 'x'")
        change.add_slice("mistaken", "pred.color.value <> label.color")
    assert run(["browse", *home, "never"]) == 2
    assert "has no sample at commit" in capsys.readouterr().err
    assert run(["browse", *home, "mistaken"]) == 2
    assert "name a run with --run" in capsys.readouterr().err


def test_a_slice_that_became_empty(catalog: Catalog, database: Any, capsys: pytest.CaptureFixture[str]) -> None:
    home = ["--home", str(catalog.home), "--no-app"]
    with catalog.commit(author="ada", message="a slice") as change:
        key = change.now.samples()["key"][0].as_py()
        change.add_slice("blurred", "attr.night AND state.car = 'unsure'")
        change.add_attributes(pa.table({"key": [key], "night": [True]}))
        change.add_labels(labels([label(key, "car", None, "ada")]), source="human")
    assert run(["browse", "blurred", *home]) == 0
    view = database.load_dataset(browse._name(catalog)).load_saved_view("slice blurred")
    assert view.values("key") == [key]
    with catalog.commit(author="ada", message="by day") as change:
        change.add_attributes(pa.table({"key": [key], "night": [False]}))
    assert run(["browse", "blurred", *home]) == 2
    assert "slice 'blurred': has no sample at commit 3; choose another" in capsys.readouterr().err
    assert run(["browse", *home]) == 0
    assert len(database.load_dataset(browse._name(catalog)).load_saved_view("slice blurred")) == 0
