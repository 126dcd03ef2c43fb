"""From the pixels that a network reads to those that pretrained weights expect."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["IMAGENET", "Rescale"]

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of each colour on ImageNet, of pixels in [0, 1]."""


class Rescale(nn.Module):
    """float32 [B, 3, H, W] in [-1, 1] -> (x - mean) / deviation of the same pixels in [0, 1]."""

    factor: Tensor
    offset: Tensor

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        middle, spread = (torch.tensor(part, dtype=torch.float32).view(3, 1, 1) for part in (mean, deviation))
        self.register_buffer("factor", 0.5 / spread)
        self.register_buffer("offset", (0.5 - middle) / spread)

    def forward(self, images: Tensor) -> Tensor:
        return images * self.factor + self.offset
