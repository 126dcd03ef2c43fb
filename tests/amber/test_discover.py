"""`amber discover`: a planted slice is named as a predicate that can be declared, and bad input is one line."""

import json
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support.bare_samples import bare_samples
from support.homes import label, labels, work_in
from support.refusals import refused

from amber.cli import run
from amber.findings import slice_findings
from curation.catalog.catalog import Catalog
from curation.catalog.slice_vetting import vet
from curation.catalog.tasks import Task
from curation.images.embeddings import writing
from training.evaluation.predictions import Samples
from training.judging.literals import literals_of
from training.judging.undeclared_slices import undeclared_slices
from training.run_list import newest_run

Capture = pytest.CaptureFixture[str]
IMAGES, DRIVE = 1200, 4
"""All for validation, in drives of four frames."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A foreign model that errs in rain at night, by cars, and else in 5%; "calm" errs in 5% everywhere."""
    folder = tmp_path_factory.mktemp("discovered")
    catalog, generator = Catalog.create(folder / "home"), np.random.default_rng(0)
    keys, drive = [f"fleet/{number:05d}" for number in range(IMAGES)], np.arange(IMAGES) // DRIVE
    rain, night = generator.random(IMAGES) < 0.3, (generator.random(IMAGES) < 0.4)
    truth = generator.random(IMAGES) < 0.5
    with catalog.commit(author="ada", message="fleet") as change:
        change.add_tasks([Task(name="car", kind="binary", owner="ada"), Task(name="night", kind="binary", owner="ada")])
        change.add_samples(bare_samples(keys), dataset="fleet")
        change.add_attributes(
            pa.table(
                {"key": keys, "group": [f"drive-{number}" for number in drive], "split": ["validation"] * IMAGES,
                 "weather": np.where(rain, "heavy 'rain'", "clear").tolist(),
                 "speed": generator.normal(50, 10, IMAGES)}
            )
        )  # fmt: skip
        rows = [label(key, "car", bool(value)) for key, value in zip(keys, truth, strict=True)]
        rows += [label(key, "night", bool(value)) for key, value in zip(keys, night, strict=True)]
        change.add_labels(labels(rows), source="import")
    for name, chance in (("calm", np.full(IMAGES, 0.05)), ("theirs", np.where(rain & night, 0.5, 0.05))):
        said = np.where(generator.random(IMAGES) < chance, ~truth, truth)
        lines = [f"{key},{0.8 if value else 0.2}" for key, value in zip(keys, said, strict=True)]
        (folder / f"{name}.csv").write_text("key,car.true\n" + "\n".join(lines) + "\n")
        words = ["predictions", "import", str(folder / f"{name}.csv"), "--name", name, "--author", "ada"]
        assert run([*words, "--home", str(folder / "home")]) == 0
    with writing(folder / "home", "toy", keys, [("all", 6)]) as vectors:
        vectors[:] = generator.normal(size=(IMAGES, 6))
        vectors[rain & night, 0] += 20
    return folder


@pytest.fixture(autouse=True)
def inside(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_in(made, monkeypatch)


def discovered(capsys: Capture, *words: str) -> list[dict[str, object]]:
    capsys.readouterr()
    assert run(["discover", *words, "--json"]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)["slices"]
    return found


def test_a_planted_slice_is_found_and_can_be_declared_as_it_is_printed(capsys: Capture) -> None:
    (found,) = discovered(capsys)
    assert found["predicate"] == "((attr.weather = 'heavy ''rain''') AND \"label\".night)"
    assert found["task"] == "car"
    assert found["error"]["low"] > found["outside"]["high"]  # type: ignore[index]
    assert run(["discover"]) == 0
    (command,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("1. amber slices add")]
    assert shlex.split(command)[1:] == [
        "amber", "slices", "add", "car_weather_heavy_rain_night", found["predicate"], "--task", "car"
    ]  # fmt: skip
    assert run(["slices", "add", str(found["name"]), str(found["predicate"]), "--task", "car"]) == 0
    again = discovered(capsys)
    assert str(again[0]["name"]) == f"{found['name']}_2"


def test_a_model_that_errs_alike_everywhere_gives_nothing(capsys: Capture) -> None:
    with Catalog.open("home").read() as now:
        calm = now.runs()["run"].to_pylist()[0]
    assert discovered(capsys, calm) == []
    assert run(["discover", calm]) == 0
    assert "surely more than elsewhere" in capsys.readouterr().err


def test_a_cluster_of_embeddings_is_a_suggestion_with_pictures(made: Path, capsys: Capture) -> None:
    found = discovered(capsys, "--embeddings", "toy", "--out", "found.html")
    assert sum(part["predicate"] == "" for part in found) <= 1
    assert found[0]["images"] > 100  # type: ignore[operator]
    assert (made / "found.html").read_text().count("<figure>") == sum(len(part["examples"]) for part in found)  # type: ignore[arg-type]


def test_every_condition_is_sound_and_holds_where_the_slice_says(made: Path) -> None:
    with Catalog.open("home").read() as now:
        samples, file = Samples.at(now), now.runs.predictions_file(made / "home", now.runs()["run"].to_pylist()[-1])
        found = literals_of(now, samples.ids, "car", pq.read_table(file), samples.keys)
        assert {part.text.partition(".")[0].removeprefix("NOT ").strip('"') for part in found} == {
            "attr",
            "label",
            "pred",
        }
        for part in found:
            inside = now.members(vet(part.text, now.frame()), predictions=str(file))
            assert set(samples.ids[part.holds]) == set(inside), part.text


@pytest.mark.parametrize(
    ("words", "value", "fix"),
    [
        (["nine"], "'nine'", "amber runs"),
        (["--task", "night"], "task night", "name one that it predicts"),
        (["--task", "none"], "none", "amber tasks"),
        (["--split", "test"], "groups of test", "name a split"),
        (["--embeddings", "nothing"], "nothing", "amber"),
    ],
)
def test_is_refused_in_one_line(words: list[str], value: str, fix: str, capsys: Capture) -> None:
    line = refused(capsys, "discover", *words)
    assert value in line
    assert fix in line


def test_the_app_gets_the_images_of_each_slice(made: Path) -> None:
    home = made / "home"
    with Catalog.open(home).read() as now:
        run_ = newest_run(home, now)
        found = undeclared_slices(now, home, run_, split="validation", tasks=(), embeddings="", seed=0)
        file = str(now.runs.predictions_file(home, run_))
        (view,) = slice_findings(now, found, predictions=file, split="validation")
        samples, inside = now.samples(), now.members(found[0].predicate, predictions=file)
        keys = samples.filter(pc.is_in(samples["sample_id"], value_set=pa.array(inside)))["key"].to_pylist()
    assert (set(view.keys), len(view.keys), view.bad) == (set(keys), found[0].images, True)
    assert view.keys[: len(found[0].examples)] == found[0].examples
    assert len(view.name) <= 100
    assert view.name.startswith("discovered 1 of car: ")
