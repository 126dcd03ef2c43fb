"""The size at which images of a data set enter a trunk: their own, within what it can use; and how many at once."""

import numpy as np
import numpy.typing as npt

from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput

__all__ = ["BATCH", "FOR_BOXES", "fitted_size", "images_at_once", "size_of"]

STEP = 32
"""Sides are multiples of the largest stride of a trunk."""

SMALLEST, LARGEST = 8_192, 16_384
"""Pixels of an image: smaller ones are enlarged, larger ones reduced; the cost of features grows with this."""

FOR_BOXES = 65_536
"""The same where boxes are learned, whose map has a cell for 8 x 8 pixels."""

SIDES = (32, 512)

BATCH = 256
"""Images of a pass that learns nothing; fixed, because the last bits of outputs depend on it."""

PIXELS = BATCH * 16_384
"""Pixels of such a pass: of larger images it takes fewer, because maps of 256 would take gigabytes."""


def fitted_size(now: Snapshot, *, largest: int = LARGEST) -> tuple[int, int]:
    """Height and width in pixels for the images of a catalog: their median shape, and about their median area.

    The area is at most `largest` pixels. BadInput for a catalog without images.
    """
    samples = now.samples()
    if not len(samples):
        raise BadInput("samples: the catalog has no image whose size could be taken; ingest a data set, or pass --size")
    return size_of(samples["height"].to_numpy(), samples["width"].to_numpy(), largest=largest)


def size_of(
    heights: npt.NDArray[np.integer], widths: npt.NDArray[np.integer], *, largest: int = LARGEST
) -> tuple[int, int]:
    """Height and width for images of these heights and widths [n].

    >>> size_of(np.array([96, 96]), np.array([96, 96]))
    (96, 96)
    >>> size_of(np.array([62]), np.array([30]))  # tall and small: enlarged
    (128, 64)
    >>> size_of(np.array([380]), np.array([640]))  # wide and large: reduced
    (96, 160)
    """
    aspect = float(np.median(widths / heights))
    area = float(np.clip(np.median(widths.astype(np.float64) * heights), SMALLEST, largest))
    sides = np.array([(area / aspect) ** 0.5, (area * aspect) ** 0.5])
    height, width = np.clip(np.round(sides / STEP) * STEP, *SIDES).astype(int).tolist()
    return height, width


def images_at_once(size: tuple[int, int]) -> int:
    """Images of `size` (height, width) in a pass that learns nothing.

    >>> images_at_once((80, 128)), images_at_once((256, 256))
    (256, 64)
    """
    return max(1, min(BATCH, PIXELS // (size[0] * size[1])))
