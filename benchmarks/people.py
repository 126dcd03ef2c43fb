"""The demo's loop with people: real traffic lights, a real Label Studio, and a scripted annotator who errs on 5% of the
requests and cannot tell 10%. Each seed is a fresh workspace, and the loop also runs with the oracle.
"""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from amber.loop import Loop, Round, run_loop
from amber.service.images.signed_urls import SERVICE, url_for
from amber.wait_for_labels import ask_people
from benchmarks.annotators import Annotator, Scripted, invite, working
from benchmarks.labels import AUTHOR, embed_once, fresh
from benchmarks.table import Row, finish, small
from curation.catalog.catalog import Catalog
from curation.catalog.schema import KNOWN
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.local_server import Local, start, stop
from curation.labelstudio.push import Asking
from training.recipe import Recipe

__all__ = ["people"]

SEEDS = int(os.environ.get("SEEDS", "1" if small() else "5"))
TASK, RARE, ROUNDS = "light_color", "yellow", 3
ERROR, UNSURE = 0.05, 0.10


@dataclass(frozen=True, kw_only=True)
class Gone:
    """Results of a seed: the rounds with people and with the oracle, the number of labels by people, how many of them
    name annotator, time and item, and the shares that are wrong or unsure."""

    asked: list[Round]
    oracle: list[Round]
    labels: int
    traced: int
    wrong: float
    unsure: float

    @property
    def same(self) -> bool:
        """Whether both had the same number of rounds, with the same number of labels in each."""
        return [step.labels for step in self.asked] == [step.labels for step in self.oracle]


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        local = start(home / "studio")
        try:
            finish("people", people(home, local))
        finally:
            stop(home / "studio")


def people(home: Path, local: Local) -> list[Row]:
    """The figures, measured in the folder `home` with the Label Studio `local`."""
    embed_once(home)
    annotator = invite(local, "scripted")
    gone = [_go(home, local, annotator, seed) for seed in range(SEEDS)]
    recalls = {
        name: [getattr(seed, name)[-1].figure(TASK, RARE)["value"] for seed in gone] for name in ("asked", "oracle")
    }
    recall, traced, labels = float(np.mean(recalls["asked"])), sum(g.traced for g in gone), sum(g.labels for g in gone)
    bought = gone[0].asked[-1].labels
    return [
        Row(what=f"loops of {len(gone)} with the rounds that the oracle has", value=sum(seed.same for seed in gone),
            asked="all", met=all(seed.same for seed in gone)),
        Row(what=f"{RARE} recall on test at {bought} labels, mean of {len(gone)} seeds", value=recall,
            asked="at least 0.8", met=recall >= 0.8,
            peers={"worst": min(recalls["asked"]), "with the oracle": float(np.mean(recalls["oracle"]))}),
        Row(what="labels whose annotator, time and item the catalog holds", value=traced / labels, asked="all",
            met=traced == labels, peers={"labels": labels}),
        Row(what="of people's labels wrong", value=float(np.mean([seed.wrong for seed in gone])), asked=f"{ERROR}"),
        Row(what="of people's labels unsure", value=float(np.mean([seed.unsure for seed in gone])), asked=f"{UNSURE}"),
    ]  # fmt: skip


def _go(home: Path, local: Local, annotator: Annotator, seed: int) -> Gone:
    """One seed, first with the oracle, then with people, each in its own workspace."""
    features = home / "features" / "embeddings"
    loop = Loop(rounds=ROUNDS, seed=seed, recipe=Recipe.of("efficientnet_lite0", seed=seed, threads=1))
    oracle = list(run_loop(fresh(home / f"{seed}-oracle", RARE, seed, features), loop, author=AUTHOR))
    catalog = fresh(home / f"{seed}-people", RARE, seed, features)
    truth = {row["key"]: row["text"] for row in pq.read_table(catalog.home / "oracle.parquet").to_pylist()}
    with catalog.read() as now:
        says = Scripted(now.tasks(), lambda key, task: truth[key], error=ERROR, unsure=UNSURE, seed=seed)
    place = url_for(catalog.home, SERVICE, seconds=3_600)
    with LabelStudioClient(local.url, local.token) as server, working(catalog, local, [(annotator, says)]):

        def answer(batch: str) -> None:
            ask_people(catalog, server, Asking(), batch, url_for=place, every=1)

        asked = list(run_loop(catalog, loop, author=AUTHOR, answer=answer))
    return Gone(asked=asked, oracle=oracle, **_given(catalog, annotator.email, truth))


def _given(catalog: Catalog, email: str, truth: Mapping[str, str]) -> dict[str, Any]:
    """The figures of `Gone` about people's labels in the catalog."""
    with catalog.read() as now:
        keys = dict(zip(now.samples()["sample_id"].to_pylist(), now.samples()["key"].to_pylist(), strict=True))
        classes = now.task(TASK).classes
        given = [row for row in now.labels.by_annotator(TASK).to_pylist() if row["source"] == "human"]
        answers = {row["sample_id"]: row for row in now.requests.answers().to_pylist()}
    traced = [row for row in given if _traced(row, answers.get(row["sample_id"]), email)]
    known = [row for row in given if row["state"] == KNOWN]
    wrong = [row for row in known if classes[row["code"]] != truth[keys[row["sample_id"]]]]
    return {"labels": len(given), "traced": len(traced), "wrong": len(wrong) / len(given),
            "unsure": 1 - len(known) / len(given)}  # fmt: skip


def _traced(label: Mapping[str, Any], answer: Mapping[str, Any] | None, email: str) -> bool:
    """Whether a label has its annotator and time, and the catalog has its Label Studio item."""
    return (
        answer is not None
        and label["annotator"] == answer["annotator"] == email
        and label["labelled_at"] == answer["answered_at"]
        and answer["item"] > 0
    )


if __name__ == "__main__":
    main()
