"""Frame pairs in a network: an image and the frame before it as one tensor, and the layer that joins what both give.

A pair of images is [B, 7, H, W]: the image, the frame before it, and a plane of ones where there is one; of features,
[B, 2 D + 1]: both vectors and the flag. So a pair moves, is cut and is put together like any other input. What the
network takes from a missing frame is 0.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from curation.errors import BadInput
from samplers.plan.plan import PlanTask
from samplers.streaming.batches import Batch
from training.tree import TRUNK, Node, Tree

__all__ = [
    "BOX_PAIRS", "SHIFTS", "Joined", "Pair", "PairBranch", "as_pair", "both_frames", "flagged", "matches",
    "moved_along", "paired_tasks", "split_nodes", "split_pair",
]  # fmt: skip

PAIRS = "pairs"
"""The name of the branch that tasks of two frames have of their own, and the end of the names of such branches."""

BOX_PAIRS = "boxes_pairs"
"""The name of the branch whose maps tasks of boxes of two frames read. No other task reads it: the gradients of boxes
are the larger ones (docs/log.md)."""

REACH = 4
"""The farthest shift, in cells of a map, by which two frames are compared."""

SHIFTS = tuple(
    [(0, right) for right in range(-REACH, REACH + 1)] + [(down, 0) for down in range(-REACH, REACH + 1) if down]
)
"""Places of the frame before that a cell is compared with, down and to the right of it, in cells."""


SHARPNESS = 20.0
"""What the softmax that finds the motion of the whole picture begins with: a shift that matches by a tenth of a perfect
match more has 7 times the weight."""


class Pair(NamedTuple):
    """What a network reads of two frames: `now`, `before` (0 where there is none) and the `flag` [B, 1, ...]."""

    now: Tensor
    before: Tensor
    flag: Tensor


def paired_tasks(tasks: Sequence[PlanTask]) -> frozenset[int]:
    """The codes of the tasks that read two frames."""
    return frozenset(t for t, task in enumerate(tasks) if task.task.inputs == 2)


def split_pair(inputs: Tensor) -> Pair:
    """The parts of a pair of images [B, 7, H, W] or of features [B, 2 D + 1], each laid out as an input of its own."""
    width = inputs.shape[1] // 2
    parts = (inputs[:, :width], inputs[:, width : 2 * width], inputs[:, 2 * width :])
    layout = torch.channels_last if inputs.dim() == 4 else torch.contiguous_format
    return Pair(*(part.contiguous(memory_format=layout) for part in parts))


def as_pair(now: Tensor, before: Tensor, paired: Tensor) -> Tensor:
    """One tensor of images or features [B, C, ...], those of the frames before, and which rows [B] have one."""
    found = _together(now, before, paired.to(now.dtype)[:, None])
    return found.contiguous(memory_format=torch.channels_last) if now.dim() == 4 else found


def both_frames(batch: Batch) -> Tensor:
    """The images of a batch, uint8 [B, 3, H, W]; with frame pairs both frames, [B, 6, H, W]. Padding is left out."""
    real = batch.rows >= 0
    rows = slice(None) if real.all() else real
    images = torch.from_numpy(batch.images[rows])
    return images if batch.before is None else torch.cat([images, torch.from_numpy(batch.before[rows])], dim=1)


def flagged(pixels: Tensor, batch: Batch) -> Tensor:
    """Pixels [B, 3, H, W] as they are; those of both frames [B, 6, H, W] as pairs [B, 7, H, W]."""
    if batch.paired is None:
        return pixels
    paired = torch.from_numpy(batch.paired[batch.rows >= 0]).to(pixels.device)
    return as_pair(pixels[:, :3], pixels[:, 3:], paired)


class Joined(nn.Module):
    """Joins what one layer gives for both frames: vectors [B, D] -> [B, 2 D + 1], maps [B, C, H, W] -> the same shape.

    To the maps of the image a layer adds what it finds in both, in how they match (`matches`), and in how the image
    differs from the frame before once that has moved with the whole picture (`moved_along`): a 3 x 3 convolution to
    twice the channels, a rectifier, and a 1 x 1 convolution that begins at 0, so that a network begins as it would with
    one frame.
    """

    def __init__(self, channels: int, *, maps: bool) -> None:
        super().__init__()
        self.mix: nn.Sequential | None = None
        if maps:
            both = nn.Conv2d(3 * channels + 1 + len(SHIFTS), 2 * channels, kernel_size=3, padding=1)
            last = nn.Conv2d(2 * channels, channels, kernel_size=1)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]
            self.mix = nn.Sequential(both, nn.ReLU(inplace=True), last)
            self.sharpness = nn.Parameter(torch.tensor(SHARPNESS))

    def forward(self, now: Tensor, before: Tensor, flag: Tensor) -> Tensor:
        """`flag` is [B, 1] or [B, 1, H, W] of any size: 1 where there is a frame before."""
        flag = (flag if flag.dim() == 2 else flag[:, :, 0, 0]).to(now.dtype)
        together = _together(now, before, flag)
        if self.mix is None:
            return together
        matched = matches(now, before)
        own = now - moved_along(now, before, matched, self.sharpness)
        seen = torch.cat([matched, own], dim=1) * flag[:, :, None, None]
        found: Tensor = now + self.mix(torch.cat([together, seen], dim=1))
        return found


class PairBranch(nn.Module):
    """A branch of tasks that read two frames: what its parent gives for both, joined, then the layers of any branch.

    It puts out what its last layer gives, then the maps that heads of boxes read: what it holds after `maps` of its
    layers, 0 for what is joined.
    """

    def __init__(self, joined: Joined, rest: nn.Sequential, maps: Sequence[int] = ()) -> None:
        super().__init__()
        self.joined, self.rest, self.maps = joined, rest, tuple(maps)

    def forward(self, now: Tensor, before: Tensor, flag: Tensor) -> tuple[Tensor, ...]:
        seen: Tensor = self.joined(now, before, flag)
        found = [seen]
        for layer in self.rest:
            seen = layer(seen)
            found.append(seen)
        return seen, *(found[place] for place in self.maps)


def matches(now: Tensor, before: Tensor) -> Tensor:
    """How well maps [B, C, H, W] match those of the frame before, shifted by each of `SHIFTS`: [B, S, H, W].

    The mean over channels of their product at a cell, after their mean over the map is taken off: the correlation layer
    of Dosovitskiy et al. 2015 (FlowNet, arXiv 1504.06852), for shifts across and along alone. It shows motion that sums
    of both frames would have to learn from nothing.
    """
    own, other = ((maps - maps.mean(dim=(2, 3), keepdim=True)).permute(0, 2, 3, 1) for maps in (now, before))
    across = _along_lines(own, other)
    down = _along_lines(own.transpose(1, 2), other.transpose(1, 2)).transpose(1, 2)
    return torch.cat([across, down[..., :REACH], down[..., REACH + 1 :]], dim=3).permute(0, 3, 1, 2)


def moved_along(now: Tensor, before: Tensor, matched: Tensor, sharpness: Tensor) -> Tensor:
    """The frame before [B, C, H, W], moved as the whole picture has moved since: what moves by itself differs from it.

    The sum over `SHIFTS` of the frame at each, times a softmax of `sharpness` x the mean of `matched` [B, S, H, W] over
    the map, as a part of the mean square of the image's own maps, which a perfect match has. So a picture that moves
    between two shifts is interpolated. It holds for a camera that pans, not for a picture that widens.
    """
    energy = (now - now.mean(dim=(2, 3), keepdim=True)).square().mean(dim=(1, 2, 3)).clamp(min=1e-6)
    chances = torch.softmax(sharpness * matched.mean(dim=(2, 3)) / energy[:, None], dim=1)
    across, down = chances[:, : 2 * REACH + 1], chances[:, 2 * REACH + 1 :]
    down = torch.cat([down[:, :REACH], torch.zeros_like(down[:, :1]), down[:, REACH:]], dim=1)
    return _moved(before, across) + _moved(before.transpose(2, 3), down).transpose(2, 3)


def _moved(maps: Tensor, weights: Tensor) -> Tensor:
    """The sum of maps [B, C, H, W] at the places from REACH before each to REACH after it, across, times the `weights`
    [B, 2 REACH + 1]; 0 beyond the ends."""
    channels, height, long = maps.shape[1:]
    wide = long + 2 * REACH
    rows = nn.functional.pad(weights[:, None].expand(-1, long, -1), (0, long)).flatten(1)
    band = rows[:, : long * wide].unflatten(1, (long, wide))  # each row one place further
    padded = nn.functional.pad(maps.permute(0, 3, 1, 2).flatten(2), (0, 0, REACH, REACH))
    found: Tensor = torch.bmm(band, padded).unflatten(2, (channels, height)).permute(0, 2, 3, 1)
    return found


def _along_lines(own: Tensor, other: Tensor) -> Tensor:
    """How `own` [B, N, L, C] matches `other` along each of N lines: [B, N, L, 2 REACH + 1].

    At each place of a line, the mean product over channels with the places of `other` from REACH before it to REACH
    after, 0 beyond the ends. One product of matrices a line, of which the band at the diagonal is kept, takes a third
    of the time of a product of maps for each shift.
    """
    count, lines, long, channels = own.shape
    padded = nn.functional.pad(other, (0, 0, REACH, REACH)).reshape(count * lines, long + 2 * REACH, channels)
    every = torch.bmm(own.reshape(count * lines, long, channels), padded.transpose(1, 2)).flatten(1)
    longer = nn.functional.pad(every, (0, long))  # each row of the matrix begins one place further
    band: Tensor = longer.unflatten(1, (long, long + 2 * REACH + 1))[..., : 2 * REACH + 1]
    return band.reshape(count, lines, long, 2 * REACH + 1) / channels


def _together(now: Tensor, before: Tensor, flag: Tensor) -> Tensor:
    """Both along the second dimension, then the flag [B, 1]; 0 for what is not there."""
    if now.dim() == 4:
        flag = flag[:, :, None, None]
        return torch.cat([now, before * flag, flag * torch.ones_like(now[:, :1])], dim=1)
    return torch.cat([now, before * flag, flag], dim=1)


def split_nodes(nodes: Sequence[Node], tree: Tree | None, paired: frozenset[str], stem: str, hidden: int) -> list[Node]:
    """The nodes of a tree, with tasks of two frames (`paired`, names) at nodes of their own.

    Without a `tree` of the recipe they leave the trunk at its first stage, the `stem`. In one, a branch that both kinds
    of tasks read becomes two; those at the trunk's end get a branch without a layer. Tasks of boxes, which stand at no
    node, have the branch `BOX_PAIRS`. BadInput where a tree has a branch of this name.
    """
    standing = {name for node in nodes for name in node.tasks}
    found = _split(nodes, tree, paired & standing, stem, hidden)
    if paired <= standing:
        return found
    if any(node.name == BOX_PAIRS for node in nodes):
        raise BadInput(f"tree: branch {BOX_PAIRS} is that of tasks of boxes that read two frames; name yours otherwise")
    return [*found, Node(name=BOX_PAIRS, parent=stem, width=0, tasks=())]


def _split(nodes: Sequence[Node], tree: Tree | None, paired: frozenset[str], stem: str, hidden: int) -> list[Node]:
    if not paired:
        return list(nodes)
    found = []
    for node in nodes:
        mine, others = (tuple(t for t in node.tasks if (t in paired) == wanted) for wanted in (True, False))
        if tree is None and mine:
            found.append(Node(name=node.name, parent=node.parent, width=node.width, tasks=others))
            found.append(Node(name=PAIRS, parent=stem, width=hidden, tasks=mine))
        elif mine and (others or node.name == TRUNK or _has_children(node, nodes)):
            found.append(Node(name=node.name, parent=node.parent, width=node.width, tasks=others))
            parent = TRUNK if node.name == TRUNK else node.parent
            found.append(Node(name=f"{node.name}_{PAIRS}", parent=parent, width=node.width, tasks=mine))
        else:
            found.append(node)
    return [node for node in found if node.name == TRUNK or node.tasks or _has_children(node, found)]


def _has_children(node: Node, nodes: Sequence[Node]) -> bool:
    return any(each.parent == node.name for each in nodes)
