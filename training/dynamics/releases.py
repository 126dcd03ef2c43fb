"""Releases of a workspace: which run is deployed, what was decided about it, and the way back.

A release is an act in the catalog, bound to a record by its sha256. The record lies in `releases/<digest>/release.json`
and holds the sha256 of every file beside it: the gate's report, the lineage, the model card and the exported network.
Nothing in it changes later. `releases/current.json` is the pointer that a deployment reads; it follows from the acts.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from curation.catalog.commit import PendingCommit
from curation.catalog.ownership import Identity
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput, Damaged
from curation.files.atomic import whole
from curation.files.read_back import check_sha256, read_json, sha256_of
from curation.rows import tabled

__all__ = [
    "BACK", "EXPORT", "LETTERS", "LOCK", "RECORD", "RELEASE", "Release", "ReleaseRecord", "champion", "files_of",
    "folder_of", "record_act", "releases", "stack_of", "verify_release", "write_pointer",
]  # fmt: skip

RELEASE: Final = "release"
BACK: Final = "release_back"
"""Acts: `subject` is the run that is deployed from then on, `before` the one that was until then ("" for none), and
`policy` the sha256 of the record of the release."""

FORMAT: Final = 1
RECORD: Final = "release.json"
POINTER: Final = "current.json"
EXPORT: Final = "export"
LOCK: Final = "releases.lock"
LETTERS: Final = 16
"""Letters of the digest that name a folder."""
AGAIN: Final = "restore it from a backup, or release another run"


@dataclass(frozen=True, kw_only=True)
class ReleaseRecord:
    """What was released, and by what it was decided.

    `number` counts the releases of a workspace. `run` was trained on `plan` with the labels of `commit`, and judged
    against the run `against` ("" for floors alone), which was the champion `before` it if there was one. The gate used
    the rules and the evaluation set with these digests. `accepted` are the owners who signed for tasks that the gate
    did not judge. `files` holds the sha256 of every other file of the release, by its path.
    """

    number: int
    run: str
    plan: str
    commit: int
    before: str
    against: str
    rules_sha256: str
    evaluation_set: str
    accepted: tuple[str, ...]
    files: dict[str, str]

    @property
    def text(self) -> str:
        """The record as it is written."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, sort_keys=True)

    @property
    def digest(self) -> str:
        """The sha256 of the record, by which an act names it."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Release:
    """One act of releasing, or of going back: what it deployed, when and by whom, and the digest of the record."""

    act: str
    run: str
    before: str
    digest: str
    commit: int
    at: datetime
    by: Identity

    @property
    def is_back(self) -> bool:
        """Whether it returned to an earlier release."""
        return self.act == BACK


@tabled(Release)
def releases(now: Snapshot) -> list[Release]:
    """Every release and every return to one, oldest first."""
    acts = [row for row in now.ownership.acts().to_pylist() if row["act"] in (RELEASE, BACK)]
    commits = now.log.of(row["commit_id"] for row in acts)
    return [
        Release(
            act=row["act"], run=row["subject"], before=row["before"], digest=row["policy"], commit=row["commit_id"],
            at=commits[row["commit_id"]]["committed_at"], by=Identity(name=row["member"], via=row["via"]),
        )
        for row in acts
    ]  # fmt: skip


def stack_of(history: Iterable[Release]) -> list[Release]:
    """The releases that are deployed or that one can go back to, the deployed one last; `history` is oldest first.

    A release is put on top; going back takes off everything above the one that it returned to.
    """
    found: list[Release] = []
    for each in history:
        if each.is_back:
            while found and found[-1].digest != each.digest:
                found.pop()
        else:
            found.append(each)
    return found


def champion(now: Snapshot) -> str:
    """The run that is deployed; "" while nothing was released."""
    history = releases(now)
    return history[-1].run if history else ""


def folder_of(home: Path, digest: str) -> Path:
    """The folder of the release whose record has this digest."""
    return home / "releases" / digest[:LETTERS]


def files_of(folder: Path) -> dict[str, str]:
    """The sha256 of every file in a folder, by its path there."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths}


def verify_release(home: Path, digest: str) -> ReleaseRecord:
    """The record of a release, after a check of every file; Damaged, naming the first that is not what was written."""
    folder = folder_of(home, digest)
    path = check_sha256(folder / RECORD, digest, AGAIN)
    record = read_json(path, AGAIN, _of)
    for name, sha256 in record.files.items():
        check_sha256(folder / name, sha256, AGAIN)
    return record


def _of(data: dict[str, Any]) -> ReleaseRecord:
    if (found := data.pop("format", None)) != FORMAT:
        raise ValueError(f"its format is {found!r}, this Amber knows {FORMAT}")
    return ReleaseRecord(**{**data, "accepted": tuple(data["accepted"])})


def record_act(change: PendingCommit, act: str, *, run: str, before: str, digest: str, by: Identity) -> None:
    """Record in a commit that `run` is deployed from now on; BadInput where another run than `before` is deployed."""
    found = champion(change.now)
    if found != before:
        raise BadInput(f"release of {run}: run {found or 'none'} is deployed now, not {before or 'none'}; run it again")
    change.record_release(act, run=run, before=before, record=digest, by=by)


def write_pointer(home: Path, now: Snapshot) -> dict[str, Any] | None:
    """Write `releases/current.json` for what the acts say is deployed, and return what it holds; None for nothing.

    The file has the run, the release (the digest of its record, and its number), the commit and time of the act, the
    path of the exported network from the workspace, the sha256 of its description, and that of every file of it.
    """
    history = releases(now)
    if not history:
        return None
    newest = history[-1]
    record = read_json(folder_of(home, newest.digest) / RECORD, AGAIN, _of)
    words = _pointer(home, newest, record)
    path = home / "releases" / POINTER
    if not path.is_file() or path.read_text(encoding="utf-8") != _text(words):
        with whole(path) as part:
            part.write_text(_text(words), encoding="utf-8")
    return words


def _pointer(home: Path, newest: Release, record: ReleaseRecord) -> dict[str, Any]:
    prefix = f"{EXPORT}/"
    files = {name.removeprefix(prefix): sha for name, sha in record.files.items() if name.startswith(prefix)}
    if "model.json" not in files:
        raise Damaged(f"{folder_of(home, newest.digest) / RECORD}: names no exported network; {AGAIN}")
    return {
        "format": FORMAT, "run": newest.run, "release": newest.digest, "number": record.number,
        "commit": newest.commit, "at": newest.at.isoformat(timespec="seconds"), "by": str(newest.by),
        "path": (folder_of(home, newest.digest) / EXPORT).relative_to(home).as_posix(),
        "digest": files["model.json"], "files": files,
    }  # fmt: skip


def _text(words: Mapping[str, Any]) -> str:
    return json.dumps(words, indent=1) + "\n"
