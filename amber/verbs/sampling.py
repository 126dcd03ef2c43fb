"""Verbs of what is asked for, and of the images: policy, pack."""

import tomllib
from pathlib import Path

import click
from rich.console import Group

from amber.options import workspace
from amber.screen import Screen, plain, show, table
from curation.dataset import read_toml
from curation.errors import BadInput
from curation.ledger.catalog import Catalog
from samplers.check import notes, problems, suggest
from samplers.pack import make_pack
from samplers.policy import Policy

__all__ = ["pack_command", "policy"]


@click.group()
def policy() -> None:
    """What the owners of tasks ask for."""


@policy.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@workspace
def check_policy(file: Path, home: str, as_json: bool) -> None:
    """Say whether FILE is a sound policy for this catalog: everything that is wrong, and what may not be meant."""
    data = read_toml(file)
    with Catalog.open(home).read() as now:
        if found := problems(data, now):
            raise BadInput(f"{file}: {'; '.join(found)}; mend the file")
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
    """Print a sound first policy, as TOML, from what is known: `amber policy suggest > policy.toml`."""
    with Catalog.open(home).read() as now:
        text = suggest(now)
    show(tomllib.loads(text), as_json, lambda: text)


@click.command("pack")
@click.option("--verify", is_flag=True, help="Hash every shard and image again.")
@workspace
def pack_command(verify: bool, home: str, as_json: bool) -> None:
    """Write the images of the catalog into WebDataset shards, once."""
    screen = Screen(quiet=as_json)
    with screen.stages():
        pack = make_pack(Catalog.open(home), progress=lambda done, total: screen.tell("pack", done, total))
        if verify:
            pack.verify(progress=lambda done, total: screen.tell("verify", done, total))
    shown = {"pack": pack.hash, "images": len(pack.keys), "shards": len(pack.shards)}
    show(shown, as_json, lambda: f"pack {pack.hash}: {len(pack.keys):,} images in {len(pack.shards):,} shards")
