"""The oracle answers each open request whose label a data set holds back, and nothing else reads these labels."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.homes import label, labels, make_home
from support.sources import declared, draw

from curation import BadInput, Catalog
from curation.catalog.held_back_labels import fault_in_held_back, forget_held_back, hold_back
from curation.ingestion.ingest import ingest
from curation.requests.oracle import answer
from curation.requests.proposals import Proposal, propose

TASKS = [
    {"name": "color", "kind": "categorical", "classes": ["red", "green"], "owner": "ada"},
    {"name": "bright", "kind": "binary", "owner": "bob"},
]


def ingest_held_back(catalog: Catalog, folder: Path, name: str, column: str, cells: tuple[str, str]) -> None:
    """Ingest a table that holds back one task of the two images in `folder`."""
    (folder / f"{name}.csv").write_text(f"key,path,{column}\np/a,a.jpg,{cells[0]}\np/b,b.jpg,{cells[1]}\n")
    table = {"file": f"{name}.csv", "rows": "samples"}
    reader = {"kind": "tables", "held_back": True, "images": "images", "table": [table]}
    tasks = [task for task in TASKS if task["name"] == column]
    split = {"by": "group", "test": 0.0, "validation": 0.0}
    ingest(catalog, declared(folder, reader, name=name, task=tasks, split=split), author="ada")


def held(home: Path) -> set[tuple[str, str, str]]:
    rows = pq.read_table(home / "oracle.parquet").to_pylist()
    return {(row["key"], row["task"], row["text"]) for row in rows}


def test_two_data_sets_hold_back_two_tasks_of_the_same_samples(tmp_path: Path) -> None:
    draw(tmp_path, ["a.jpg", "b.jpg"])
    catalog = Catalog.create(tmp_path / "home")
    ingest_held_back(catalog, tmp_path, "a", "color", ("red", "green"))
    ingest_held_back(catalog, tmp_path, "b", "bright", ("true", "false"))
    color, bright = {("p/a", "color", "red"), ("p/b", "color", "green")}, {("p/a", "bright", "true")}
    assert held(catalog.home) == color | bright | {("p/b", "bright", "false")}
    ingest_held_back(catalog, tmp_path, "a", "color", ("green", "green"))
    corrected = {("p/a", "color", "green"), ("p/b", "color", "green")}
    assert held(catalog.home) == corrected | bright | {("p/b", "bright", "false")}
    propose(catalog, Proposal(budget=4, seed=0, random_share=1.0), author="ada", batch="ask")
    assert answer(catalog, batch="answer") == 4


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return make_home(tmp_path, samples=40)


def request_cars(catalog: Catalog, budget: int) -> list[str]:
    """Request labels of `car`; returns the keys."""
    proposal = Proposal(budget=budget, seed=0, random_share=1.0, importance={"car": 1.0})
    propose(catalog, proposal, author="ada", batch="ask")
    with catalog.read() as now:
        return now.requests("open")["key"].to_pylist()


def test_the_oracle_answers_requests_whose_label_is_held_back(catalog: Catalog) -> None:
    keys = request_cars(catalog, 10)
    known = [label(key, "car", True) for key in keys[:7]]
    hold_back(catalog.home, labels([*known, label("pictures/00000", "bike", True)]))
    assert answer(catalog, batch="a") == 7
    assert answer(catalog, batch="a") == 0
    with catalog.read() as now:
        assert len(now.requests("answered")) == 7
        assert len(now.requests("open")) == 3
        sources = [row["source"] for row in now.labels("car").to_pylist()]
    assert sources.count("oracle") == 7


def test_the_first_of_two_held_back_labels_is_the_answer(catalog: Catalog) -> None:
    (key,) = request_cars(catalog, 1)
    hold_back(catalog.home, labels([label(key, "car", True, "eve"), label(key, "car", False, "bob")]))
    assert answer(catalog, batch="a") == 1
    with catalog.read() as now:
        (row,) = [row for row in now.labels("car").to_pylist() if row["source"] == "oracle"]
    assert row["code"] == 1


def test_without_held_back_labels_there_is_no_oracle(catalog: Catalog) -> None:
    with pytest.raises(BadInput, match="no data set here holds labels back"):
        answer(catalog, batch="a")


def test_a_label_replaces_the_stored_one_of_its_sample_and_task_only(tmp_path: Path) -> None:
    boxes = [{"class": "light", "x": 2.0, "y": 2.0, "w": 5.0, "h": 8.0}]
    first = [label("a", "car", True), label("a", "bike", True), label("b", "car", True), label("b", "things", boxes)]
    hold_back(tmp_path, labels(first))
    hold_back(tmp_path, labels([label("a", "car", False), label("c", "bike", True)]))
    stored = pq.read_table(tmp_path / "oracle.parquet")
    assert stored == labels([*first[1:], label("a", "car", False), label("c", "bike", True)])
    forget_held_back(tmp_path, "a")
    assert pq.read_table(tmp_path / "oracle.parquet")["key"].to_pylist() == ["b", "b", "c"]
    assert fault_in_held_back(tmp_path, ["b", "c"]) == ""
    assert "'c', which is not a sample" in fault_in_held_back(tmp_path, ["b"])


def test_only_the_oracle_and_simulations_touch_the_file() -> None:
    root = Path(__file__).parents[3]
    packages = [root / name for name in ("curation", "samplers", "training", "amber")]
    users = [path for package in packages for path in package.rglob("*.py") if "oracle.parquet" in path.read_text()]
    copies = ["backup.py"]  # copies its bytes, and reads no label
    simulations = ["replayed_data.py", "simulate.py"]
    assert sorted(path.name for path in users) == [*copies, "held_back_labels.py", "oracle.py", *simulations]
