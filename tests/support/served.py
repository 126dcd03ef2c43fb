"""The service on a real port, in a thread of the test process."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from amber.service.app import make_app
from amber.service.connections import limited_protocol

__all__ = ["Served", "free_port", "served"]


class Served:
    """A running service."""

    def __init__(self, url: str, app: FastAPI) -> None:
        self.url = url
        self.app = app


@contextmanager
def served(home: Path, *, user_header: str = "", **limits: Any) -> Iterator[Served]:
    """The service of a workspace on a free port of this machine, with `limits` of `limited_protocol`."""
    app, port = make_app(home, user_header=user_header), free_port()
    protocol = limited_protocol(app.state.metrics, **limits)
    config = uvicorn.Config(app, host="127.0.0.1", port=port, http=protocol, access_log=False, log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield Served(f"http://127.0.0.1:{port}", app)
    finally:
        server.should_exit = True
        thread.join()


def free_port() -> int:
    """A port on which no process listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
