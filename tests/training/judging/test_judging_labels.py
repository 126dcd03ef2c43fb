"""Labels of test images that decide between two runs, from the request to the difference, on a catalog."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.homes import copy_home
from support.judged import answer, judged_home, truth_of

from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import REQUESTS
from curation.errors import BadInput, NotFound
from curation.files.read_back import sha256_of
from curation.labelstudio.items import questions
from curation.requests.budget import spread
from curation.requests.candidates import Candidates
from training.evaluation.figures import slice_errors
from training.evaluation.predictions import Samples
from training.judging.judging_labels import RunPair
from training.judging.measures import Measure
from training.judging.paired_runs import PairedRuns


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return judged_home(tmp_path_factory.mktemp("planted"))


@pytest.fixture
def catalog(planted: Catalog, tmp_path: Path) -> Catalog:
    return copy_home(planted, tmp_path)


def request(catalog: Catalog, count: int, seed: int = 0) -> list[int]:
    """Request `count` labels of color where the runs disagree; the ids of the samples."""
    with catalog.commit(author="ada", message="ask") as change:
        pair = RunPair.open(change.now, catalog.home, "new", "old")
        rows = pair.request(change.now, [change.now.task("color")], count, seed)
        change.add_requests(pa.Table.from_pylist(rows, REQUESTS))
    return [int(str(row["sample_id"])) for row in rows]


def test_only_test_images_on_which_the_runs_disagree_are_requested(catalog: Catalog) -> None:
    ids = request(catalog, 30)
    with catalog.read() as now:
        samples, requests = Samples.at(now), now.requests("open")
        rows, pair = RunPair.open(now, catalog.home, "new", "old").of(now.task("color"), samples)
        unlabelled = set(ids).isdisjoint(now.labels("color")["sample_id"].to_pylist())
        asked = questions(requests, now.samples(), sent=(), tasks=("color",))
    assert len(set(ids)) == 30
    assert set(ids) <= set(samples.ids[rows[pair.differs]].tolist())
    assert unlabelled
    assert set(requests["arm"].to_pylist()) == {"disagreement"}
    assert requests["priority"].to_pylist() == list(range(30))
    assert {question.runs["color"] for question in asked} == {""}  # people see no prediction


def test_more_than_there_are_are_refused(catalog: Catalog) -> None:
    with pytest.raises(BadInput, match=r"--ask 9999: runs new and old disagree on \d+ labels of test") as caught:
        request(catalog, 9999)
    left = int(str(caught.value).split(" disagree on ")[1].split()[0])
    request(catalog, left)
    with pytest.raises(BadInput, match="disagree on 0 labels"):
        request(catalog, 1)


def test_a_run_is_not_compared_with_itself_or_with_none(catalog: Catalog) -> None:
    with catalog.read() as now:
        with pytest.raises(BadInput, match="with itself"):
            RunPair.open(now, catalog.home, "new", "ne")
        with pytest.raises(NotFound, match="no such run"):
            RunPair.open(now, catalog.home, "new", "nine")


def test_the_difference_and_the_weights_of_a_comparison(catalog: Catalog) -> None:
    truth = truth_of(catalog)
    request(catalog, 40)
    answer(catalog, truth)
    with catalog.read() as now:
        task, samples = now.task("color"), Samples.at(now)
        pair = RunPair.open(now, catalog.home, "new", "old")
        every = np.ones(len(samples.ids), np.bool_)
        figure = pair.difference(now, task, samples, every)
        night = np.isin(samples.ids, now.members("attr.night"))
        inside = pair.difference(now, task, samples, night)
        images, both = pair.of(task, samples)
        compared = PairedRuns.load(now, catalog.home, "old", "new", tasks=["color"])
        measured = Measure.of(task, "accuracy").sums(compared.cell("color", ""))
    part = compared.tasks["color"].first
    weights, differs = part.weights, np.isin(part.rows, images[both.differs])
    assert figure.value is not None
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low < figure.value < figure.high < both.differs.mean()
    assert figure.n >= 40
    assert inside.n < figure.n
    assert measured is not None
    assert measured.values()[1] - measured.values()[0] == pytest.approx(figure.value, abs=0.01)
    assert weights.sum() == pytest.approx(len(images), rel=0.02)  # as many as there are
    assert weights[differs].sum() == pytest.approx(both.differs.sum(), rel=0.03)
    assert (weights[~differs] == weights[~differs][0]).all()


def test_figures_leave_these_labels_out_and_nothing_mines_by_them(catalog: Catalog) -> None:
    """They are the images on which one of the runs must be wrong: as plain labels, both would look worse."""
    with catalog.read() as now:
        tasks, path = [now.task("color")], now.runs.predictions_file(catalog.home, "new")
        before, budget = slice_errors(now, "new", tasks, path), _spread(catalog, now)
    request(catalog, 40)
    answer(catalog, truth_of(catalog))
    with catalog.read() as now:
        assert slice_errors(now, "new", tasks, path).equals(before)
        assert _spread(catalog, now) == budget
        assert not np.isin(now.requests()["sample_id"].to_numpy(), now.training_ids()).any()


def _spread(catalog: Catalog, now: object) -> object:
    candidates = Candidates(now, catalog.home, run="new")  # type: ignore[arg-type]
    return spread(candidates, {"color": 1.0, "car": 0.0, "bike": 0.0, "speed": 0.0, "things": 0.0}, 50, run="new")


def test_labels_drawn_for_other_runs_or_before_a_new_evaluation_do_not_count(catalog: Catalog) -> None:
    request(catalog, 40)
    answer(catalog, truth_of(catalog))
    with catalog.commit(author="ada", message="evaluated again") as change:
        row = change.now.runs().to_pylist()[0]
        change.add_run("new", plan=row["plan"], predictions=row["predictions"], sha256=row["sha256"])
    assert _difference(catalog) is not None
    path = catalog.home / row["predictions"]
    pq.write_table(pq.read_table(path).slice(1), path)
    with catalog.commit(author="ada", message="predicts otherwise") as change:
        change.add_run("new", plan=row["plan"], predictions=row["predictions"], sha256=sha256_of(path))
    assert _difference(catalog) is None


def _difference(catalog: Catalog) -> float | None:
    with catalog.read() as now:
        samples, pair = Samples.at(now), RunPair.open(now, catalog.home, "new", "old")
        figure = pair.difference(now, now.task("color"), samples, np.ones(len(samples.ids), np.bool_))
    return figure.value
