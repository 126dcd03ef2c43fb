"""Attributes as slices that nobody declared: a mask of samples for each value of each attribute."""

from typing import Final

import numpy as np
import pyarrow as pa

from curation.analysis.missingness import CLUSTERS, ORGANISING, aligned_attribute, coded_attribute
from curation.arrays import Bools, Ints
from curation.catalog.snapshot import Snapshot

__all__ = ["attribute_values"]

UNSEEN: Final = ORGANISING | {"propensity"}
"""Attributes that say nothing about what an image shows."""


def attribute_values(now: Snapshot, ids: Ints, groups: Ints) -> dict[str, Bools]:
    """A mask over the samples `ids` [N] for each value of each attribute, named as "weather = rain".

    `groups` [N] are codes: texts and flags that are in fewer than 10 groups are merged, of the others the 20 most
    common are kept. Numbers and times are cut into quarters.
    """
    found: dict[str, Bools] = {}
    samples = pa.array(ids)
    for attribute in now.attributes():
        if attribute in UNSEEN:
            continue
        coded = coded_attribute(attribute, aligned_attribute(now.attribute(attribute), samples), groups % CLUSTERS)
        for code, name in enumerate(coded.names if coded else ()):
            assert coded is not None
            inside = np.zeros(len(ids), np.bool_)
            inside[coded.row[coded.code == code]] = True
            found[f"{attribute} = {name}"] = inside
    return found
