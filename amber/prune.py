"""`amber prune`: removes plans, packs, shards, features and checkpoints that nothing in the workspace needs.

Needed are: the plan of every run, the newest plan, plans under the policy in force, plans that a sign-off names, and
the parents of all these; the packs of needed plans, those that hold exactly the images of today, and the newest; the
features that a run reads, those by which the latest loop compares images, and imported vectors; the checkpoints of
runs that are not withdrawn. Folders that are links belong to another workspace and are left alone.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from curation.catalog.catalog import Catalog
from curation.errors import Failed
from curation.files.atomic import is_leftover
from curation.files.locks import locked, not_in_use
from curation.files.read_back import read_json
from curation.images.embeddings import is_imported
from samplers.pack.pack import Pack
from samplers.pack.pack_writer import complete_packs, pack_lock
from samplers.pack.shard_jobs import noted_shards
from samplers.plan.plan import Plan
from samplers.policy.policy import Policy
from training.dynamics.lineage import origins_of
from training.dynamics.releases import RELEASE
from training.live_run import NAME
from training.run import Run

__all__ = ["DAY", "Unneeded", "prune", "unneeded"]

DAY: Final = 24 * 3600.0
"""Seconds."""

HEADERS: Final = ("plan.json", "manifest.json", "moved.json", "embeddings.json")
"""Files that make a folder complete. They are removed first, so that a killed prune leaves no half plan or pack."""


@dataclass(frozen=True, kw_only=True)
class Unneeded:
    """One file or folder that can go: its kind, its path in the workspace, its size in bytes, and why."""

    kind: str
    path: str
    bytes: int
    why: str


def prune(catalog: Catalog, *, older: float = DAY, checkpoints: bool = False) -> list[Unneeded]:
    """Remove what `unneeded` lists, and return it.

    Busy while another process, or a stream of this one, uses plans, packs, features or checkpoints of the workspace,
    packs there, retrains, or runs a loop; then nothing is removed. Failed, naming the path, where the disk refuses. A
    killed prune is run again.
    """
    home = catalog.home
    busy = f"{home}: {{}} runs a loop there; wait for it, or end it"
    with ExitStack() as held:
        held.enter_context(not_in_use(home))
        held.enter_context(locked(home / "loop.lock", busy.format))
        retrains = f"{home}: {{}} retrains there; wait for it, or end it"
        held.enter_context(locked(home / "retrain.lock", retrains.format))
        held.enter_context(pack_lock(home))
        found = unneeded(catalog, older=older, checkpoints=checkpoints)
        for part in found:
            _remove(home / part.path)
    return found


def unneeded(catalog: Catalog, *, older: float = DAY, checkpoints: bool = False) -> list[Unneeded]:
    """What nothing needs and has not changed for `older` seconds, largest first; nothing is removed.

    With `checkpoints` also those of finished runs, except the newest run, released runs, the runs of the latest loop,
    and the runs that one of these continues. Damaged for a plan, pack or run that cannot be read: then nothing can be
    called unneeded.
    """
    needs, before = _Needs(catalog, checkpoints), time.time() - older
    found = [part for look in _LOOKS for part in look(needs) if _changed(needs.home / part.path) <= before]
    return sorted(found, key=lambda part: (-part.bytes, part.path))


class _Needs:
    """What a workspace needs, by kind."""

    def __init__(self, catalog: Catalog, drop_checkpoints: bool) -> None:
        self.home, self.drop_checkpoints = catalog.home, drop_checkpoints
        with catalog.read() as now:
            self.registered = now.runs().to_pylist()
            self.policy = now.ownership.policy()
            self.acts = now.ownership.acts().to_pylist()
            samples = now.samples()
            self.keys = {row["key"] for row in samples.select(["key", "excluded"]).to_pylist() if not row["excluded"]}
            self.loop = _runs_of_latest_loop(now.log().to_pylist(), self.registered)
        finished = (path.parent.name for path in _sorted(self.home, "runs/*/run.json"))
        self.runs = {name: Run.open(self.home, name) for name in finished}
        self.withdrawn = {path.parent.name for path in _sorted(self.home, "runs/*/withdrawn.json")}

    @cached_property
    def plans(self) -> dict[str, dict[str, Any]]:
        """The header of every plan by hash."""
        headers = _sorted(self.home, "plans/*/plan.json")
        return {path.parent.name: read_json(path, "remove the folder of the plan", dict[str, Any]) for path in headers}

    @cached_property
    def needed_plans(self) -> set[str]:
        newest = Plan.newest_or_none(self.home)
        needed = {run.plan for run in self.runs.values()} | {row["plan"] for row in self.registered}
        needed |= {plan for run in self.runs.values() for _, plan in run.course}
        needed |= {act[side] for act in self.acts if act["act"] == "sign_off" for side in ("subject", "before")}
        needed |= {newest.hash} if newest else set()
        if self.policy:
            in_force = Policy.model_validate_json(self.policy).sha256
            needed |= {name for name, header in self.plans.items() if _policy_hash(header) == in_force}
        while parents := {parent for name in needed if (parent := _parent(self.plans, name))} - needed:
            needed |= parents
        return needed & self.plans.keys()

    @cached_property
    def packs(self) -> dict[str, Pack]:
        return {pack.hash: pack for pack in complete_packs(self.home)}

    @cached_property
    def needed_packs(self) -> set[str]:
        """Hashes of packs, replaced ones among them."""
        needed = {self.plans[name]["pack"] for name in self.needed_plans if not self._is_withdrawn(name)}
        while successors := {to for name in needed if (to := _successor(self.home, name))} - needed:
            needed |= successors
        needed |= {name for name, pack in self.packs.items() if self._holds_today(pack)}
        manifests = [self.home / "packs" / name / "manifest.json" for name in self.packs]
        return needed | {path.parent.name for path in sorted(manifests, key=_changed)[-1:]}

    @cached_property
    def needed_features(self) -> set[str]:
        kept = {run.recipe.embeddings for name, run in self.runs.items() if name not in self.withdrawn}
        compared = (run.recipe.features(name) for name, run in self.runs.items() if name in self.loop - self.withdrawn)
        return kept | {recipe.embeddings for recipe in compared if recipe}

    @cached_property
    def needed_checkpoints(self) -> set[str]:
        """Runs that are not withdrawn; where checkpoints are dropped, only those that are still continued."""
        all_ = self.runs.keys() - self.withdrawn
        if not self.drop_checkpoints:
            return set(all_)
        deployed = {act["subject"] for act in self.acts if act["act"] == RELEASE}
        needed = (self.loop | deployed | {row["run"] for row in self.registered[-1:]}) & all_
        while origins := {name for run in needed for name in origins_of(self.home, self.runs[run])} & all_ - needed:
            needed |= origins
        return needed

    def _is_withdrawn(self, plan: str) -> bool:
        return (self.home / "plans" / plan / "withdrawn.json").is_file()

    def _holds_today(self, pack: Pack) -> bool:
        return pack.images == len(self.keys) and set(pack.keys.to_pylist()) == self.keys


def _plans(needs: _Needs) -> Iterator[Unneeded]:
    for name in _folders(needs.home / "plans"):
        if name not in needs.plans:
            yield _part(needs.home, "plan", f"plans/{name}", "was never finished")
        elif name not in needs.needed_plans:
            yield _part(needs.home, "plan", f"plans/{name}", "no run, sign-off or policy in force refers to it")


def _packs(needs: _Needs) -> Iterator[Unneeded]:
    for name in _folders(needs.home / "packs"):
        if name not in needs.needed_packs:
            why = "no plan that is kept uses it" if name in needs.packs else "was replaced, or never finished"
            yield _part(needs.home, "pack", f"packs/{name}", why)


def _shards(needs: _Needs) -> Iterator[Unneeded]:
    if (needs.home / "shards").is_symlink():
        return
    gone = {Path(part.path).name for part in _packs(needs)}
    kept = {shard.name for name, pack in needs.packs.items() if name not in gone for shard in pack.shards}
    kept |= noted_shards(needs.home)
    for path in _sorted(needs.home, "shards/*"):
        if path.name not in kept:
            yield _part(needs.home, "shard", f"shards/{path.name}", "no pack that is kept holds it")


def _features(needs: _Needs) -> Iterator[Unneeded]:
    for name in _folders(needs.home / "embeddings"):
        if not (needs.home / "embeddings" / name / "embeddings.json").is_file():
            yield _part(needs.home, "features", f"embeddings/{name}", "were never finished")
        elif name not in needs.needed_features and not is_imported(needs.home, name):
            yield _part(needs.home, "features", f"embeddings/{name}", "no run that is kept reads them")


def _checkpoints(needs: _Needs) -> Iterator[Unneeded]:
    for path in _sorted(needs.home, "runs/*/checkpoints"):
        if (run := path.parent.name) not in needs.needed_checkpoints:
            why = (
                "its run is withdrawn" if run in needs.withdrawn
                else "its run was never finished" if run not in needs.runs
                else "neither the newest run, a release nor the latest loop needs it"
            )  # fmt: skip
            yield _part(needs.home, "checkpoint", f"runs/{run}/checkpoints", why)


def _live_notes(needs: _Needs) -> Iterator[Unneeded]:
    for path in _sorted(needs.home, f"runs/*/{NAME}"):
        if path.parent.name not in needs.runs:
            yield _part(needs.home, "note", f"runs/{path.parent.name}/{NAME}", "its run was never finished")


def _leftovers(needs: _Needs) -> Iterator[Unneeded]:
    for path in _sorted(needs.home, "**/*.part"):
        if is_leftover(path):
            yield _part(needs.home, "leftover", str(path.relative_to(needs.home)), "its process was killed")


_LOOKS: Final[tuple[Callable[[_Needs], Iterable[Unneeded]], ...]] = (
    _plans, _packs, _shards, _features, _checkpoints, _live_notes, _leftovers,
)  # fmt: skip


def _sorted(home: Path, pattern: str) -> list[Path]:
    return sorted(home.glob(pattern))


def _folders(parent: Path) -> list[str]:
    """Names of the folders in `parent`, unless that is a link; without hidden and temporary ones."""
    if parent.is_symlink() or not parent.is_dir():
        return []
    return sorted(p.name for p in parent.iterdir() if p.is_dir() and not p.name.startswith(".") and p.suffix != ".part")


def _part(home: Path, kind: str, path: str, why: str) -> Unneeded:
    at = home / path
    size = sum(file.lstat().st_size for file in (at, *at.rglob("*")) if file.is_file())
    return Unneeded(kind=kind, path=path, bytes=size, why=why)


def _changed(path: Path) -> float:
    """The time of the last change of a file, or of any file in a folder, in seconds since 1970."""
    return max((file.lstat().st_mtime for file in (path, *path.rglob("*"))), default=0.0)


def _policy_hash(header: dict[str, Any]) -> str:
    return Policy.model_validate(header["policy"]).sha256


def _parent(plans: dict[str, dict[str, Any]], name: str) -> str:
    parent = plans.get(name, {}).get("parent")
    return str(parent["plan"]) if parent else ""


def _successor(home: Path, pack: str) -> str:
    path = home / "packs" / pack / "moved.json"
    return read_json(path, "pack again", lambda found: str(found["to"])) if path.is_file() else ""


def _runs_of_latest_loop(log: list[dict[str, Any]], registered: list[dict[str, Any]]) -> set[str]:
    """Runs that the loop of the newest `loop:` commit registered."""
    loops = {row["id"]: row["batch"].split(":")[1] for row in log if row["batch"].startswith("loop:")}
    latest = loops[max(loops)] if loops else ""
    return {row["run"] for row in registered if latest and loops.get(row["commit_id"]) == latest}


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            for name in HEADERS:
                (path / name).unlink(missing_ok=True)
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise Failed(f"{path}: not removed ({error.strerror}); fix its permissions, then run the same again") from error
