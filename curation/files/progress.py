"""How a long piece of work reports what it has done."""

from collections.abc import Callable

__all__ = ["Progress"]

Progress = Callable[[int, int], None]
"""Called with (items done, items in all), in the thread of the caller; the last call has both equal."""
