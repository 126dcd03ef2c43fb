"""Remove one image from every pack and plan of a workspace. Packs and plans are otherwise immutable.

The image's shard is rewritten without it under a new name, and so is each pack over that shard. The old pack leaves a
`moved.json` that names its successor, so plans that never used the image still work. Plans that used it are marked as
withdrawn and lose their tables. Every step is idempotent: after a crash, run it again.
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

from curation.files.atomic import whole
from curation.files.read_back import read_parquet
from samplers.pack.pack import Pack
from samplers.pack.pack_writer import complete_packs, pack_lock, write_pack_index
from samplers.pack.smaller_copies import forget_copies
from samplers.shards import tar

__all__ = ["Forgotten", "forget_image"]

MovedShards = dict[str, tuple[str, dict[int, int]]]
"""For each rewritten shard, the name of the new shard and the new offset of each old image offset."""


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """Hashes of the packs that held the image and were replaced, and of all plans that are now withdrawn."""

    packs: tuple[str, ...]
    plans: tuple[str, ...]


def forget_image(home: Path, key: str) -> Forgotten:
    """Remove the image `key` from all shards, packs and plans of `home`. Busy while another process packs there."""
    plans = tuple(_withdraw_plans(home, key))
    with pack_lock(home):
        packs = [pack for pack in complete_packs(home) if pc.index(pack.keys, key).as_py() >= 0]
        moves: MovedShards = {}
        for pack in packs:
            _replace_pack(pack, key, moves)
        kept = {shard.name for pack in complete_packs(home) for shard in pack.shards}
        for name in moves.keys() - kept:
            (home / "shards" / name).unlink(missing_ok=True)
        forget_copies(home, key)
    return Forgotten(packs=tuple(pack.hash for pack in packs), plans=plans)


AGAIN = "remove the folder of the plan"


def _withdraw_plans(home: Path, key: str) -> Iterator[str]:
    """Mark the plans that used the image as withdrawn, and remove their tables, which name it."""
    for header in sorted((home / "plans").glob("*/plan.json")):
        folder = header.parent
        samples = folder / "samples.parquet"
        if samples.is_file() and pc.index(read_parquet(samples, AGAIN, columns=["key"])["key"], key).as_py() >= 0:
            with whole(folder / "withdrawn.json") as part:
                part.write_text(json.dumps({"at": datetime.now(UTC).isoformat(timespec="seconds")}))
        if (folder / "withdrawn.json").is_file():
            for table in folder.glob("*.parquet"):
                table.unlink()
            yield folder.name


def _replace_pack(pack: Pack, key: str, moves: MovedShards) -> None:
    """Write the successor of `pack`, then remove `pack`."""
    row = int(pack.rows([key])[0])
    old = pack.shards[int(pack.shard[row])].name
    if old not in moves:
        moves[old] = _without(pack.home / "shards" / old, key)
    new, new_offsets = moves[old]
    names = pa.array([new if shard.name == old else shard.name for shard in pack.shards], pa.string())
    moved = np.asarray(pack.shard == pack.shard[row])
    offsets = [
        new_offsets.get(at, -1) if here else at for at, here in zip(pack.offset.tolist(), moved.tolist(), strict=True)
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
    """Write the shard without the image's members; its new name, and the new offset of each old offset."""
    new_offsets: dict[int, int] = {}
    content, stem, end = hashlib.sha256(), tar.member_name(key), 0
    part = shard.with_name(f"{shard.name}.forget")
    with shard.open("rb") as source, part.open("wb") as target, tarfile.open(shard, "r:") as members:
        for member in members:
            if member.name.partition(".")[0] == stem:
                continue
            source.seek(member.offset)
            data = source.read(member.offset_data - member.offset + tar.padded(member.size))
            new_offsets[member.offset_data] = end + member.offset_data - member.offset
            content.update(data)
            end += target.write(data)
        content.update(tar.END)
        target.write(tar.END)
    name = f"{content.hexdigest()}.tar"
    part.replace(shard.with_name(name))
    return name, new_offsets
