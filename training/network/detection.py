"""Heads of boxes: maps of centres, sizes and offsets on a trunk's stages, their loss, and boxes from them.

An object is the centre of its box (Zhou et al. 2019, "Objects as Points", arXiv 1904.07850). For each class a heat map
is learned with the penalty-reduced focal loss of Law & Deng 2018 (CornerNet, arXiv 1808.01244, equation 1); the size
and the offset of a centre inside its cell by their absolute errors, there alone. Sizes are logarithms of cells, so a
large object does not outweigh the small ones.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from curation.errors import BadInput
from samplers.plan.box_attributes import BoxAttribute, attribute_outputs
from training.network.box_attributes import attribute_answers
from training.network.objects import Objects, cells_of

__all__ = ["EXTRA", "BoxHead", "box_losses", "boxes_of", "heat_targets", "stages_with_maps"]

EXTRA = 4
"""Maps beside those of the classes: logarithms of width and height, and the centre's offset in its cell."""

PRIOR = 0.1
"""The chance of a centre in a cell before anything is learned (Zhou et al. 2019)."""

ALPHA, BETA = 2, 4
"""Exponents of the focal loss, and of how little a cell beside a centre counts (Law & Deng 2018)."""

OVERLAP = 0.5
"""A box whose centre is this cell's would still overlap the object so much: the radius of a peak (0.7 in CornerNet, on
maps of twice as many cells to a side)."""

LARGEST = 8.0
"""The largest logarithm of a size, which keeps an untrained head's boxes finite."""


class BoxHead(nn.Module):
    """Maps [B, classes + 4 + A, h, w] from the trunk's maps, the finest first; coarser ones are enlarged and added.

    Each map passes a convolution to `width` channels and a group normalisation (Lin et al. 2017, feature pyramids).
    The last A are those of attributes of boxes.
    """

    def __init__(self, channels: Sequence[int], classes: int, width: int, attributes: int = 0) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(each, width, 1, bias=False), nn.GroupNorm(8, width)) for each in channels
        )
        smooth = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.smooth = nn.Sequential(nn.ReLU(), smooth, nn.GroupNorm(8, width), nn.ReLU())
        self.out = nn.Conv2d(width, classes + EXTRA, 1)
        nn.init.zeros_(self.out.weight)
        begin = [-math.log((1 - PRIOR) / PRIOR)] * classes + [0.0, 0.0, 0.5, 0.5]
        self.out.bias = nn.Parameter(torch.tensor(begin))
        self.attributes = _attribute_maps(width, attributes) if attributes else None

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        first, *others = (lateral(each) for lateral, each in zip(self.laterals, maps, strict=True))
        for each in others:
            first = first + functional.interpolate(each, size=first.shape[2:], mode="nearest")
        seen = self.smooth(first)
        found: Tensor = self.out(seen)
        return found if self.attributes is None else torch.cat([found, self.attributes(seen)], dim=1)


def _attribute_maps(width: int, attributes: int) -> nn.Sequential:
    """A convolution of the head's features and the maps of attributes, 0 before anything is learned."""
    last = nn.Conv2d(width, attributes, 1)
    for part in last.parameters():
        nn.init.zeros_(part)
    middle = nn.Conv2d(width, width, 3, padding=1, bias=False)
    return nn.Sequential(middle, nn.GroupNorm(8, width), nn.ReLU(), last)


@torch.no_grad()
def stages_with_maps(
    stages: Sequence[tuple[str, nn.Module]], size: tuple[int, int], stride: int, trunk: str
) -> dict[str, tuple[int, int, int]]:
    """The stages whose maps a head of boxes reads, with channels, height and width of each map, the finest first.

    These are the last stage of `stride`, and the last one of each coarser map. BadInput where the trunk has none.
    """
    seen, shapes = torch.zeros(1, 3, *size), dict[str, tuple[int, int, int]]()
    for name, stage in stages:
        was = stage.training
        seen = stage.eval()(seen)
        stage.train(was)
        if seen.dim() == 4 and min(seen.shape[2:]) > 1:
            shapes[name] = (seen.shape[1], seen.shape[2], seen.shape[3])
    strides = {name: round(size[0] / height) for name, (_, height, _) in shapes.items()}
    last = {each: name for name, each in strides.items() if each >= stride}
    if stride not in last:
        has = ", ".join(map(str, sorted(set(strides.values())))) or "none"
        raise BadInput(
            f"trunk {trunk}: puts out no map of stride {stride} for boxes (its strides: {has}); take another"
        )
    return {last[each]: shapes[last[each]] for each in sorted(last)}


def box_losses(maps: Tensor, objects: Objects) -> Tensor:
    """The loss [B] of each draw, from maps [B, C + 4, h, w] and the objects of one task, known and none included.

    The focal loss of the heat maps, and the absolute errors of size and offset, each summed and divided by the objects
    in the image (at least 1). Cells of a class in a region that is ignored count only if an object is there.
    """
    batch, classes = len(maps), maps.shape[1] - EXTRA
    heat, sizes, offsets = maps.split([classes, 2, 2], dim=1)
    targets, counted = heat_targets(objects, (batch, classes, *maps.shape[2:]))
    chance = torch.sigmoid(heat)
    missed = (1 - chance) ** ALPHA * functional.logsigmoid(heat)
    wrong = (1 - targets) ** BETA * counted * chance**ALPHA * functional.logsigmoid(-heat)
    focal = -torch.where(targets == 1, missed, wrong).sum(dim=(1, 2, 3))
    mine = objects.taken(~objects.ignored)
    cells, centres, sides = cells_of(mine, maps.shape[2:])
    at = mine.draws, slice(None), cells[:, 1], cells[:, 0]
    errors = (sizes[at] - sides.clamp(min=1e-3).log()).abs() + (offsets[at] - (centres - cells)).abs()
    counts = torch.zeros(batch, device=maps.device).index_add_(0, mine.draws, torch.ones_like(errors[:, 0]))
    regression = torch.zeros(batch, device=maps.device).index_add_(0, mine.draws, errors.sum(dim=1))
    return (focal + regression) / counts.clamp(min=1)


@torch.no_grad()
def heat_targets(objects: Objects, shape: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """Heat maps [B, C, h, w], 1 at centres and falling around them, and whether a cell counts where there is none."""
    batch, classes, height, width = shape
    device = objects.corners.device
    targets, ignored = (torch.zeros(batch * classes, height, width, device=device) for _ in range(2))
    columns, rows = torch.arange(width, device=device), torch.arange(height, device=device)
    mine, regions = objects.taken(~objects.ignored), objects.taken(objects.ignored)
    cells, _, sides = cells_of(mine, (height, width))
    radius = _radius(sides)
    spread = 2 * ((2 * radius + 1) / 6) ** 2
    x, y = columns[None] - cells[:, :1], rows[None] - cells[:, 1:]
    across, down = (
        torch.where(part.abs() <= radius[:, None], torch.exp(-(part**2) / spread[:, None]), 0.0) for part in (x, y)
    )
    _raise(targets, mine.draws * classes + mine.codes, down[:, :, None] * across[:, None])
    edges = regions.corners * torch.tensor([width, height] * 2, device=device)
    inside = [
        (at[None] + 1 > edges[:, place, None]) & (at[None] < edges[:, place + 2, None])
        for place, at in ((0, columns), (1, rows))
    ]
    covered = (inside[1][:, :, None] & inside[0][:, None]).float()
    _raise(ignored, regions.draws * classes + regions.codes, covered)
    return targets.view(shape), 1 - ignored.view(shape)


def boxes_of(maps: Tensor, most: int, attributes: Sequence[BoxAttribute] = ()) -> Tensor:
    """The `most` best boxes of maps [B, C + 4 + A, h, w]: [B, M, 6 + A] class code, left, top, width and height as
    parts of the input, and score, by falling score; then what their cells say of the attributes (`attribute_answers`).
    A centre is a cell that no neighbour of its class exceeds."""
    width_of = attribute_outputs(attributes)
    classes, height, width = maps.shape[1] - EXTRA - width_of, maps.shape[2], maps.shape[3]
    heat = torch.sigmoid(maps[:, :classes])
    peaks = torch.where(functional.max_pool2d(heat, 3, stride=1, padding=1) == heat, heat, torch.zeros_like(heat))
    cells = height * width
    scores, places = peaks.flatten(1).topk(min(most, classes * cells), dim=1)
    codes, cell = torch.div(places, cells, rounding_mode="floor"), places % cells
    rest = maps[:, classes:].flatten(2).gather(2, cell[:, None].expand(-1, EXTRA + width_of, -1))
    sides = torch.exp(rest[:, :2].clamp(max=LARGEST))
    row = torch.div(cell, width, rounding_mode="floor")
    centre_x, centre_y = (cell % width) + rest[:, 2], row + rest[:, 3]
    edges = [
        ((centre + sign * side / 2) / length).clamp(0, 1)
        for sign in (-1, 1)
        for centre, side, length in ((centre_x, sides[:, 0], width), (centre_y, sides[:, 1], height))
    ]
    left, top, right, bottom = edges
    found = torch.stack([codes.to(maps.dtype), left, top, right - left, bottom - top, scores], dim=2)
    if not attributes:
        return found
    return torch.cat([found, attribute_answers(rest[:, EXTRA:].transpose(1, 2), attributes)], dim=2)


def _raise(maps: Tensor, places: Tensor, values: Tensor) -> None:
    """Raise maps [M, h, w] at `places` [N] to the largest of `values` [N, h, w]."""
    flat = values.flatten(1)
    maps.view(len(maps), -1).scatter_reduce_(0, places[:, None].expand(-1, flat.shape[1]), flat, "amax")


def _radius(sides: Tensor) -> Tensor:
    """How many cells [N] a corner may move so that a box with these sides [N, 2] still overlaps by `OVERLAP`.

    The least of three cases (Law & Deng 2018, section 3.3): both corners move the same way, both inward, or both
    outward.
    """
    total, area = sides.sum(dim=1), sides.prod(dim=1)
    cases = [
        (1.0, -total, area * (1 - OVERLAP) / (1 + OVERLAP)),
        (4.0, -2 * total, area * (1 - OVERLAP)),
        (4 * OVERLAP, 2 * OVERLAP * total, -area * (1 - OVERLAP)),
    ]
    roots = []
    for number, (a, b, c) in enumerate(cases):
        root = (b**2 - 4 * a * c).clamp(min=0).sqrt()
        roots.append((-b - root if number < 2 else root - b) / (2 * a))
    return torch.stack(roots).amin(dim=0).clamp(min=0).floor()
