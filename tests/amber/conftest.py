"""A workspace in the current folder, for tests of the command line."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from support.chains import Chain, make_chain
from support.homes import copy_home, work_in
from support.lamps import ingested
from support.learned import make_features


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


@pytest.fixture(scope="session")
def made_chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """A chain of four trainings, to read and not to change."""
    return make_chain(make_features(tmp_path_factory.mktemp("chain"), samples=120))


@pytest.fixture
def chain(made_chain: Chain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Chain:
    """The same chain, from an empty folder, as the workspace of verbs."""
    work_in(tmp_path, monkeypatch)
    monkeypatch.setenv("AMBER_HOME", str(made_chain.catalog.home))
    monkeypatch.setenv("COLUMNS", "200")
    return made_chain


@pytest.fixture
def own_chain(chain: Chain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Chain:
    """A copy of it in `home`, which a test may change."""
    catalog = copy_home(chain.catalog, tmp_path)
    monkeypatch.setenv("AMBER_HOME", "home")
    return replace(chain, catalog=catalog)
