"""Plans of tasks with several classes on an image, and plans in phases."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.homes import copy_home, label, make_home
from support.plans import written_plan

from curation import BadInput, Catalog, Task
from curation.catalog.event_tables import LABELS
from samplers import Plan, Policy, make_pack
from samplers.plan.exposure import Exposure
from samplers.plan.labels import TaskLabels, eligible_labels
from samplers.plan.sign_off import changes
from samplers.plan.strata import SliceMembership, strata_of

SIGNS = Task(name="signs", kind="multilabel", classes=("common", "seldom", "absent"), owner="eve")
MULTILABELS = [["common"], ["common", "seldom"], [], ["seldom"], ["common"]]
BOXES = [[], [{"class": "light", "x": 1.0, "y": 2.0, "w": 3.0, "h": 4.0}] * 2]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    folder = tmp_path_factory.mktemp("kinds")
    catalog = make_home(folder)
    with catalog.commit(author="ada", message="several") as change:
        change.add_tasks([SIGNS])
        rows = [
            {"key": f"pictures/{i:05d}", "task": "signs", "state": "known", "annotator": "vendor",
             "names": MULTILABELS[i % 5]} for i in range(4, 40)
        ]  # fmt: skip
        rows += [label(f"pictures/{i:05d}", "things", BOXES[i % 2]) for i in range(4, 40)]
        change.add_labels(pa.Table.from_pylist(rows, LABELS), source="import")
    return catalog


def policy_of(*names: str, phases: tuple[float, ...] = (1.0,), **fields: object) -> Policy:
    section = {"owner": "ada", "share": 1 / len(names), "importance": 1 / len(names), **fields}
    return Policy.model_validate({"task": dict.fromkeys(names, section), "phases": phases})


def test_a_multilabel_task_is_stratified_by_its_rarest_class(catalog: Catalog) -> None:
    plan = written_plan(catalog, policy_of("signs", rule="balanced"), make_pack(catalog), draws=90)
    held = plan.label_lists["codes"].to_pylist()
    rarest = {(): 3, (0,): 0, (1,): 1, (0, 1): 1}
    assert [rarest[tuple(codes)] for codes in held] == plan.label_value.tolist()
    assert plan.tasks[0].strata == ("common", "seldom", "none")
    assert [row["drawn"] for row in plan.rates()] == [30, 30, 30]
    assert plan.tasks[0].class_factor is None
    names = [SIGNS.classes[code] for codes in held for code in codes]
    assert plan.tasks[0].labelled == (names.count("common"), names.count("seldom"), 0)


def test_the_constant_loss_of_a_multilabel_sums_over_classes(catalog: Catalog) -> None:
    plan = written_plan(catalog, policy_of("signs", rule="natural"), make_pack(catalog), draws=90)
    share = np.array([["common" in c, "seldom" in c] for c in _named(plan)]).mean(axis=0)
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share)).sum()
    assert plan.tasks[0].constant_loss == pytest.approx(entropy)


def _named(plan: Plan) -> list[list[str]]:
    return [[SIGNS.classes[code] for code in codes] for codes in plan.label_lists["codes"].to_pylist()]


def test_a_detection_task_keeps_boxes_and_has_a_stratum_without_boxes(catalog: Catalog) -> None:
    plan = written_plan(catalog, policy_of("things", "color", rule="balanced"), make_pack(catalog), draws=80)
    things = plan.label_task == 0
    boxes = plan.label_lists["boxes"].to_pylist()
    assert plan.tasks[0].strata == ("light", "none")
    assert plan.tasks[0].constant_loss > 1
    counted = [len(part) for part, mine in zip(boxes, things, strict=True) if mine]
    assert [0 if n else 1 for n in counted] == plan.label_value[things].tolist()
    assert set(counted) <= {0, 1, 2}
    assert {part for part, mine in zip(map(str, boxes), things, strict=True) if not mine} == {"None"}


def test_a_boost_cools_down_over_the_phases(catalog: Catalog) -> None:
    policy = policy_of("color", "car", phases=(0.5, 0.3, 0.2), boost={"night": (8.0, 3.0, 1.0)})
    plan = written_plan(catalog, policy, make_pack(catalog), draws=1_000)
    assert plan.phases.tolist() == [500, 300, 200]
    night = np.array(["night" in name for task in plan.tasks for name in task.strata])
    for phase, drawn in enumerate(plan.drawn()):
        expected = plan.phases[phase] * np.repeat(plan.shares, np.diff(plan.first_cell)) * plan.pi[phase]
        assert np.abs(drawn - expected).max() < 1
        assert plan.pi[phase][:2].sum() <= 1
    mass = plan.pi[:, night].sum(axis=1)
    assert mass[0] > mass[1] > mass[2]


def test_every_phase_is_unbiased_and_weights_depend_on_the_position(catalog: Catalog) -> None:
    policy = policy_of("color", "car", "speed", phases=(0.6, 0.4), boost={"night": (9.0, 1.0)}, cap=3.0)
    plan = written_plan(catalog, policy, make_pack(catalog), draws=600)
    cells = plan.cell(plan.label_task, plan.label_stratum)
    for phase in range(2):
        p, w = plan.probabilities(phase), plan.label_weights(phase)
        assert p.sum() == pytest.approx(1, abs=1e-12)
        mass = np.bincount(cells, p[plan.label_sample] * w)
        assert mass == pytest.approx(plan.pi[phase], rel=1e-12, abs=1e-12)
        position = np.array([0, 359] if phase == 0 else [360, 599, 700])
        rows = np.zeros(len(position), np.int32)
        _, known, weights = plan.labels(rows, position)
        mine = plan.label_sample == 0
        assert weights[known].tolist() == w[mine].astype(np.float32).tolist() * len(rows)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"phases": (0.5, 0.4)}, "phases sum to 0.9, must sum to 1"),
        ({"phases": (0.5, 0.5), "boost": {"night": (2.0,)}}, "by 1 numbers, and there are 2 phases"),
        ({"boost": {"night": (2.0, 1.0)}}, "by 2 numbers, and there are 1 phases"),
        ({"phases": (0.5, 0.5), "boost": {"night": (2.0, 0.0)}}, "boosts must be above 0"),
    ],
)
def test_bad_phases_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        policy_of("color", **fields)


def test_fewer_draws_than_phases_are_refused(catalog: Catalog) -> None:
    with pytest.raises(BadInput, match="draws 1: at least one for each of the 2 phases"):
        written_plan(catalog, policy_of("color", phases=(0.5, 0.5)), make_pack(catalog), draws=1)


def test_labelled_images_missing_from_the_pack_are_named(catalog: Catalog, tmp_path: Path) -> None:
    copy = copy_home(catalog, tmp_path)
    with copy.read() as now:
        shown = now.samples().to_pylist()
        known = set(now.labels("color")["sample_id"].to_pylist())
    train_rows = [row for row in shown if row["split"] == "train" and row["sample_id"] in known]
    keys = pa.table({"key": [train_rows[3]["key"]], "excluded": [True]})
    with copy.commit(author="ada", message="out") as change:
        change.add_attributes(keys)
    pack, before = make_pack(copy), set((copy.home / "plans").iterdir())
    with copy.commit(author="ada", message="in again") as change:
        change.add_attributes(keys.set_column(1, "excluded", pa.array([False])))
    with pytest.raises(BadInput, match=f"{train_rows[3]['key']}: labelled, but not in the pack"):
        written_plan(copy, policy_of("color"), pack, draws=10)
    assert set((copy.home / "plans").iterdir()) == before
    assert len(written_plan(copy, policy_of("color"), make_pack(copy), draws=10).draws) == 10


def test_a_stratum_of_one_sample_has_its_target(catalog: Catalog) -> None:
    with catalog.read() as now:
        labels = eligible_labels(now, policy_of("bike").task, make_pack(catalog))[0]
        one = TaskLabels(
            task=labels.task, samples=labels.samples, rows=labels.rows,
            values=(np.arange(len(labels.rows)) == 0).astype(float),
        )  # fmt: skip
        strata = strata_of(now, one, policy_of("bike", rule="balanced").task["bike"], SliceMembership(now))
    assert strata.counts.tolist() == [len(labels.rows) - 1, 1]
    assert strata.targets == pytest.approx([0.5, 0.5])


def test_a_class_may_have_the_name_of_a_slice_and_its_separator(catalog: Catalog, tmp_path: Path) -> None:
    """Two strata are called "car & night": the class of that name by day, and the class "car" at night."""
    copy = copy_home(catalog, tmp_path)
    with copy.commit(author="ada", message="seen") as change:
        change.add_tasks([Task(name="seen", kind="categorical", classes=("car", "car & night"), owner="eve")])
        keys = [f"pictures/{i:05d}" for i in range(4, 60)]
        rows = [label(key, "seen", ("car", "car & night")[i % 2]) for i, key in enumerate(keys)]
        change.add_labels(pa.Table.from_pylist(rows, LABELS), source="import")
    pack = make_pack(copy)
    plain, boosted = (
        written_plan(copy, policy_of("seen", boost={"night": factor}), pack, draws=500) for factor in (1.0, 4.0)
    )
    assert list(boosted.tasks[0].strata).count("car & night") == 2
    with copy.read() as now:
        ids = dict(zip(now.samples()["key"].to_pylist(), now.samples()["sample_id"].to_pylist(), strict=True))
        night = set(now.members(now.slice("night").predicate).tolist())
    exposure, positions = Exposure(boosted), np.arange(len(boosted.draws))
    exposure.add(boosted.draws, positions)
    slices = {row.name: row.drawn for row in exposure.rows() if row.kind == "slice"}
    names = ["car", "car & night", "'car & night'", "'car & night' & night"]
    assert [row.name for row in exposure.rows() if row.kind == "stratum"] == [f"seen: {name}" for name in names]
    at_night = [ids[boosted.keys[row].as_py()] in night for row in boosted.draws.tolist()]
    assert slices == {"seen: night": sum(at_night)}
    assert {row.stratum for row in changes(boosted, plain)[0].targets} == {*names}
