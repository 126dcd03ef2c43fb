"""What several test files stand on: a PostgreSQL server, started when the first test asks for it."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from postgres import Server, serving


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    # not in pytest's folder: that one is closed to the user whom the server runs as
    with TemporaryDirectory(prefix="amber-postgres-") as folder, serving(Path(folder)) as server:
        yield server


@pytest.fixture(scope="module", params=["file", "lake"])
def lake(request: pytest.FixtureRequest) -> "Server | None":
    """The server when the test is to run on DuckLake, None when on one DuckDB file."""
    return request.getfixturevalue("postgres") if request.param == "lake" else None
