"""The examples in docstrings of files, images and catalog run as they are written."""

import doctest
import importlib
from pathlib import Path

import pytest

from curation import Task

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for room in ("files", "images", "catalog")
    for path in (ROOT / "curation" / room).rglob("*.py")
    if ">>>" in path.read_text()
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str, tmp_path: Path) -> None:
    """`folder` is an empty folder, `Task` the class."""
    given = {"folder": tmp_path, "Task": Task}
    failed, tried = doctest.testmod(importlib.import_module(name), extraglobs=given)
    assert tried
    assert not failed
