"""The desk: one workspace's projects on one Label Studio, and the lock that lets one process at a time work there."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from curation.catalog.catalog import Catalog
from curation.errors import BadInput, NotFound
from curation.files.locks import locked
from curation.labelstudio.client import Json, LabelStudioClient
from curation.labelstudio.item_cache import ItemCache
from curation.labelstudio.label_config import Form, same_config

__all__ = ["VERSION", "Session", "marked", "open_session", "workspace_id"]

VERSION: Final = "amber"
"""The model version of all our predictions: by their scores the server orders its queue."""


class Session:
    """What `open_session` gives: the server, the mirror, and the projects of ours that are there."""

    def __init__(self, server: LabelStudioClient, mirror: ItemCache, workspace: str) -> None:
        self.server = server
        self.mirror = mirror
        self.workspace = workspace
        self.projects = self._found()

    def refresh(self) -> None:
        """Read what changed on the server."""
        self.projects = self._found()
        there = {int(project["id"]) for project in self.projects}
        for gone in {item.project for item in self.mirror.items()} - there:
            self.mirror.forget(gone)
        for project in list(self.projects):
            try:
                self.mirror.refresh(self.server, project)
            except NotFound:  # deleted since it was listed
                self.projects.remove(project)
                self.mirror.forget(int(project["id"]))

    def forget(self, catalog: Catalog) -> None:
        """Delete the items of samples that the catalog has forgotten, with what people said of them."""
        with catalog.read() as now:
            commit = now.commit
            if self.mirror.commit == commit:
                return
            known = set(now.samples()["key"].to_pylist())
        for item in [item for item in self.mirror.everything() if item.sample not in known]:
            if not item.gone:
                self.server.remove_item(item.item)
            self.mirror.erase(item)
        self.mirror.commit = commit

    def project(self, form: Form, settings: Json) -> Json:
        """The project of a form, made unless it is there. BadInput when its config was changed on the server."""
        if form.hash not in self._by_form():
            names = ", ".join(form.names)
            self.server.make_project(
                {
                    "title": f"Amber: {names}"[:50], "description": marked(self.workspace, form.hash),
                    "label_config": form.config, "expert_instruction": _html(form.instructions),
                    "show_instruction": True, "sampling": "Uncertainty sampling", "model_version": VERSION,
                    "skip_queue": "REQUEUE_FOR_OTHERS", "enable_empty_annotation": False, **settings,
                }
            )  # fmt: skip
            self.projects = self._found()
        project = self._by_form()[form.hash]
        if not same_config(self.server.config(int(project["id"])), form.config):
            raise BadInput(
                f"{self.server.url}/projects/{project['id']}: its labelling config was changed there; put it back, or "
                "delete the project and push again"
            )
        return project

    def _found(self) -> list[Json]:
        ours = marked(self.workspace, "")
        return [project for project in self.server.projects() if ours in str(project.get("description") or "")]

    def _by_form(self) -> dict[str, Json]:
        """The project of each form; of two (two pushes that never saw each other) the older."""
        return {_form(project): project for project in reversed(self.projects)}


@contextmanager
def open_session(catalog: Catalog, server: LabelStudioClient, *, patience: float = 60.0) -> Iterator[Session]:
    """The desk of a workspace, for this process alone; the mirror is written down when the block ends well.

    Busy when another process does not let go in time.
    """
    with catalog.read() as now:
        log = now.log()
    if not len(log):
        raise BadInput(f"{catalog.home}: the catalog is empty; ingest a data set first")
    name = hashlib.sha256(server.name.encode()).hexdigest()[:12]
    with _turn(catalog.home, patience):
        mirror = ItemCache.open(catalog.home / "labeling" / f"{name}.json", server.name)
        yield Session(server, mirror, workspace_id(log["digest"][-1].as_py(), str(log["committed_at"][-1].as_py())))
        mirror.save()


def workspace_id(digest: str, committed_at: str) -> str:
    """What tells a workspace's items from another's: its first commit."""
    return hashlib.sha256(f"{digest} {committed_at}".encode()).hexdigest()[:12]


def marked(workspace: str, form: str) -> str:
    """The word of a project's description by which it is found again."""
    return f"amber:{workspace}:{form}"


@contextmanager
def _turn(home: Path, patience: float) -> Iterator[None]:
    (home / "labeling").mkdir(exist_ok=True)
    busy = "{}: {} pushes or pulls there; wait for it, or end it"
    with locked(home / "labeling" / "lock", lambda holder: busy.format(home, holder), patience=patience):
        yield


def _form(project: Json) -> str:
    return str(project["description"]).rpartition(":")[2].split()[0]


def _html(text: str) -> str:
    """Text as a project's instructions show it, which take HTML."""
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"<p>{part}</p>" for part in safe.replace("\n\n", "\0").replace("\n", "<br>").split("\0"))
