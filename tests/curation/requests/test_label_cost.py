"""What a label costs: people's time for each label that they gave, and the cost of requests."""

from pathlib import Path

from support.homes import make_home
from support.label_requests import answer, ask

from curation.requests.label_cost import LabelCost, label_cost


def test_all_the_time_of_people_counts_for_the_labels_that_came_of_it(tmp_path: Path) -> None:
    catalog = make_home(tmp_path, samples=8)
    with catalog.read() as now:
        assert label_cost(now, "car") == LabelCost(seconds=None, timed=0, cost=1.0)
    ask(catalog, (1, "car"), (2, "car"), (3, "car"))
    answers = [(1, "ann", "known", 4.0), (1, "bob", "known", 6.0), (2, "ann", "skipped", 2.0),
               (3, "ann", "known", 8.0), (4, "ann", "gold_right", 90.0), (5, "bob", "known", 0.0)]  # fmt: skip
    answer(catalog, *((each[0], "car", *each[1:], page) for page, each in enumerate(answers)))
    with catalog.commit(author="ada", message="answered") as change:
        requests = change.now.requests("open")
        change.close_requests(requests["request_id"].to_pylist(), state="answered")
    with catalog.read() as now:
        assert label_cost(now, "car") == LabelCost(seconds=10.0, timed=2, cost=2.0)
        assert label_cost(now, "bike") == LabelCost(seconds=None, timed=0, cost=1.0)


def test_a_page_of_several_tasks_divides_its_seconds(tmp_path: Path) -> None:
    catalog = make_home(tmp_path, samples=8)
    answer(catalog, (1, "car", "ann", "known", 6.0, 0), (1, "color", "ann", "unsure", 6.0, 0),
           (2, "color", "ann", "known", 2.0, 1))  # fmt: skip
    with catalog.read() as now:
        assert label_cost(now, "car").seconds == 3.0
        assert label_cost(now, "color").seconds == 5.0
