"""Taking one image out of every pack and plan of a workspace: the one exception to their being immutable.

The shard that holds it is written anew under another name, and so is each pack over that shard; the old pack leaves a
`moved.json` that says which pack stands for it, so that plans which never used the image go on. Plans that used it lose
their tables and are marked as withdrawn. Every step may be repeated: killed half-way, it is run again.
"""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.files.atomic import whole
from samplers.pack.pack import Pack
from samplers.pack.pack_writer import complete_packs, pack_lock, write_pack_index
from samplers.pack.smaller_copies import forget_copies
from samplers.shards import tar

__all__ = ["Forgotten", "forget_image"]

MovedShards = dict[str, tuple[str, dict[int, int]]]
"""Of each shard that was written anew, the name of the new one and where the bytes at an old offset lie in it."""


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What held the image: the packs that were replaced, and the plans that are withdrawn by now (hashes)."""

    packs: tuple[str, ...]
    plans: tuple[str, ...]


def forget_image(home: Path, key: str) -> Forgotten:
    """Remove the image of `key` from all shards, packs and plans of `home`. Busy while another process packs there."""
    plans = tuple(_withdraw_plans(home, key))
    with pack_lock(home):
        packs = [pack for pack in complete_packs(home) if pc.index(pack.keys, key).as_py() >= 0]
        moves: MovedShards = {}
        for pack in packs:
            _replace(pack, key, moves)
        kept = {shard.name for pack in complete_packs(home) for shard in pack.shards}
        for name in moves.keys() - kept:
            (home / "shards" / name).unlink(missing_ok=True)
        forget_copies(home, key)
    return Forgotten(packs=tuple(pack.hash for pack in packs), plans=plans)


def _withdraw_plans(home: Path, key: str) -> Iterator[str]:
    """Mark the plans that used the image, and remove their tables, which name it."""
    for header in sorted((home / "plans").glob("*/plan.json")):
        folder = header.parent
        samples = folder / "samples.parquet"
        if samples.is_file() and pc.index(pq.read_table(samples, columns=["key"])["key"], key).as_py() >= 0:
            with whole(folder / "withdrawn.json") as part:
                part.write_text(json.dumps({"at": datetime.now(UTC).isoformat(timespec="seconds")}))
        if (folder / "withdrawn.json").is_file():
            for table in folder.glob("*.parquet"):
                table.unlink()
            yield folder.name


def _replace(pack: Pack, key: str, moves: MovedShards) -> None:
    """Write the pack that stands for `pack` from now on, and then take `pack` away."""
    row = int(pack.rows([key])[0])
    old = pack.shards[int(pack.shard[row])].name
    if old not in moves:
        moves[old] = _without(pack.home / "shards" / old, key)
    new, places = moves[old]
    names = pa.array([new if shard.name == old else shard.name for shard in pack.shards], pa.string())
    moved = np.asarray(pack.shard == pack.shard[row])
    offsets = [
        places.get(at, -1) if here else at for at, here in zip(pack.offset.tolist(), moved.tolist(), strict=True)
    ]
    index = pack.index.set_column(1, "shard", names.take(pack.index["shard"]))
    index = index.set_column(2, "offset", pa.array(offsets, pa.int64()))
    index = index.filter(pc.not_equal(index["key"], key))
    folder = pack.home / "packs" / pack.hash
    with whole(folder / "moved.json") as part:
        part.write_text(json.dumps({"to": write_pack_index(index, pack.home).hash if len(index) else ""}))
    for name in ("manifest.json", "index.parquet"):
        with suppress(FileNotFoundError):
            (folder / name).unlink()


def _without(shard: Path, key: str) -> tuple[str, dict[int, int]]:
    """Write the shard without the image's members; its new name, and the new offset of each old one."""
    places: dict[int, int] = {}
    content, stem, end = hashlib.sha256(), tar.member_name(key), 0
    part = shard.with_name(f"{shard.name}.forget")
    with shard.open("rb") as source, part.open("wb") as target, tarfile.open(shard, "r:") as members:
        for member in members:
            if member.name.partition(".")[0] == stem:
                continue
            source.seek(member.offset)
            data = source.read(member.offset_data - member.offset + tar.padded(member.size))
            places[member.offset_data] = end + member.offset_data - member.offset
            content.update(data)
            end += target.write(data)
        content.update(tar.END)
        target.write(tar.END)
    name = f"{content.hexdigest()}.tar"
    part.replace(shard.with_name(name))
    return name, places
