"""Servers that several test files share, each started by the first test that needs it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings
from support.postgres import Server, serving
from support.studio import Studio
from support.studio import serving as serving_studio

from amber.plugin.environment import offer_plugin
from benchmarks.annotators import Annotator
from curation.fiftyone_app.mongod import fiftyone, prepare_database
from curation.labelstudio.client import LabelStudioClient

settings.register_profile(
    "amber",
    deadline=None,  # machines are shared: how long an example takes says nothing
    derandomize="CI" in os.environ,  # a change is judged by what it does; new examples are searched for elsewhere
)
settings.load_profile("amber")

# A shell starts background jobs with SIGINT ignored, and children inherit that; a handler of Python's is not inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    # not in pytest's folder: that one is closed to the user whom the server runs as
    with TemporaryDirectory(prefix="amber-postgres-") as folder, serving(Path(folder)) as server:
        yield server


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """FiftyOne with a mongod of its own, which ends with the tests, and with our plugin."""
    before, home = dict(os.environ), tmp_path_factory.mktemp("browse")
    prepare_database(home)
    offer_plugin(home, service="")
    yield fiftyone()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with serving_studio(tmp_path_factory.mktemp("studio")) as running:
        yield running


@pytest.fixture
def server(studio: Studio) -> Iterator[LabelStudioClient]:
    with studio.server() as server:
        yield server


@pytest.fixture(scope="session")
def people(studio: Studio) -> Iterator[dict[str, Annotator]]:
    """Three who have signed up."""
    known = {name: studio.person(name) for name in ("ann", "bob", "cem")}
    yield known
    for person in known.values():
        person.api.close()


@pytest.fixture(scope="module", params=["file", "lake"])
def lake(request: pytest.FixtureRequest) -> Server | None:
    """The server when the test is to run on DuckLake, None when on one DuckDB file."""
    return request.getfixturevalue("postgres") if request.param == "lake" else None
