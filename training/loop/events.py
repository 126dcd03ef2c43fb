"""TensorBoard events of a training, written as it goes: `tensorboard --logdir HOME/runs`."""

import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

__all__ = ["Events"]


class Events:
    """Scalars over the draws, in files of `folder`; a training that goes on at `start` replaces what follows it there.

    Each start writes a file of its own; TensorBoard joins them.
    """

    def __init__(self, folder: Path, start: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"), f".{start}")
        self._write(Event(wall_time=time.time(), step=start, session_log=SessionLog(status=SessionLog.START)))

    def add(self, draws: int, group: str, values: Mapping[str, float]) -> None:
        """A value for each name of a group, such as the loss of each task, after so many draws."""
        for name, value in values.items():
            self._write(Event(wall_time=time.time(), step=draws, summary=scalar(f"{group}/{name}", value)))
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        self._writer.close()

    def _write(self, event: Event) -> None:
        self._writer.write_event(event)
