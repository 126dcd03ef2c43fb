"""Verbs of policies and packs: policy check, policy suggest, pack."""

import tomllib
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
from rich.console import Group

from amber.terminal import Screen, plain, show, table
from amber.verbs.identities import identity, token_option
from amber.verbs.options import using_files, workspace
from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from curation.files.locations import is_url
from curation.files.remote_files import RemoteFiles
from curation.files.toml_files import read_toml
from samplers.pack.pack_writer import check_part, finish_pack, packable_samples, write_pack, write_part
from samplers.pack.ray_cluster import map_on_ray, write_on_ray
from samplers.pack.smaller_copies import SmallerCopies, map_in_threads
from samplers.plan.policy_check import notes, problems, suggest
from samplers.plan.policy_text import put_in_force
from samplers.policy.policy import Policy

__all__ = ["pack_command", "policy"]


def _part(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Parse I/N."""
    if value is None:
        return None
    part, slash, parts = value.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal()):
        raise BadInput(f"part {value!r}: must be two numbers as in 2/8; correct it")
    check_part(int(part), int(parts))
    return int(part), int(parts)


def _checked_url(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Check the URL before any work is done."""
    if value is not None:
        if not is_url(value):
            raise BadInput(f"--to {value!r}: must be a URL as in s3://BUCKET/PREFIX; correct it")
        RemoteFiles(value)
    return value


@click.group()
def policy() -> None:
    """What the owners of tasks request from the plan."""


@policy.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@workspace
def check_policy(file: Path, home: str, as_json: bool) -> None:
    """Check whether FILE is a valid policy for this catalog: lists every error, and warns of what may be unintended."""
    data = read_toml(file)
    with Catalog.open(home).read() as now:
        if found := problems(data, now):
            raise BadInput(f"{file}: {'; '.join(found)}; fix the file")
        loaded = Policy.load(file)
        advice = notes(loaded, now)
    rows = [
        [name, part.owner, part.share, part.importance, part.rule, plain(part.boost)]
        for name, part in loaded.task.items()
    ]
    columns = ["task", "owner", "share", "importance", "rule", "boost"]
    sound = table(f"{file}: sound", columns, rows)
    show({**loaded.model_dump(mode="json"), "notes": advice}, as_json, lambda: Group(sound, *advice))


@policy.command("suggest")
@workspace
def suggest_policy(home: str, as_json: bool) -> None:
    """Print a valid first policy for the current labels, as TOML: `amber policy suggest > policy.toml`."""
    with Catalog.open(home).read() as now:
        text = suggest(now)
    show(tomllib.loads(text), as_json, lambda: text)


@policy.command("set")
@click.argument("file", type=click.Path(path_type=Path))
@token_option
@workspace
def set_policy(file: Path, token: str, home: str, as_json: bool) -> None:
    """Put FILE in force: `amber plan` and `amber loop` follow it without --policy. Their plans still need sign-offs."""
    catalog, loaded = Catalog.open(home), Policy.load(file)
    by = identity(catalog.home, token)
    with catalog.commit(author=by.name, message=f"policy in force: {loaded.sha256[:12]}") as change:
        put_in_force(change, loaded, by=by)
    shown = {"policy": loaded.sha256, "by": str(by)}
    show(shown, as_json, lambda: f"policy {loaded.sha256[:12]} is in force (set by {by})")


def _ask_for_copies(home: Path, **asked: int | None) -> None:
    """Store the given settings; later packs of the workspace use them."""
    given = {name: number for name, number in asked.items() if number is not None}
    if given:
        replace(SmallerCopies.load(home), **given).save(home)


@click.command("pack")
@click.option("--verify", is_flag=True, help="Hash every shard and image, and compare.")
@click.option("--part", callback=_part, metavar="I/N", help="Write only the I-th of N parts, on this machine.")
@click.option("--finish", is_flag=True, help="Join the parts into one pack, once all are written.")
@click.option(
    "--ray",
    "address",
    metavar="ADDRESS",
    help='Write, smaller copies too, as tasks of a Ray cluster, or of a "local" one.',
)
@click.option(
    "--max-side",
    type=click.IntRange(min=0),
    metavar="PIXELS",
    help="Pack images whose longer side has more pixels as JPEG with that side, from now on; 0: as they are.",
)
@click.option(
    "--quality",
    type=click.IntRange(0, 100),
    metavar="QUALITY",
    help="Pack all images as JPEG of this quality (1 to 100), from now on; 0: as they are.",
)
@click.option("--to", "url", callback=_checked_url, metavar="URL", help="Then copy the pack there: s3://BUCKET/PREFIX.")
@workspace
@using_files
def pack_command(
    verify: bool, part: tuple[int, int] | None, finish: bool, address: str | None, max_side: int | None,
    quality: int | None, url: str | None, home: str, as_json: bool,
) -> None:  # fmt: skip
    """Write the images of the catalog into WebDataset shards, once."""
    if sum([part is not None, finish, address is not None]) > 1:
        raise BadInput("--part, --finish and --ray: exclude each other; pass one")
    if part is not None and url is not None:
        raise BadInput("--part and --to: a part is not a pack yet; pass --to with --finish")
    catalog, folder, screen = Catalog.open(home), Path(home), Screen(quiet=as_json)
    _ask_for_copies(folder, max_side=max_side, quality=quality)
    with screen.stages():
        first = (part[0] - 1) / part[1] if part else 0.0
        parallel_map = map_in_threads if address is None else map_on_ray(address)
        progress = partial(screen.tell, "reduce")
        samples = packable_samples(catalog, first=first, parallel_map=parallel_map, progress=progress)
        tell = partial(screen.tell, "pack")
        if part is not None:
            write_part(samples, folder, *part, progress=tell)
            show(
                {"part": part[0], "parts": part[1]},
                as_json,
                lambda: f"part {part[0]} of {part[1]} is written; run --finish once all are",
            )
            return
        if finish:
            pack = finish_pack(samples, folder)
        elif address is not None:
            pack = write_on_ray(samples, folder, address, progress=tell)
        else:
            pack = write_pack(samples, folder, progress=tell)
        if verify:
            pack.verify(progress=partial(screen.tell, "verify"))
        if url is not None:
            pack.copy_to(url, progress=partial(screen.tell, "copy"))
    shown = {"pack": pack.hash, "images": len(pack.keys), "shards": len(pack.shards), "url": url}
    at = f", and at {url}" if url else ""
    show(shown, as_json, lambda: f"pack {pack.hash}: {len(pack.keys):,} images in {len(pack.shards):,} shards{at}")
