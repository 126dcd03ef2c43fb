"""A real browser, driven over its debugging pipe: pages rendered by scripts cannot be tested by their source."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
    "--window-size=1500,950",
)  # fmt: skip


class Chromium:
    """A headless browser with one page; use it in a `with` block."""

    def __init__(self) -> None:
        self._profile = tempfile.mkdtemp(prefix="amber-chromium-")
        read_commands, self._commands = os.pipe()
        self._answers, write_answers = os.pipe()
        os.set_inheritable(read_commands, True)
        os.set_inheritable(write_answers, True)
        words = ["chromium", *FLAGS, f"--user-data-dir={self._profile}", "about:blank"]
        shell = f'exec "$@" 3<&{read_commands} 4>&{write_answers}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", *words], pass_fds=(read_commands, write_answers), stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read_commands)
        os.close(write_answers)
        self._turn, self._buffer = 0, b""
        self.requested: list[str] = []
        """URLs that the page requested."""
        self.posted: list[tuple[str, str]] = []
        """URL and body of each POST that a click or a key began."""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._call("Page.enable", session=True)
        self._call("Network.enable", session=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._commands)
        os.close(self._answers)
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, url: str) -> None:
        """Go to a page."""
        self._call("Page.navigate", session=True, url=url)

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        done = self._call("Runtime.evaluate", session=True, expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise RuntimeError(done["exceptionDetails"]["exception"].get("description", "the page raised"))
        return done["result"].get("value")

    def wait_for(self, script: str, *, seconds: float = 60) -> Any:
        """Wait until an expression is true, and return its value; TimeoutError after `seconds`."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(script)):
            if time.monotonic() > end:
                raise TimeoutError(f"{script}: not true after {seconds} s")
            time.sleep(0.2)
        return value

    def click(self, x: float, y: float) -> None:
        """A real click at a point of the page."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", session=True, type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, element: str, *, settled: float = 0.5) -> None:
        """Click in the middle of the element that an expression gives, once it exists and has not moved for `settled`
        seconds."""
        middle = "b => b?.width && [b.x + b.width / 2, b.y + b.height / 2]"
        script = f"({middle})(({element})?.getBoundingClientRect())"
        before = None
        while (point := self.wait_for(script)) != before:
            before = point
            time.sleep(settled)
        self.click(*point)

    def strike(self, key: str) -> None:
        """Strike a key in the focused element: a letter or a digit, "Enter" or "Tab"."""
        text = {"Enter": "\r", "Tab": ""}.get(key, key)
        code = {"Enter": 13, "Tab": 9}.get(key, ord(key[0].upper()))
        for kind in ("keyDown" if text else "rawKeyDown", "keyUp"):
            typed = {"text": text} if text and kind == "keyDown" else {}
            self._call("Input.dispatchKeyEvent", session=True, type=kind, key=key, windowsVirtualKeyCode=code, **typed)

    def write(self, text: str) -> None:
        """Type into the focused element."""
        self._call("Input.insertText", session=True, text=text)

    def look(self, *, width: int, dark: bool = False, height: int = 950) -> None:
        """Show pages in a window of this size, in light or dark."""
        self._call(
            "Emulation.setDeviceMetricsOverride", session=True, width=width, height=height, deviceScaleFactor=1,
            mobile=False,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", session=True, features=[scheme])

    def screenshot(self, path: Path) -> None:
        """Write the visible page as PNG."""
        path.write_bytes(self.png())

    def png(self) -> bytes:
        """The visible page as PNG."""
        return base64.b64decode(self._call("Page.captureScreenshot", session=True)["data"])

    def _call(self, method: str, *, session: bool = False, **parameters: Any) -> dict[str, Any]:
        self._turn += 1
        message = {"id": self._turn, "method": method, "params": parameters}
        if session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("method") == "Network.requestWillBeSent":
                self._note(answer["params"])
            if answer.get("id") == self._turn:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])

    def _note(self, sent: dict[str, Any]) -> None:
        request = sent["request"]
        self.requested.append(request["url"])
        if request["method"] == "POST" and sent.get("hasUserGesture"):
            self.posted.append((request["url"], request.get("postData", "")))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._answers, 1 << 20)
            if not part:
                raise RuntimeError("chromium ended")
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(text))
