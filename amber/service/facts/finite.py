"""Values as JSON can express them."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

__all__ = ["finite"]


def finite(value: Any) -> Any:
    """`value` with None for NaN and infinity, everywhere in it, and lists for tuples.

    >>> finite({"a": (1.0, float("nan"))})
    {'a': [1.0, None]}
    """
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return value
