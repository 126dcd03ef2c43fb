"""The size at which images of a data set enter a trunk: that of the images themselves, within what a trunk can use."""

import numpy as np
import numpy.typing as npt

from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput

__all__ = ["fitted_size", "size_of"]

STEP = 32
"""Sides are multiples of the largest stride of a trunk."""

SMALLEST, LARGEST = 8_192, 16_384
"""Pixels of an image: smaller ones are enlarged, larger ones reduced; the cost of features grows with this."""

SIDES = (32, 512)


def fitted_size(now: Snapshot) -> tuple[int, int]:
    """Height and width in pixels for the images of a catalog: their median shape, and about their median area.

    BadInput for a catalog without images.
    """
    samples = now.samples()
    if not len(samples):
        raise BadInput("samples: the catalog has no image whose size could be taken; ingest a data set, or pass --size")
    return size_of(samples["height"].to_numpy(), samples["width"].to_numpy())


def size_of(heights: npt.NDArray[np.integer], widths: npt.NDArray[np.integer]) -> tuple[int, int]:
    """Height and width for images of these heights and widths [n].

    >>> size_of(np.array([96, 96]), np.array([96, 96]))
    (96, 96)
    >>> size_of(np.array([62]), np.array([30]))  # tall and small: enlarged
    (128, 64)
    >>> size_of(np.array([380]), np.array([640]))  # wide and large: reduced
    (96, 160)
    """
    aspect = float(np.median(widths / heights))
    area = float(np.clip(np.median(widths.astype(np.float64) * heights), SMALLEST, LARGEST))
    sides = np.array([(area / aspect) ** 0.5, (area * aspect) ** 0.5])
    height, width = np.clip(np.round(sides / STEP) * STEP, *SIDES).astype(int).tolist()
    return height, width
