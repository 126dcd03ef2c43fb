"""The work behind the pages of runs: what is made in the background, streams of events, and one release at a time."""

import shutil
import threading
from collections.abc import Hashable
from pathlib import Path
from tempfile import mkdtemp
from typing import Annotated, Any, Final, cast
from weakref import finalize

from fastapi import Depends, Request

from amber.service.access import Workspace
from amber.service.facts.releasing import Releasing
from amber.service.made import Asked, Made, Maker
from amber.service.streams import Streams
from curation.catalog.catalog import Catalog
from training.report.run_results import registered_run

__all__ = ["RunWork", "Works"]

REPORTS: Final = 8
"""Reports that are kept: the newest."""


class RunWork:
    """The work of one service: `made` values, `streams`, and `releasing`; `close` ends it all.

    Reports lie in a temporary folder of the service. What was made before an image was forgotten is dropped.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.made, self.streams = Made(), Streams()
        self.releasing = Releasing(workspace.catalog)
        self._made_folder: Path | None = None
        self._lock = threading.Lock()
        self._seen = self._forgotten()

    @property
    def catalog(self) -> Catalog:
        return self._workspace.catalog

    @property
    def _folder(self) -> Path:
        """The folder of reports, which goes with this object."""
        with self._lock:
            if self._made_folder is None:
                self._made_folder = Path(mkdtemp(prefix="amber-reports-"))
                finalize(self, shutil.rmtree, self._made_folder, True)
            return self._made_folder

    def ask(self, key: Hashable, maker: Maker, *, patience: float | None = None) -> Asked:
        """As `Made.ask`."""
        self._drop_forgotten()
        return self.made.ask(key, maker) if patience is None else self.made.ask(key, maker, patience=patience)

    def take(self, key: Hashable, maker: Maker) -> Any:
        """As `Made.take`."""
        self._drop_forgotten()
        return self.made.take(key, maker)

    def report(self, run: str) -> tuple[Hashable, Maker]:
        """The key and the maker of the report of a run, by the whole id: a file in the temporary folder.

        NotFound when the run was not evaluated.
        """
        catalog = self.catalog
        with catalog.read() as now:
            entry, commit = registered_run(now, run), now.commit
        name = f"{entry['run']}-{commit}.html"

        def make(tell: Any) -> Path:
            from amber.loop import rounds_of
            from training.report.page import write_report

            with catalog.read() as now:
                rounds = [vars(step) for step in rounds_of(now, entry["run"])]
            path = write_report(catalog, entry["run"], self._folder / name, rounds=rounds, progress=tell)
            for old in sorted(self._folder.glob("*.html"), key=lambda file: file.stat().st_mtime)[:-REPORTS]:
                old.unlink(missing_ok=True)
            return path

        found = self.made.known(("report", name))
        if found and found.ready and found.value and not found.value.is_file():
            self.made.drop(("report", name))  # newer reports have taken its place
        return ("report", name), make

    def close(self) -> None:
        """End the threads, and remove the reports."""
        self.made.close()
        self.releasing.close()
        if self._made_folder is not None:
            shutil.rmtree(self._made_folder, ignore_errors=True)

    def _drop_forgotten(self) -> None:
        if (stamp := self._forgotten()) != self._seen:
            self._seen = stamp
            self.made.clear()
            for path in self._folder.glob("*.html"):
                path.unlink(missing_ok=True)

    def _forgotten(self) -> tuple[int, int]:
        try:
            facts = (self.catalog.home / "service.forgotten").stat()
        except OSError:
            return 0, 0
        return facts.st_mtime_ns, facts.st_ino


async def _of_app(request: Request) -> RunWork:
    return cast(RunWork, request.app.state.work)


Works = Annotated[RunWork, Depends(_of_app)]
"""The work of the app that answers."""
