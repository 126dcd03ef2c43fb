"""A task that does not apply to every sample: from a CSV over coverage, loss, requests and a real Label Studio to the
report."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from support.label_requests import SIZE, ask, human_labels, items, pushed
from support.lamps import LAMPS
from support.studio import Studio

from amber.tables import coverage_tables
from benchmarks.annotators import Annotator, says_inapplicable
from curation import BadInput, Catalog, Dataset, Task
from curation.analysis.agreement import agreement
from curation.analysis.coverage import Cell, coverage
from curation.catalog.event_tables import LABELS
from curation.catalog.schema import INAPPLICABLE
from curation.ingestion.ingest import ingest
from curation.ingestion.writers import long_table, wide_table
from curation.labelstudio.annotations import encode_answer
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.pull import pull
from curation.labelstudio.session import open_session
from curation.requests.candidates import Candidates
from curation.requests.proposals import Proposal, choose_requests
from samplers import Policy, make_pack
from samplers.plan.build import make_plan
from training.evaluation.evaluation import evaluate
from training.evaluation.features import embed
from training.loop.trainer import train
from training.recipe import Recipe
from training.report import write_report

DECLARATION = """
name = "lamps"
title = "Lamps with a brightness; that of a yellow one is not asked for"
licence = "Apache-2.0"
source = "drawn by the tests"
reader = { kind = "tables", table = [{ file = "lamps.csv", rows = "samples", inapplicable = ["n/a"] }] }
split = { by = "group", test = 0.3, validation = 0.2 }

[[task]]
name = "brightness"
kind = "regression"
unit = "lux"
metric = "mae"
owner = "bob"
applies = "label.color <> 'yellow'"

[[task]]
name = "color"
kind = "categorical"
classes = ["red", "yellow", "green"]
owner = "ada"
"""


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """60 lamps: the color of every second is known, the brightness of a few, and of two that it does not apply."""
    generator = np.random.default_rng(0)
    lines, colors = ["file,color,brightness"], list(LAMPS)
    for number in range(60):
        color, light = colors[number % 3], float(generator.uniform(0.4, 1))
        pixels = np.array(LAMPS[color]) * light + generator.integers(0, 30, (SIZE[1], SIZE[0], 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / f"{number:02d}.jpg", quality=90)
        value = "n/a" if number in (1, 4) else f"{100 * light:.0f}" if number % 4 == 0 and color != "yellow" else ""
        lines.append(f"{number:02d}.jpg,{color if number % 2 else ''},{value}")
    (tmp_path / "lamps.csv").write_text("\n".join(lines))
    (tmp_path / "dataset.toml").write_text(DECLARATION)
    catalog = Catalog.create(tmp_path / "home")
    ingest(catalog, Dataset.load(tmp_path), author="ada")
    return catalog


def cell(catalog: Catalog, split: str) -> Cell:
    with catalog.read() as now:
        cells = coverage(now).cells
    return next(part for part in cells if (part.task, part.slice, part.split) == ("brightness", "", split))


def train_and_evaluate(catalog: Catalog) -> str:
    recipe = Recipe(size=(32, 32), threads=1)
    pack = make_pack(catalog)
    embed(catalog.home, pack, recipe)
    with catalog.read() as now:
        policy = Policy.for_labelled(now)
    run = train(recipe, make_plan(catalog, policy, pack, draws=1280), catalog)
    evaluate(run, catalog, author="ada")
    return run.id


def test_from_the_csv_to_the_report(
    catalog: Catalog, studio: Studio, server: LabelStudioClient, people: dict[str, Annotator], tmp_path: Path
) -> None:
    with catalog.read() as now:
        states = dict(
            zip(*(now.labels("brightness")[name].to_pylist() for name in ("sample_id", "state")), strict=True)
        )
        yellow = set(now.members("label.color = 'yellow'").tolist())
        unlabelled = np.array(sorted(set(now.training_ids().tolist()) - set(states)))
        exported = {row["key"]: row["state.brightness"] for row in wide_table(now).to_pylist()}
    assert [id_ for id_, state in states.items() if state == INAPPLICABLE] == [1, 4]
    assert exported["lamps/01"] == exported["lamps/04"] == "inapplicable"
    # coverage: said by an annotator, or false by the known colors
    counted = sum(cell(catalog, split).inapplicable for split in ("train", "validation", "test"))
    assert counted == len(yellow | {1, 4})
    # loss: the plan holds no label of them
    run = train_and_evaluate(catalog)
    with catalog.read() as now:
        drawn = now.labels.eligible(["brightness"], next(catalog.home.glob("packs/*/index.parquet")))
        candidates = Candidates(now, catalog.home, run=run)
        rows = choose_requests(now, Proposal(budget=500, seed=0, run=run), catalog.home)
    assert not {1, 4} & set(drawn["sample_id"].to_pylist())
    # requests: of no lamp that is known, or predicted, to be yellow
    requested = {row["sample_id"] for row in rows if row["task_id"] == 1}
    predicted = set(candidates.ids[candidates.predicted_inapplicable["brightness"]].tolist())
    assert len(predicted) > 0
    assert requested == set(unlabelled.tolist()) - yellow - predicted
    # Label Studio: the form offers the choice for this task alone, and the answer comes back as the state
    free = int(min(requested))
    ask(catalog, (free, "brightness"), (free, "color"))
    pushed(catalog, server)
    with open_session(catalog, server) as session:
        (project,) = session.projects
    with studio.admin() as admin:
        form = str(admin.get(f"/api/projects/{project['id']}/").json()["label_config"])
    assert form.count('value="does not apply"') == 1
    (item,) = items(catalog, server)
    with catalog.read() as now:
        color, brightness = now.task("color"), now.task("brightness")
    people["ann"].say(item.item, [*encode_answer(color, "red", SIZE), *says_inapplicable(brightness)])
    assert pull(catalog, server).labels == 2
    assert human_labels(catalog, "brightness") == [(free, "ann", INAPPLICABLE, None)]
    # report: counted, and drawn
    evaluate_again = train_and_evaluate(catalog)
    page = write_report(catalog, evaluate_again, tmp_path / "report.html").read_text()
    assert f"{cell(catalog, 'train').inapplicable} inapplicable" in page
    with catalog.read() as now:
        (who,) = [who for who in agreement(now, "brightness").annotators if who.name.startswith("ann")]
        assert (who.labels, who.inapplicable) == (0, 1)
        assert "inapplicable" in long_table(now, tasks=["brightness"])["state"].to_pylist()
        coverage_tables(coverage(now), "train", [])


WRONG = {
    "label.value > 3": "applies reads label.value, which is the task itself",
    "state.value = 'known'": "applies reads state.value, which is the task itself",
    "pred.color.value = 'red'": "read label.color, predicted where unknown",
    "label.colour = 'red'": "did you mean 'color'",
    "label.color = 'blue'": "color has no class 'blue'",
    "label.color": "must be true or false",
}


@pytest.mark.parametrize("applies", WRONG)
def test_a_predicate_that_breaks_a_rule_is_refused_in_one_line(applies: str, tmp_path: Path) -> None:
    color = Task(name="color", kind="categorical", classes=("red", "green"), owner="ada")
    value = Task(name="value", kind="regression", unit="points", metric="mae", owner="ada", applies=applies)
    with Catalog.create(tmp_path / "home").commit(author="ada", message="tasks") as change:
        with pytest.raises(BadInput, match=f"^task value: .*{WRONG[applies]}") as refused:
            change.add_tasks([value, color])
        assert "\n" not in str(refused.value)


def test_a_renamed_class_is_renamed_in_the_predicate(catalog: Catalog) -> None:
    with catalog.commit(author="ada", message="amber") as change:
        color = change.now.task("color")
        new = color.model_copy(update={"classes": ("red", "amber", "green")})
        change.redefine_task(new, {"yellow": "amber"})
    with catalog.read() as now:
        assert "color != 'amber'" in now.task("brightness").applies


VOTES: dict[str, tuple[list[Any], tuple[int, float | None]]] = {
    "most say that it does not apply": (["inapplicable", "inapplicable", 3.0], (INAPPLICABLE, None)),
    "most give a number": (["inapplicable", 3.0, 3.0], (1, 3.0)),
    "nobody has a majority": (["inapplicable", 3.0], (2, None)),
    "one alone": (["inapplicable"], (INAPPLICABLE, None)),
}


@pytest.mark.parametrize("case", VOTES)
def test_several_annotators_resolve_by_majority(case: str, catalog: Catalog) -> None:
    votes, expected = VOTES[case]
    rows = [
        {"key": "lamps/02", "task": "brightness", "annotator": f"p{number}",
         **({"state": vote} if isinstance(vote, str) else {"state": "known", "number": vote})}
        for number, vote in enumerate(votes)
    ]  # fmt: skip
    with catalog.commit(author="ada", message="votes") as change:
        change.add_labels(pa.Table.from_pylist(rows, LABELS), source="human")
    with catalog.read() as now:
        (found,) = [row for row in now.labels("brightness").to_pylist() if row["sample_id"] == 2]
    assert (found["state"], found["number"]) == expected


def test_a_definition_without_the_predicate_is_written_as_before() -> None:
    plain = Task(name="car", kind="binary", owner="ada")
    assert "applies" not in plain.model_dump_json()
    assert Task.model_validate_json(plain.model_copy(update={"applies": "attr.night"}).model_dump_json()).applies
