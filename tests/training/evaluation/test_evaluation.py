"""Evaluation of a real run: its predictions follow the decision rule that the task has now."""

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from support.homes import make_home

from curation import Task
from samplers import Policy, make_pack, make_plan
from training import Recipe, evaluate, train


def test_an_owner_changes_the_rule_of_a_finished_run(tmp_path: Path) -> None:
    """Evaluating it again needs no other plan and no other training; probabilities stay unchanged."""
    catalog = make_home(tmp_path, samples=120)
    with catalog.read() as now:
        plan = make_plan(catalog, Policy.for_labelled(now), make_pack(catalog), draws=256)
    run = train(Recipe.of("small", size=(32, 48), global_batch=32, hidden=4, augment=False, threads=1), plan, catalog)
    evaluate(run, catalog, author="ada")
    path = catalog.home / "runs" / run.id / "predictions.parquet"
    before = pq.read_table(path)
    with catalog.commit(author="ada", message="decide") as change:
        color = change.now.task("color").model_dump()
        change.redefine_task(Task.model_validate({**color, "decide": {"yellow": 1e-9}}))
    evaluate(run, catalog, author="ada")
    after = pq.read_table(path)
    colors = [table.filter(pc.equal(table["task"], "color")) for table in (before, after)]
    assert set(colors[1]["code"].to_pylist()) == {1} != set(colors[0]["code"].to_pylist())
    assert np.array_equal(*(np.array(table["probabilities"].to_pylist()) for table in colors))
    with catalog.read() as now:
        assert len(now.runs()) == 2
        again = make_plan(catalog, Policy.for_labelled(now), make_pack(catalog), draws=256)
    assert [task.task for task in again.tasks] == [task.task for task in plan.tasks]
