"""Boxes in comparisons and gates: sums by group give COCO figures, of exchanged groups too; imports reach the gate."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.homes import label, labels, make_home

from amber.cli import run
from curation.catalog.catalog import Catalog
from curation.catalog.tasks import Task
from training.evaluation.box_matching import Boxes
from training.evaluation.box_sums import BoxSums
from training.evaluation.labelled_boxes import LabelledBoxes
from training.evaluation.predictions import Samples
from training.foreign.imports import import_predictions
from training.judging.box_measures import BoxMeasure
from training.judging.paired_runs import PairedBoxes

THINGS = Task(name="things", kind="detection", classes=("light", "sign"), owner="ada")
IMAGES = 12
LIGHT = {"class": "light", "x": 4.0, "y": 4.0, "w": 8.0, "h": 10.0}


def boxes(images: Any, codes: Any, corners: Any, scores: Any) -> Boxes:
    return Boxes(
        images=np.asarray(images, np.int64), codes=np.asarray(codes, np.int64), corners=np.reshape(corners, (-1, 4)),
        scores=np.asarray(scores, np.float64), crowd=np.zeros(len(images), np.bool_),
    )  # fmt: skip


def random_runs(seed: int) -> tuple[Boxes, list[Boxes]]:
    """Known boxes of 12 images, and those of two runs that find some of them, more or less exactly, and others.

    No two scores are alike: sums rank boxes of one score together, the metric by their images.
    """
    generator = np.random.default_rng(seed)
    images = np.sort(generator.integers(0, IMAGES, 20))
    codes, corners = generator.integers(0, 2, 20), generator.uniform(5, 30, (20, 4))
    codes[:2] = [0, 1]
    runs = []
    for _ in range(2):
        shift = generator.normal(0, 2, (20, 4))
        extra = generator.uniform(5, 30, (8, 4))
        runs.append(
            boxes(
                np.r_[images, generator.integers(0, IMAGES, 8)], np.r_[codes, generator.integers(0, 2, 8)],
                np.r_[np.maximum(corners + shift, 1), extra], generator.random(28),
            )
        )  # fmt: skip
    return boxes(images, codes, corners, np.ones(20)), runs


def paired(known: Boxes, runs: list[Boxes], groups: Any, weights: Any) -> PairedBoxes:
    ids = np.arange(IMAGES)
    samples = Samples(
        ids=ids, keys=pa.array([str(each) for each in ids]), splits=np.full(IMAGES, "test", object), groups=groups,
        weights=weights,
    )  # fmt: skip
    first, second = (
        LabelledBoxes(
            rows=ids,
            weights=weights,
            sums=BoxSums.of(part, known, weights, groups),
            samples=samples,
            known=known,
            predicted=part,
        )
        for part in runs
    )
    return PairedBoxes(task=THINGS, first=first, second=second)


@pytest.mark.parametrize("name", ["map", "ap50"])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_sums_of_exchanged_groups_are_those_of_exchanged_boxes(name: str, seed: int) -> None:
    known, runs = random_runs(seed)
    generator = np.random.default_rng(seed)
    groups, weights = np.arange(IMAGES) // 3, generator.integers(1, 3, IMAGES).astype(np.float64)
    measure = BoxMeasure.of(THINGS, name)
    sums = measure.sums(paired(known, runs, groups, weights))
    assert sums is not None
    exchanged = generator.integers(0, 2, 4)
    mixed = []
    for mine, other in ((0, 1), (1, 0)):
        kept = exchanged[groups[runs[mine].images]] == 0
        taken = exchanged[groups[runs[other].images]] == 1
        parts = {key: [vars(runs[mine])[key][kept], vars(runs[other])[key][taken]] for key in vars(known)}
        mixed.append(Boxes(**{key: np.concatenate(both) for key, both in parts.items()}))
    again = measure.sums(paired(known, mixed, groups, weights))
    assert again is not None
    total = sums.first + (sums.second - sums.first) * exchanged[sums.groups][:, None]
    assert sums.value(np.asarray(total.sum(axis=0))[None, :])[0] == pytest.approx(again.values()[0], abs=1e-9)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 pictures with a light each, for test; a detector that finds all, and one that misses what is dark."""
    folder = tmp_path_factory.mktemp("boxes")
    catalog: Catalog = make_home(folder, samples=160)
    with catalog.commit(author="ada", message="boxes") as change:
        samples = change.now.samples()
        keys = samples["key"].to_pylist()
        change.add_attributes(pa.table({"key": keys, "split": ["test"] * len(keys)}))
        change.add_labels(labels([label(key, "things", [LIGHT]) for key in keys]), source="human")
        night = dict(
            zip(*(change.now.attribute("night")[name].to_pylist() for name in ("sample_id", "value")), strict=True)
        )
        dark = [night[sample] for sample in samples["sample_id"].to_pylist()]
    for name, misses in (("bright", False), ("blind", True)):
        rows = [
            {"key": key, **(LIGHT | {"score": 0.9 - n / 1000} if not (misses and is_dark) else {})}
            for n, (key, is_dark) in enumerate(zip(keys, dark, strict=True))
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
        import_predictions(catalog, folder / f"{name}.parquet", name=name, author="bo", task="things")
    return catalog.home


def test_a_detector_passes_the_gate_or_is_blocked(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AMBER_AUTHOR", "ada")
    with Catalog.open(home).read() as now:
        bright, blind = now.runs()["run"].to_pylist()
    assert run(["compare", bright, blind, "--home", str(home), "--json"]) == 0
    figures = {row["slice"]: row for row in json.loads(capsys.readouterr().out)["figures"]}
    assert (figures[""]["measure"], figures[""]["first"]) == ("map", pytest.approx(1.0))
    assert figures["night"]["verdict"] == "worse"
    Path("gate.toml").write_text('[[judge]]\ntask = "things"\nslices = ["everything", "night"]\nmargin = "3 points"\n')
    assert run(["gate", blind, "--against", bright, "--gate", "gate.toml", "--home", str(home), "--json"]) == 10
    view = json.loads(capsys.readouterr().out)
    assert {row["slice"]: row["outcome"] for row in view["figures"]}["night"] == "block"
    assert view["beside"][blind] == "trained on: unknown"
    Path("gate.toml").write_text('[[judge]]\ntask = "things"\nmetric = "ap50"\nmargin = "30 points"\n')
    assert run(["gate", bright, "--against", blind, "--gate", "gate.toml", "--home", str(home)]) == 0
    Path("gate.toml").write_text('[[judge]]\ntask = "things"\nmetric = "f1:light"\nmargin = "3 points"\n')
    assert run(["gate", blind, "--against", bright, "--gate", "gate.toml", "--home", str(home)]) == 2
    assert "a detection task has map and ap50" in capsys.readouterr().err
