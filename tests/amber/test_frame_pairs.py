"""Frame pairs round a real Label Studio: people see both frames, and what they answer makes the next run better."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from support.frames import GROUPS, LONG, make_frames
from support.label_requests import URL
from support.networks import trained

from benchmarks.annotators import Annotator, Results, Scripted
from curation import Catalog
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.pull import pull
from curation.labelstudio.push import Asking, push
from curation.requests.proposals import Proposal, propose
from training import Run, evaluate

LABELLED, BUDGET = 15, GROUPS * LONG // 2 - 15


def learned(catalog: Catalog) -> tuple[Run, float]:
    """A run of solved heads on both frames, and its error of `change` on test."""
    run = trained(catalog, heads="exact")
    rows = evaluate(run, catalog, author="ada").to_pylist()
    mine = [row for row in rows if (row["task"], row["slice"], row["split"]) == ("change", "", "test")]
    return run, float(mine[0]["value"])


def changes(catalog: Catalog) -> dict[str, float]:
    """The known change of each frame, by key."""
    with catalog.read() as now:
        samples, labels = now.samples(), now.labels("change")
    keys = samples["key"].take(pc.index_in(labels["sample_id"], value_set=samples["sample_id"].combine_chunks()))
    return dict(zip(keys.to_pylist(), labels["number"].to_pylist(), strict=True))


@pytest.mark.usefixtures("studio")
def test_round_label_studio_two_frames_get_better(
    tmp_path: Path, server: LabelStudioClient, people: dict[str, Annotator]
) -> None:
    for name in ("whole", "part"):
        (tmp_path / name).mkdir()
    truth = changes(make_frames(tmp_path / "whole"))
    catalog = make_frames(tmp_path / "part", labelled=LABELLED)
    run, before = learned(catalog)
    propose(catalog, Proposal(budget=BUDGET, seed=0, run=run.id, importance={"change": 1}), author="ada", batch="mine")
    made, shown = push(catalog, server, Asking(), url_for=URL), dict[str, str]()
    with catalog.read() as now:
        answers = Scripted(now.tasks(), lambda key, task: truth[key], error=0.0, unsure=0.0)

    def says(item: dict[str, Any]) -> Results:
        shown[item["meta"]["amber"]["sample"]] = item["data"]["before"]
        return answers(item)

    people["ann"].work(int(made.projects[0].rpartition("/")[2]), says)
    assert pull(catalog, server).labels == BUDGET == len(shown)
    for key, text in shown.items():
        frame = int(key[-1])
        assert f"{key[:-1]}{frame - 1}.jpg" in text if frame else "no frame before" in text
    _, after = learned(catalog)
    constant = float(np.mean([abs(value) for key, value in truth.items() if int(key[7:9]) % 4 == 3]))
    assert after < before
    assert after < 0.7 * constant
