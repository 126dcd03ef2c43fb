"""Splits: a function of a sample's group, never of the sample; an existing split does not change."""

import hashlib
from collections.abc import Mapping, Sequence

from curation.catalog.schema import EVALUATION

__all__ = ["keep_splits", "split_of"]


def split_of(groups: Sequence[str], *, test: float, validation: float, seed: int) -> list[str]:
    """The split of each group: "test", "validation" or "train", with the given probabilities.

    The split depends only on a hash of (seed, group), so new samples do not move old ones.

    >>> split_of(["drive-1", "drive-2", "drive-1"], test=0.5, validation=0.0, seed=0)
    ['train', 'test', 'train']
    """
    positions = {group: _uniform(seed, group) for group in set(groups)}
    return [
        "test" if positions[group] < test else "validation" if positions[group] < test + validation else "train"
        for group in groups
    ]


def keep_splits(
    keys: Sequence[str], groups: Sequence[str], drawn: Sequence[str], known: Mapping[str, str]
) -> tuple[list[str], list[bool]]:
    """Splits of samples, and whether to exclude each, given the splits that exist already (`known`, by key).

    A sample keeps its split; a new sample joins the split of its group; all others get their `drawn` split. Where new
    images link groups across splits, new samples join the evaluation side and the samples of train are excluded.
    """
    of: dict[str, set[str]] = {}
    for key, group in zip(keys, groups, strict=True):
        of.setdefault(group, set()).update({known[key]} if known.get(key) else ())
    joined = [next((split for split in (*EVALUATION, "train") if split in of[group]), "") for group in groups]
    splits = [known.get(key) or join or draw for key, join, draw in zip(keys, joined, drawn, strict=True)]
    crossing = [split == "train" and join in EVALUATION for split, join in zip(splits, joined, strict=True)]
    return splits, crossing


def _uniform(seed: int, group: str) -> float:
    return int.from_bytes(hashlib.sha256(f"{seed}:{group}".encode()).digest()[:8]) / 2**64
