"""Remote object storage, simulated on loopback: a folder, or an S3-compatible server, with latency, faults and a
bandwidth that all connections share. `python -m benchmarks.objects FOLDER LATENCY BYTES_PER_SECOND` serves a folder.

The faults are those of a real network: 503 (slow down), a reset, a truncated body, an altered body.
"""

import asyncio
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

__all__ = ["FAULTS", "Far", "serving"]

FAULTS = ("503", "reset", "truncated", "altered")
_PIECE = 1 << 16  # bytes that are sent at once

Fault = Callable[[int, str], str]
"""Which of `FAULTS`, or "" for none, befalls the n-th request for data, of such a path."""


class Far:
    """The server: `port` on loopback, the number of requests for data, their faults, and the bytes sent."""

    def __init__(
        self, behind: Path | int, *, latency: float = 0.0, bandwidth: float = 0.0, fault: Fault = lambda n, path: ""
    ) -> None:
        self._behind, self._latency, self._bandwidth, self._fault = behind, latency, bandwidth, fault
        self._free_at = 0.0
        self.port, self.requests, self.sent, self.faults = 0, 0, 0, Counter[str]()

    async def start(self) -> asyncio.Server:
        """Listen; the caller closes it."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._answer(await reader.readuntil(b"\r\n\r\n"), reader, writer):
                pass
        writer.close()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection goes on."""
        method, path, _ = head.split(b"\r\n", 1)[0].decode().split()
        body = await reader.readexactly(int(_field(head, b"content-length") or 0))
        await asyncio.sleep(self._latency)
        status, headers, data = await self._behind_it(method, path, head, body)
        fault = ""
        if method == "GET":
            self.requests += 1
            fault = self._fault(self.requests, path)
            self.faults[fault] += 1
        if fault == "503":
            status, headers, data = "503 Slow Down", b"", b"<Error><Code>SlowDown</Code></Error>"
        if fault == "reset":
            link: socket.socket = writer.get_extra_info("socket")
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        length = int(_field(headers, b"content-length") or 0) if method == "HEAD" else len(data)
        lines = [line for line in headers.split(b"\r\n") if line and not line.lower().startswith(_OWN)]
        writer.write(b"\r\n".join([f"HTTP/1.1 {status}".encode(), b"Content-Length: %d" % length, *lines, b"", b""]))
        if fault == "altered" and data:
            data = data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 0x40]) + data[len(data) // 2 + 1 :]
        if fault == "truncated":
            data = data[: len(data) // 2]
        await self._send(data if method != "HEAD" else b"", writer)
        return fault != "truncated"

    async def _send(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        for at in range(0, len(data), _PIECE):
            piece = data[at : at + _PIECE]
            if self._bandwidth:
                self._free_at = max(self._free_at, loop.time()) + len(piece) / self._bandwidth
                if (wait := self._free_at - loop.time()) > 0.002:
                    await asyncio.sleep(wait)
            writer.write(piece)
            self.sent += len(piece)
            await writer.drain()

    async def _behind_it(self, method: str, path: str, head: bytes, body: bytes) -> tuple[str, bytes, bytes]:
        if isinstance(self._behind, Path):
            return _from_folder(self._behind, path, head)
        reader, writer = await asyncio.open_connection("127.0.0.1", self._behind)
        lines = [line for line in head.split(b"\r\n") if line and not line.lower().startswith(b"connection")]
        writer.write(b"\r\n".join([*lines, b"Connection: close", b"", b""]) + body)
        answer = await reader.read()
        writer.close()
        told, _, data = answer.partition(b"\r\n\r\n")
        first, _, headers = told.partition(b"\r\n")
        return first.decode().split(" ", 1)[1], headers, data


_OWN = (b"content-length", b"connection", b"transfer-encoding", b"date", b"server")


def _from_folder(folder: Path, path: str, head: bytes) -> tuple[str, bytes, bytes]:
    """An object, or a range of it, as an HTTP server with ranges gives it."""
    file = folder / path.partition("?")[0].lstrip("/")
    if not file.is_file():
        return "404 Not Found", b"", b"<Error><Code>NoSuchKey</Code></Error>"
    size = file.stat().st_size
    asked = _field(head, b"range").removeprefix("bytes=")
    start, stop = (int(part) for part in asked.split("-")) if asked else (0, size - 1)
    with file.open("rb") as opened:
        opened.seek(start)
        data = opened.read(stop + 1 - start)
    modified = b'Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nETag: "%d"\r\n' % size
    if not asked:
        return "200 OK", modified, data
    return "206 Partial Content", modified + b"Content-Range: bytes %d-%d/%d" % (start, stop, size), data


def _field(head: bytes, name: bytes) -> str:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(name + b":"):
            return line.partition(b":")[2].strip().decode()
    return ""


@contextmanager
def serving(far: Far) -> Iterator[Far]:
    """Run the server in a thread."""
    loop, started = asyncio.new_event_loop(), threading.Event()

    async def run() -> None:
        nonlocal server
        server = await far.start()
        started.set()

    server: asyncio.Server | None = None
    thread = threading.Thread(target=lambda: (loop.run_until_complete(run()), loop.run_forever()))
    thread.start()
    started.wait()
    try:
        yield far
    finally:

        async def stop() -> None:
            server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0.05)
            loop.stop()

        asyncio.run_coroutine_threadsafe(stop(), loop)
        thread.join()
        loop.close()


def main() -> None:
    """Serve a folder until standard input ends; then print what was sent."""
    with serving(Far(Path(sys.argv[1]), latency=float(sys.argv[2]), bandwidth=float(sys.argv[3]))) as far:
        for _ in chain([None], sys.stdin):
            sys.stdout.write(f"{far.port} {far.sent} {far.requests}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
