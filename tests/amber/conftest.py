"""A workspace in the current folder, for tests of the command line."""

import shutil
from pathlib import Path

import pytest
from support.homes import work_in
from support.lamps import ingested


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set (`data`) and a workspace that contains it (`home`), to copy and not to change."""
    folder = tmp_path_factory.mktemp("template")
    ingested(folder)
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a copy of the workspace and a link to the data set."""
    shutil.copytree(template / "home", tmp_path / "home")
    (tmp_path / "data").symlink_to(template / "data")
    work_in(tmp_path, monkeypatch)
    return tmp_path
