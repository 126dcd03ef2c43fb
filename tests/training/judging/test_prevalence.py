"""How common a class is although mining enriched its labels."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.homes import copy_home, label, labels, make_home
from support.refusals import refused

from amber.cli import run
from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import REQUESTS
from training.evaluation.drawn_labels import Batch
from training.judging.prevalence import prevalence, shares

Capture = pytest.CaptureFixture[str]


def mined_pool(generator: np.random.Generator, images: int, rate: float) -> tuple[float, np.ndarray]:  # type: ignore[type-arg]
    """The true share, and the estimate after four rounds of 20 random labels and 60 mined ones."""
    truth, taken = generator.random(images) < rate, np.zeros(images, np.bool_)
    score, batches, every = truth * 2 + generator.normal(size=images), [], np.ones(images, np.bool_)
    for opened in range(1, 5):
        open_ = np.flatnonzero(~taken)
        random = generator.choice(open_, 20, replace=False)
        taken[random] = True
        rest = np.flatnonzero(~taken)
        mined = rest[np.argsort(-score[rest])[:60]]
        taken[mined] = True
        batches += [
            Batch(opened=opened, pool=every, rows=random, propensity=np.full(20, 20 / len(open_))),
            Batch(opened=opened, pool=None, rows=mined, propensity=np.ones(60)),
        ]
    rows = np.flatnonzero(taken)
    return float(truth.mean()), shares(np.stack([~truth[rows], truth[rows]], axis=1), rows, images, batches)[1]


def test_mining_does_not_raise_it_and_the_interval_covers() -> None:
    generator = np.random.default_rng(0)
    found = [mined_pool(generator, 1500, 0.08) for _ in range(300)]
    true, rows = np.array([one for one, _ in found]), np.array([row for _, row in found])
    assert (rows[:, 0] - true).mean() == pytest.approx(0, abs=4 * (rows[:, 0] - true).std() / 300**0.5)
    assert 0.92 <= ((rows[:, 1] <= true) & (true <= rows[:, 2])).mean() <= 0.99


def test_everything_labelled_is_exact_and_nothing_falls_below_what_is_known() -> None:
    present = np.array([[True], [False], [True]])
    assert shares(present, np.arange(3), 3, []) == pytest.approx(np.full((1, 3), 2 / 3))
    drawn = Batch(opened=1, pool=np.ones(4, np.bool_), rows=np.array([1]), propensity=np.array([0.5]))
    mined = Batch(opened=1, pool=None, rows=np.array([0, 2]), propensity=np.ones(2))
    value, low, high = shares(present, np.arange(3), 4, [drawn, mined])[0]
    assert low >= 2 / 4
    assert high <= 3 / 4
    assert low <= value <= high


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_home(tmp_path_factory.mktemp("home"))


@pytest.fixture
def catalog(home: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AMBER_HOME", "home")
    return copy_home(home, tmp_path)


def label_at_random(catalog: Catalog, count: int) -> None:
    """The random arm requests `count` colors, of which the first is yellow and one is unsure."""
    with catalog.commit(author="ada", message="ask") as change:
        now = change.now
        open_ = np.setdiff1d(now.training_ids(), now.labels("color")["sample_id"].to_numpy())
        ids = open_[:count].tolist()
        rows = [
            {"sample_id": id_, "task_id": 0, "arm": "random", "slice": "", "reason": "drawn at random", "run": "",
             "priority": 0, "propensity": count / len(open_), "cost": 1.0} for id_ in ids
        ]  # fmt: skip
        change.add_requests(pa.Table.from_pylist(rows, REQUESTS))
        values = ["yellow", None, *["red"] * (count - 2)]
        change.add_labels(
            labels([label(f"pictures/{id_:05d}", "color", value) for id_, value in zip(ids, values, strict=True)]),
            source="human",
        )
        change.close_requests(change.now.requests("open")["request_id"].to_pylist(), state="answered")


def test_known_labels_and_the_rate_of_random_ones_add_up(catalog: Catalog, capsys: Capture) -> None:
    with catalog.read() as now:
        known = np.isin(now.labels("color")["sample_id"].to_numpy(), now.training_ids())
        yellow = int((now.labels("color")["code"].to_numpy()[known] == 1).sum())
    label_at_random(catalog, 20)
    with catalog.read() as now:
        rows = {row.name: row for row in prevalence(now, now.task("color"))}
        images = len(now.training_ids()) - 1  # about one of them people are unsure
    row = rows["yellow"]
    assert (row.images, row.known, row.random) == (images, yellow + 1, 19)
    assert row.value == pytest.approx((yellow + (images - int(known.sum())) / 19) / images)
    assert sum(part.value for part in rows.values()) == pytest.approx(1)
    assert run(["prevalence", "color"]) == 0
    assert "yellow" in capsys.readouterr().out
    assert run(["prevalence"]) == 0
    assert "car: no request of the random arm" in capsys.readouterr().err


@pytest.mark.usefixtures("catalog")
@pytest.mark.parametrize(
    ("task", "why", "fix"),
    [("colour", "'colour'", "color"), ("speed", "no classes", "another task"), ("car", "no request", "--budget N")],
)
def test_is_refused_in_one_line(task: str, why: str, fix: str, capsys: Capture) -> None:
    line = refused(capsys, "prevalence", task)
    assert why in line
    assert fix in line
