"""The examples in docstrings of samplers run as written, over a small catalog and a plan of 100 draws for one task."""

import doctest
import importlib
from pathlib import Path
from typing import Any

import pytest
from support.homes import make_home

import samplers
from samplers import Policy, make_pack, make_plan

ROOT = Path(samplers.__file__).parents[1]
NAMES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "samplers").rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.fixture
def names(tmp_path: Path) -> dict[str, Any]:
    """The names that examples may use besides those of their module."""
    catalog = make_home(tmp_path)
    section = {"owner": "ada", "share": 1, "importance": 1}
    policy = Policy.model_validate({"task": {"color": section}})
    plan = make_plan(catalog, policy, make_pack(catalog), draws=100)
    return {"catalog": catalog, "plan": plan, "make_pack": make_pack}


@pytest.mark.parametrize("name", NAMES)
def test_examples_run(name: str, names: dict[str, Any]) -> None:
    done = doctest.testmod(importlib.import_module(name), extraglobs=names)
    assert done.attempted > 0
    assert done.failed == 0
