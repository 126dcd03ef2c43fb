"""How a long piece of work reports what it has done."""

from collections.abc import Callable, Mapping

__all__ = ["LossProgress", "Progress", "StageProgress", "StatesProgress"]

Progress = Callable[[int, int], None]
"""Called with (items done, items in all), in the thread of the caller; the last call has both equal."""

LossProgress = Callable[[int, int, float], None]
"""Called with (draws or heads done, all of them, the objective of the last batches), by a training."""

StageProgress = Callable[[str, int, int], None]
"""Called with (name of the stage, items done, items in all), for work in several stages."""

StatesProgress = Callable[[int, Mapping[str, str]], None]
"""Called with (draws done, the state of each task by name), whenever a training judges its tasks."""
