"""Road scenes that Amber draws itself: small, sparse in labels, with rarities whose truth is known.

A drive is a burst of 3 to 8 near-duplicate frames. Everything about drive d is a function of (seed, d): its facts come
from row d of one counter-based stream, its picture from another, its labels from a third. Which drives a data set holds
is a choice among them (`choose_drives`), what is known of them a table (`describe`).
"""

from curation.readers.streets.drives import Drives, choose_drives, draw_drives, rare_floor, rare_slices
from curation.readers.streets.labels import describe
from curation.readers.streets.places import HEIGHT, WIDTH
from curation.readers.streets.reader import read_streets
from curation.readers.streets.scene import render

__all__ = [
    "HEIGHT",
    "WIDTH",
    "Drives",
    "choose_drives",
    "describe",
    "draw_drives",
    "rare_floor",
    "rare_slices",
    "read_streets",
    "render",
]
