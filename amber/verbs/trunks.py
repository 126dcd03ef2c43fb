"""The verb `amber trunks`."""

from typing import TYPE_CHECKING, Any

import click
from rich.console import Group

from amber.extras import need_extra
from amber.terminal import show, table
from amber.verbs.options import size_option, workspace
from training.recipe import TIMM

if TYPE_CHECKING:
    from training.network.trunk_list import Trunk

__all__ = ["trunks_command"]

NAMED = (
    ("efficientnet_lite0", True, "pretrained and frozen: features are computed once"),
    ("efficientnet_lite0", False, 'pretrained, learns from a stage on: learn_from = "block10", or "input"'),
    ("small", False, "trained from scratch"),
)
"""The trunks that come with the extra `train`: name, whether frozen, and what it is."""

OTHERS = (
    ("timm:NAME", 'a model of timm (extra timm), with weights = FILE, "hub" or "random"'),
    ("run:ID", "trained by that run of this workspace, frozen"),
    ("MODULE:FUNCTION", "your own: returns a torch.nn.Module with `stages` and `width`"),
)


@click.command("trunks")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@size_option
@workspace
def trunks_command(names: tuple[str, ...], size: tuple[int, int] | None, home: str, as_json: bool) -> None:
    """List the trunks that a recipe may name, with features, stages and parameters; with NAMEs, stage by stage."""
    need_extra("train")
    if any(name.startswith(TIMM) for name in names):
        need_extra("timm")
    from training.network.trunk_list import trunk_of

    if names:
        found = [trunk_of(name, size) for name in names]
        show([_words(trunk) for trunk in found], as_json, lambda: Group(*map(_by_stage, found)))
        return
    known = [(trunk_of(name, size, frozen=frozen), text) for name, frozen, text in NAMED]
    rows = [[trunk.name, trunk.width, len(trunk.stages) or None, trunk.parameters, text] for trunk, text in known] + [
        [name, None, None, None, text] for name, text in OTHERS
    ]
    columns = ["trunk", "features", "stages", "parameters", "what it is"]
    shown = [{**_words(trunk), "what": text} for trunk, text in known] + [
        {"name": name, "what": text} for name, text in OTHERS
    ]
    show(shown, as_json, lambda: table("Trunks", columns, rows))


def _by_stage(trunk: "Trunk") -> Any:
    height, width = trunk.size
    title = f"{trunk.name}: {trunk.width:,} features, {trunk.parameters:,} parameters, at {height} x {width} pixels"
    rows = [[stage.name, stage.parameters, " x ".join(map(str, stage.output))] for stage in trunk.stages]
    return table(title, ["stage", "parameters", "puts out"], rows)


def _words(trunk: "Trunk") -> dict[str, Any]:
    return {**vars(trunk), "stages": [vars(stage) for stage in trunk.stages]}
