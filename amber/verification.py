"""Verification of what lies beside the catalog: packs, plans, embeddings and the files of runs."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from curation.catalog.admin.verification import Check
from curation.errors import AmberError, Damaged
from curation.files.read_back import check_archive, read_json, sha256_of
from curation.images.embeddings import Embeddings
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan
from training.dynamics.releases import folder_of, verify_release
from training.imported import Imported
from training.run import Run

__all__ = ["check_run_files", "verify_files"]


def verify_files(home: Path) -> Iterator[Check]:
    """Check the files of a workspace, one kind after the other: each is read as its users read it.

    Shards are left to `amber pack --verify`, which hashes every image.
    """
    yield Check(name="packs", fault=_fault(home, "packs/*/manifest.json", lambda path: _pack(home, path)))
    yield Check(name="plans", fault=_fault(home, "plans/*/plan.json", _plan))
    yield Check(name="embeddings", fault=_fault(home, "embeddings/**/embeddings.json", lambda p: Embeddings(p.parent)))
    yield Check(name="run files", fault=_fault(home, "runs/*/run.json", lambda p: check_run_files(home, p.parent.name)))
    yield Check(name="releases", fault=_fault(home, "releases/*/release.json", lambda path: _release(home, path)))
    yield Check(name="imported runs", fault=_fault(home, "runs/*/imported.json", lambda path: _imported(home, path)))


def check_run_files(home: Path, id_: str) -> None:
    """Damaged where a file of a run is not what was written: its record, its draws, and its weights by their checksums.

    A run without weights passes: they may have been pruned.
    """
    run = Run.open(home, id_)
    folder = home / "runs" / run.id
    run.exposure(home)
    run.replaced(home)
    if (weights := folder / "checkpoints" / "last.pt").exists():
        check_archive(weights, f"train run {run.id} again")
    for report in sorted(folder.glob("withdrawn.json")):
        read_json(report, f"write {json.dumps({'at': 'a date'})} into it", lambda note: str(note["at"]))


def _fault(home: Path, pattern: str, check: Callable[[Path], object]) -> str:
    """The first error of `check` over the files that match."""
    for path in sorted(home.glob(pattern)):
        try:
            check(path)
        except AmberError as error:
            return str(error)
    return ""


def _pack(home: Path, path: Path) -> None:
    _ = Pack.open(home, path.parent.name).index


def _plan(path: Path) -> None:
    if not path.with_name("withdrawn.json").is_file():
        Plan(path.parent).verify()


def _release(home: Path, path: Path) -> None:
    digest = sha256_of(path)
    if folder_of(home, digest) != path.parent:
        raise Damaged(f"{path}: differs from what was written (its sha256 is another); restore it from a backup")
    verify_release(home, digest)


def _imported(home: Path, path: Path) -> None:
    Imported.open(home, path.parent.name).trained(home)
