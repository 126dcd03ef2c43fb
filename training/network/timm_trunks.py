"""Trunks of the library timm, as stages that a tree may leave; extra `timm`."""

import difflib
import importlib
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from curation.errors import BadInput, Failed, NotFound
from curation.files.read_back import one_line
from training.network.rescale import Rescale

__all__ = ["HUB", "RANDOM", "TimmTrunk"]

HUB, RANDOM = "hub", "random"
"""The `weights` that timm fetches itself, from the hub that it knows, and those of an untrained model."""

EXPANDED = ("blocks", "stages", "layers", "features")
"""Children that hold the stages of a model, one by one."""

SCHEMA = "{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class TimmTrunk(nn.Module):
    """The model `name` of timm without its classifier: float32 [B, 3, H, W] in [-1, 1] -> [B, width].

    `stages` are its children in order, where running them one by one gives what the model gives; otherwise (as in a
    vision transformer) there is one stage, "whole". The first stage scales pixels as the model's own weights expect.
    `weights` is "random", the path of a state dict (safetensors, or torch's), or "hub". BadInput for an unknown model
    and for weights that do not fit; Failed where the hub cannot be reached.
    """

    def __init__(self, name: str, size: tuple[int, int], weights: str) -> None:
        super().__init__()
        model = _created(name, size, weights)
        config: dict[str, Any] = vars(model)["pretrained_cfg"]
        scale = Rescale(config.get("mean", (0.5,) * 3), config.get("std", (0.5,) * 3))
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(2, 3, *size, generator=generator) * 2 - 1
        parts = list(_parts(model))
        with torch.no_grad():
            expected = model.eval()(scale(images))
            if not _chain_gives(parts, scale(images), expected):
                parts = [("whole", model)]
        if expected.dim() != 2:
            raise BadInput(f"trunk timm:{name}: puts out {list(expected.shape)}, not features [B, F]; take another")
        self.width = int(expected.shape[1])
        self.names = [part for part, _ in parts]
        self.parts = nn.ModuleList([part for _, part in parts])
        self.parts[0] = nn.Sequential(scale, self.parts[0])

    @property
    def stages(self) -> list[tuple[str, nn.Module]]:
        """The stages by name."""
        return list(zip(self.names, self.parts, strict=True))


def _created(name: str, size: tuple[int, int], weights: str) -> nn.Module:
    timm = _timm()
    if name.partition(".")[0] not in timm.list_models():
        near = difflib.get_close_matches(name, timm.list_models(), 1)
        hint = f"did you mean timm:{near[0]}?" if near else "timm.list_models() names them"
        raise BadInput(f"trunk timm:{name}: timm {timm.__version__} has no such model; {hint}")
    words: dict[str, Any] = {"pretrained": weights == HUB, "num_classes": 0}
    try:
        try:
            model: nn.Module = timm.create_model(name, img_size=size, **words)
        except TypeError:  # it takes any size
            model = timm.create_model(name, **words)
    except Exception as error:  # what the hub and its client raise is not one family
        raise Failed(
            f"trunk timm:{name}: cannot be made ({one_line(error)}); give weights = FILE, not the hub, or another size"
        ) from error
    if weights not in (HUB, RANDOM):
        _load(model, Path(weights), name)
    return model


def _load(model: Any, path: Path, name: str) -> None:
    """Load a state dict of the model, with or without its classifier."""
    from timm.models import load_state_dict

    if not path.is_file():
        raise NotFound(f"weights {path}: no such file; check the path")
    try:
        state = load_state_dict(str(path), use_ema=False, weights_only=True)
        own = model.state_dict()
        missing = sorted(set(own) - set(state))
        if missing:
            raise ValueError(f"it lacks {missing[0]} and {len(missing) - 1} more")
        model.load_state_dict({key: value for key, value in state.items() if key in own})
    except Exception as error:  # pickles, safetensors and shapes each fail in their own way
        raise BadInput(
            f"weights {path}: are not those of timm:{name} ({one_line(error)}); give its state dict"
        ) from error


def _parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The children of a model in order, without those that do nothing; lists of stages one by one."""
    for name, child in model.named_children():
        if isinstance(child, nn.Sequential) and name in EXPANDED:
            yield from ((f"{name}_{inner}", part) for inner, part in child.named_children())
        elif not isinstance(child, nn.Identity):
            yield name, child


def _chain_gives(parts: list[tuple[str, nn.Module]], images: Tensor, expected: Tensor) -> bool:
    """Whether running the parts one after the other gives what the model gives."""
    try:
        for _, part in parts:
            images = part(images)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, NotImplementedError):
        return False
    same = images.shape == expected.shape
    return same and bool((images - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1e-6))


@cache
def _timm() -> Any:
    """The library; where torchvision has been built for a GPU and torch has not, with its missing operators declared.

    timm imports torchvision, which registers what `nms` and `qnms` do on meta tensors. Without the library that
    declares them (it links CUDA) that fails, though no trunk uses them.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for operator in ("nms", "qnms"):
            _DECLARED.define(SCHEMA.format(name=operator))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("timm")


_DECLARED = torch.library.Library("torchvision", "FRAGMENT")
