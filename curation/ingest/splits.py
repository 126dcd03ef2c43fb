"""Splits: a function of a sample's group, never of the sample; and what was split stays."""

import hashlib
from collections.abc import Mapping, Sequence

from curation.catalog.schema import EVALUATION

__all__ = ["keep_splits", "split_of"]


def split_of(groups: Sequence[str], *, test: float, validation: float, seed: int) -> list[str]:
    """The split of each group: "test", "validation" or "train", with the given chances.

    A group's place is a hash of (seed, group) alone, so that it stays when other samples arrive.
    """
    places = {group: _uniform(seed, group) for group in set(groups)}
    return [
        "test" if places[group] < test else "validation" if places[group] < test + validation else "train"
        for group in groups
    ]


def keep_splits(
    keys: Sequence[str], groups: Sequence[str], drawn: Sequence[str], known: Mapping[str, str]
) -> tuple[list[str], list[bool]]:
    """Splits of samples, and which to exclude, when some have a split already (`known`, by key).

    A sample keeps its split and a new one joins its group's; the others take what was `drawn`. Where new images link
    groups across splits, new samples join the evaluation side and the samples of train are excluded.
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
