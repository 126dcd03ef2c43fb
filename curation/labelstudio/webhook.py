"""Webhook wake-up: Label Studio's webhooks wake a pull; they carry no data.

They are unsigned, sent once, and may be lost. So the listener checks a secret header and ignores the body, and a caller
that waits for a wake-up also pulls after a time-out.
"""

import hmac
import secrets
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from curation.errors import AmberError, BadInput
from curation.labelstudio.client import LabelStudioClient

__all__ = ["HEADER", "PATH", "wake_ups"]

HEADER: Final = "X-Amber-Secret"
PATH: Final = "/amber-bell"
LARGEST: Final = 1 << 20
"""Bytes of the largest body that is read and discarded; a larger one closes the connection."""


@contextmanager
def wake_ups(
    server: LabelStudioClient, projects: Collection[int], *, host: str = "127.0.0.1", port: int = 0
) -> Iterator[threading.Event]:
    """An event that is set whenever an annotation in one of the projects is added, changed or deleted.

    The server must reach `host`:`port` (0: a free port). Webhooks left behind by a killed process are removed.
    """
    secret, event = secrets.token_urlsafe(24), threading.Event()
    listener = _listener(host, port, secret, event)
    thread = threading.Thread(target=listener.serve_forever, daemon=True, name="amber-webhook")
    thread.start()
    try:
        for project in projects:
            _remove_hooks(server, project)
            server.add_hook(project, f"http://{host}:{listener.server_port}{PATH}", {HEADER: secret})
        yield event
    finally:
        listener.shutdown()
        listener.server_close()
        for project in projects:
            with suppress(AmberError):  # the next call removes it
                _remove_hooks(server, project)


def _listener(host: str, port: int, secret: str, event: threading.Event) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            known = hmac.compare_digest(self.headers.get(HEADER, "").encode(), secret.encode())
            if length.isdigit() and int(length) <= LARGEST:
                self.rfile.read(int(length))
            else:
                self.close_connection = True
            if known and self.path == PATH:
                event.set()
            self.send_response(204 if known else 403)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    try:
        return ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise BadInput(f"{host}:{port}: cannot listen there ({error.strerror}); choose another address") from error


def _remove_hooks(server: LabelStudioClient, project: int) -> None:
    for hook in server.hooks(project):
        if str(hook.get("url", "")).endswith(PATH):
            server.remove_hook(int(hook["id"]))
