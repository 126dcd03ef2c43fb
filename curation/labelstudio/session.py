"""Session: one workspace's projects on one Label Studio, locked so that one process at a time works there."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.errors import BadInput, NotFound
from curation.files.locks import locked
from curation.labelstudio.client import Json, LabelStudioClient
from curation.labelstudio.item_cache import ItemCache
from curation.labelstudio.label_config import LabelConfig, same_config

__all__ = ["VERSION", "Session", "marked", "open_session", "workspace_id"]

VERSION: Final = "amber"
"""The model version of all our predictions; the server orders its queue by their scores."""


class Session:
    """The server, the item cache, and our projects on the server. `open_session` makes one."""

    def __init__(self, server: LabelStudioClient, cache: ItemCache, workspace: str) -> None:
        self.server = server
        self.cache = cache
        self.workspace = workspace
        self.projects = self._own_projects()

    def refresh(self) -> None:
        """Read the changes on the server into the cache."""
        self.projects = self._own_projects()
        present = {int(project["id"]) for project in self.projects}
        for deleted in {item.project for item in self.cache.items()} - present:
            self.cache.drop_project(deleted)
        for project in list(self.projects):
            try:
                self.cache.refresh(self.server, project)
            except NotFound:  # deleted since it was listed
                self.projects.remove(project)
                self.cache.drop_project(int(project["id"]))

    def forget(self, catalog: Catalog) -> tuple[str, ...]:
        """Delete the items of samples that the catalog lacks, with their annotations; keys of those that it forgot."""
        with catalog.read() as now:
            commit = now.commit
            if self.cache.commit == commit:
                return ()
            known = set(now.samples()["key"].to_pylist())
            strange = [item for item in self.cache.with_deleted() if item.sample not in known]
            forgotten = now.forgotten(pa.array([item.sample for item in strange], pa.string()))
        for item in strange:
            if not item.gone:
                self.server.remove_item(item.item)
            self.cache.erase(item)
        self.cache.commit = commit
        return tuple(forgotten)

    def project(self, page: LabelConfig, settings: Json) -> Json:
        """The project of a labelling page, created if missing; BadInput when its config was changed on the server."""
        if page.hash not in self._by_config():
            names = ", ".join(page.names)
            self.server.make_project(
                {
                    "title": f"Amber: {names}"[:50], "description": marked(self.workspace, page.hash),
                    "label_config": page.xml, "expert_instruction": _html(page.instructions),
                    "show_instruction": True, "sampling": "Uncertainty sampling", "model_version": VERSION,
                    "skip_queue": "REQUEUE_FOR_OTHERS", "enable_empty_annotation": False, **settings,
                }
            )  # fmt: skip
            self.projects = self._own_projects()
        project = self._by_config()[page.hash]
        if not same_config(self.server.config(int(project["id"])), page.xml):
            raise BadInput(
                f"{self.server.url}/projects/{project['id']}: its labelling config was changed there; restore it, or "
                "delete the project and push again"
            )
        return project

    def _own_projects(self) -> list[Json]:
        ours = marked(self.workspace, "")
        return [project for project in self.server.projects() if ours in str(project.get("description") or "")]

    def _by_config(self) -> dict[str, Json]:
        """The project of each labelling page by hash; the older of two (two pushes that never saw each other)."""
        return {_config_hash(project): project for project in reversed(self.projects)}


@contextmanager
def open_session(catalog: Catalog, server: LabelStudioClient, *, patience: float = 60.0) -> Iterator[Session]:
    """Lock the workspace's work on the server; save the item cache when the block ends without an error.

    Busy when another process holds the lock for longer than `patience` seconds.
    """
    with catalog.read() as now:
        log = now.log()
    if not len(log):
        raise BadInput(f"{catalog.home}: the catalog is empty; ingest a data set first")
    name = hashlib.sha256(server.name.encode()).hexdigest()[:12]
    with _locked(catalog.home, patience):
        cache = ItemCache.open(catalog.home / "labeling" / f"{name}.json", server.name)
        yield Session(server, cache, workspace_id(log["digest"][-1].as_py(), str(log["committed_at"][-1].as_py())))
        cache.save()


def workspace_id(digest: str, committed_at: str) -> str:
    """The id of a workspace, from its first commit: it marks the workspace's projects and items."""
    return hashlib.sha256(f"{digest} {committed_at}".encode()).hexdigest()[:12]


def marked(workspace: str, config_hash: str) -> str:
    """The mark in a project's description by which its workspace finds it again."""
    return f"amber:{workspace}:{config_hash}"


@contextmanager
def _locked(home: Path, patience: float) -> Iterator[None]:
    (home / "labeling").mkdir(exist_ok=True)
    busy = "{}: {} pushes or pulls there; wait for it, or end it"
    with locked(home / "labeling" / "lock", lambda holder: busy.format(home, holder), patience=patience):
        yield


def _config_hash(project: Json) -> str:
    return str(project["description"]).rpartition(":")[2].split()[0]


def _html(text: str) -> str:
    """Plain text as HTML, which a project's instructions are."""
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"<p>{part}</p>" for part in safe.replace("\n\n", "\0").replace("\n", "<br>").split("\0"))
