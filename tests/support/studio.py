"""A real Label Studio for the tests."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.annotators import Annotator, invite
from curation.labelstudio.client import LabelStudioClient
from curation.labelstudio.local_server import ENVIRONMENT, Local, start, stop

__all__ = ["Studio", "installed", "serving"]

ROOT = Path(__file__).parents[2]


class Studio:
    """A running server."""

    def __init__(self, local: Local) -> None:
        self.local = local

    def server(self, **options: Any) -> LabelStudioClient:
        """A client with the owner's token."""
        return LabelStudioClient(self.local.url, self.local.token, **options)

    def admin(self) -> httpx.Client:
        """The bare API."""
        return httpx.Client(base_url=self.local.url, headers={"Authorization": f"Token {self.local.token}"}, timeout=60)

    def person(self, name: str) -> Annotator:
        """An annotator who signed up by invitation."""
        return invite(self.local, name)


@contextmanager
def installed() -> Iterator[None]:
    """Point to the installed Label Studio within the block. Without it tests are skipped; on CI they fail."""
    environment = Path(os.environ.get(ENVIRONMENT) or ROOT / ".venv-label-studio")
    if not (environment / "bin" / "label-studio").exists():
        missing = "Label Studio is not installed; `make .venv-label-studio/ready` installs it"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ENVIRONMENT, str(environment))
        yield


@contextmanager
def serving(folder: Path) -> Iterator[Studio]:
    """A server on a free port."""
    with installed():
        try:
            yield Studio(start(folder))
        finally:
            stop(folder)
            shutil.rmtree(folder, ignore_errors=True)
