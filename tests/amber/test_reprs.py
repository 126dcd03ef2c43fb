"""What a notebook shows of the objects of the Python interface: short, escaped, and without what is secret."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.homes import make_home
from support.learned import make_features, planned

from amber.loop import Round
from curation import Catalog, Task
from curation.analysis.coverage import coverage
from curation.catalog.backends.ducklake import DuckLake
from curation.rows import LONGEST_REPR, Rows
from samplers import Pack, Plan, make_pack
from training import Recipe, Run, train
from training.run_list import list_runs

MARKUP = "<script>"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, Plan, Run]:
    """A workspace whose folder, owner and author have names that are markup."""
    catalog = make_features(tmp_path_factory.mktemp(f"{MARKUP}") / ("long" * 60))
    with catalog.commit(author=MARKUP, message=MARKUP) as change:
        change.add_tasks([Task(name="night", kind="binary", owner=MARKUP)])
        change.add_slice("at_night", "label.night", task="night")
    plan = planned(catalog)
    return catalog, plan, train(Recipe.parse({"size": (32, 32)}), plan, catalog)


@pytest.fixture
def shown(trained: tuple[Catalog, Plan, Run]) -> Iterator[dict[str, Any]]:
    catalog, plan, run = trained
    with catalog.read() as now:
        yield {
            "catalog": catalog, "snapshot": now, "plan": plan, "pack": make_pack(catalog), "run": run,
            "coverage": coverage(now), "cells": coverage(now).rows(), "rates": plan.rates(),
            "runs": list_runs(catalog.home, now), "exposure": run.exposure(catalog.home),
        }  # fmt: skip


NAMES = ("catalog", "snapshot", "plan", "pack", "run", "coverage", "cells", "rates", "runs", "exposure")


@pytest.mark.parametrize("name", NAMES)
def test_a_repr_is_short_and_its_html_is_escaped(name: str, shown: dict[str, Any]) -> None:
    assert len(repr(shown[name])) <= LONGEST_REPR
    made = shown[name]._repr_html_()
    assert made.startswith("<table>")
    assert MARKUP not in made


def test_what_a_notebook_shows_of_each(shown: dict[str, Any]) -> None:
    plan, run = shown["plan"], shown["run"]
    assert repr(plan) == f"Plan {plan.hash[:12]}: {len(plan.draws):,} draws for " + ", ".join(
        task.name for task in plan.tasks
    ) + f" at commit {plan.commit}"  # fmt: skip
    assert repr(run) == f"Run {run.id}: trunk {run.recipe.trunk} on plan {plan.hash[:12]} at commit {run.commit}"
    assert repr(shown["pack"]).startswith(f"Pack {shown['pack'].hash[:12]}: 160 images, ")
    for part in ("<td>commit</td>", "<td>samples</td><td>160</td>", "at_night"):
        assert part in shown["catalog"]._repr_html_()
        assert part in shown["snapshot"]._repr_html_()
    assert shown["cells"].to_arrow().column_names[-1] == "unknown"
    assert shown["runs"].to_arrow().num_rows == len(shown["runs"])


def test_a_snapshot_whose_block_has_ended_shows_its_commit(tmp_path: Path) -> None:
    with make_home(tmp_path).read() as now:
        pass
    assert now._repr_html_().startswith(f"<table><caption>Snapshot of commit {now.commit}")


def test_a_catalog_is_shown_at_once_while_it_is_written(tmp_path: Path) -> None:
    catalog = make_home(tmp_path)
    with catalog.commit(author="ada", message="takes long"):
        begun = time.monotonic()
        assert "<caption>Catalog of" in catalog._repr_html_()
        assert time.monotonic() - begun < 5


def test_the_server_of_a_catalog_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "catalog.toml").write_text('url = "postgresql://ada@127.0.0.1:1/lake?data=/data"\n')
    catalog = Catalog(tmp_path)
    assert isinstance(catalog.backend, DuckLake)
    assert "ada@" not in repr(catalog) + catalog._repr_html_()


def test_a_round_of_the_loop_is_short() -> None:
    made = Round(arm="mined", index=1, labels=60, found={}, run="ab" * 8, figures=[{"task": "color"}] * 1000)
    assert repr(made) == f"Round 1 (mined): 60 labels, run {'ab' * 8}"


def test_every_table_is_a_list_of_rows(shown: dict[str, Any]) -> None:
    for name in ("cells", "rates", "runs", "exposure"):
        assert isinstance(shown[name], Rows)
    assert isinstance(shown["pack"], Pack)
