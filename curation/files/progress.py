"""How a long piece of work reports what it has done."""

from collections.abc import Callable

__all__ = ["Progress", "StageProgress"]

Progress = Callable[[int, int], None]
"""Called with (items done, items in all), in the thread of the caller; the last call has both equal."""

StageProgress = Callable[[str, int, int], None]
"""Called with (name of the stage, items done, items in all), for work in several stages."""
