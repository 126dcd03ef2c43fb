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

    Each start writes a file of its own with its first value; TensorBoard joins them.
    """

    def __init__(self, folder: Path, start: int) -> None:
        self._folder, self._start = folder, start
        self._writer: EventsWriter | None = None

    def add(self, draws: int, group: str, values: Mapping[str, float]) -> None:
        """A value for each name of a group, such as the loss of each task, after so many draws."""
        writer = self._writer = self._writer or self._open()
        for name, value in values.items():
            writer.write_event(Event(wall_time=time.time(), step=draws, summary=scalar(f"{group}/{name}", value)))
        writer.flush()

    def close(self) -> None:
        """End the file, if there is one."""
        if self._writer:
            self._writer.close()

    def _open(self) -> EventsWriter:
        self._folder.mkdir(parents=True, exist_ok=True)
        writer = EventsWriter(str(self._folder / "events"), f".{self._start}")
        start = SessionLog(status=SessionLog.START)
        writer.write_event(Event(wall_time=time.time(), step=self._start, session_log=start))
        return writer
