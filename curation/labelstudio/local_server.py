"""A local Label Studio: a real server on this machine for one workspace, for a team that has none.

It runs in its own virtual environment, because its pins conflict with others. A new data folder takes a minute of
migrations, so a template is kept beside the environment and copied, with new credentials and keys for each copy.
"""

import base64
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import platformdirs

from curation.errors import BadInput, Failed
from curation.files.atomic import whole

__all__ = ["ENVIRONMENT", "REQUIREMENTS", "Local", "running", "start", "stop"]

ENVIRONMENT: Final = "AMBER_LABEL_STUDIO"
"""The environment variable with the path of Label Studio's virtual environment (default: in the user's cache)."""

REQUIREMENTS: Final = Path(__file__).with_name("label-studio.txt")

USER: Final = "amber@localhost.local"

SETTINGS: Final = {
    "COLLECT_ANALYTICS": "false", "LATEST_VERSION_CHECK": "false", "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": "",
    "FEATURE_FLAGS_OFFLINE": "true", "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
    "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true", "LOG_LEVEL": "WARNING",
    "SSRF_PROTECTION_ENABLED": "false",  # else it refuses webhooks to this machine
    "fflag_feat_utc_210_prediction_validation_15082025": "true",
}  # fmt: skip
"""No telemetry, no sign-up without an invitation, and predictions are validated."""

STARTING: Final = 180.0
"""Seconds to wait for a server to come up; the first start of a template takes 60 to 79."""
STOPPING: Final = 20.0
"""Seconds to wait for a server to end before it is killed."""


@dataclass(frozen=True, kw_only=True)
class Local:
    """A running server: its address, its credentials and its process id."""

    url: str
    token: str
    user: str
    password: str
    pid: int


def start(home: Path, *, port: int = 0, say: Callable[[str], None] = lambda line: None) -> Local:
    """Start a Label Studio for the workspace `home` on 127.0.0.1, or return the running one.

    `port` 0 takes the previous port if it is free, else any free one. The first start on a machine installs Label
    Studio (1 GB, minutes) and reports that through `say`. Failed when the server does not come up; its log has the
    reason.
    """
    if (found := running(home)) is not None:
        return found
    folder = home / "labeling"
    folder.mkdir(parents=True, exist_ok=True)
    program = _environment(say) / "bin" / "label-studio"
    data, kept = folder / "label-studio", _kept(home)
    if kept is None or not data.is_dir():
        template = _template(program, say)
        token, password = secrets.token_hex(20), secrets.token_urlsafe(12)
        with whole(data) as part:
            shutil.copytree(template, part)
            _make_own(part, token, password)
        kept = Local(url="", token=token, user=USER, password=password, pid=0)
    port = port or _free_port(int(kept.url.rpartition(":")[2] or 0) if kept.url else 0)
    pid = _launch(program, data, port, folder / "label-studio.log", [])
    local = replace(kept, url=f"http://127.0.0.1:{port}", pid=pid)
    _keep(home, local)
    _await(local.url, pid, folder / "label-studio.log")
    return local


def stop(home: Path) -> bool:
    """Stop the server of a workspace; False when none was running."""
    found = running(home)
    if found is None:
        return False
    _end(found.pid)
    return True


def running(home: Path) -> Local | None:
    """The server of a workspace; None when it is not running."""
    local = _kept(home)
    return local if local is not None and _runs(local) else None


def _kept(home: Path) -> Local | None:
    try:
        return Local(**json.loads((home / "labeling" / "server.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _keep(home: Path, local: Local) -> None:
    with whole(home / "labeling" / "server.json") as part:
        part.touch(mode=0o600)
        part.write_text(json.dumps(asdict(local), indent=1))


def _runs(local: Local) -> bool:
    """Whether the process is this server: process ids are reused."""
    try:
        words = Path(f"/proc/{local.pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return local.url.rpartition(":")[2].encode() in words


def _environment(say: Callable[[str], None]) -> Path:
    """The virtual environment with Label Studio, created on first use."""
    given = os.environ.get(ENVIRONMENT)
    name = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:8]
    folder = Path(given).resolve() if given else Path(platformdirs.user_cache_dir("amber")) / f"label-studio-{name}"
    if (folder / "bin" / "label-studio").exists() and (given or (folder / "ready").exists()):
        return folder
    if given:
        raise BadInput(f"{ENVIRONMENT} {given}: holds no bin/label-studio; install it there, or unset the variable")
    say(f"installing Label Studio into {folder} (1 GB, a few minutes, once)")
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for words in ([sys.executable, "-m", "venv", str(folder)], [*pip, "--requirement", str(REQUIREMENTS)]):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise Failed(f"{folder}: Label Studio was not installed ({last}); fix that and run the command again")
    (folder / "ready").touch()
    return folder


def _template(program: Path, say: Callable[[str], None]) -> Path:
    """A migrated, empty data folder beside the environment, created on first use."""
    template = program.parent.parent / "template"
    if not template.is_dir():
        say("making a template of its data folder (a minute, once)")
        with whole(template) as part:
            part.mkdir()
            user = ["--username", USER, "--password", secrets.token_hex(8), "--user-token", secrets.token_hex(20)]
            port, log = _free_port(0), part / "template.log"
            pid = _launch(program, part, port, log, user)
            try:
                _await(f"http://127.0.0.1:{port}", pid, log)
            finally:
                _end(pid)
    return template


def _make_own(data: Path, token: str, password: str) -> None:
    """Give a copy of the template its own session secret, token and password."""
    (data / ".env").unlink(missing_ok=True)
    salt, rounds = secrets.token_hex(11), 600_000
    key = base64.b64encode(hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), rounds)).decode()
    with closing(sqlite3.connect(data / "label_studio.sqlite3")) as connection, connection:
        connection.execute("UPDATE authtoken_token SET key = ?", [token])
        connection.execute("UPDATE htx_user SET password = ?", [f"pbkdf2_sha256${rounds}${salt}${key}"])
        connection.execute("UPDATE organization SET token = ?", [secrets.token_hex(20)])


def _launch(program: Path, data: Path, port: int, log: Path, more: list[str]) -> int:
    """Start the server in its own session, so that it outlives this process; returns its process id."""
    words = [str(program), "start", "--no-browser", "--data-dir", str(data), "--internal-host", "127.0.0.1",
             "--port", str(port), *more]  # fmt: skip
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    environment = {**os.environ, **SETTINGS, "HOME": str(data)}
    return os.posix_spawn(program, words, environment, file_actions=files, setsid=True)


def _await(url: str, pid: int, log: Path) -> None:
    deadline = time.monotonic() + STARTING
    while time.monotonic() < deadline and _alive(pid):
        with suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    _end(pid)
    raise Failed(f"{url}: Label Studio did not come up; see {log}")


def _end(pid: int) -> None:
    """Terminate a server; kill it when it does not end in time."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + STOPPING
        while time.monotonic() < deadline:
            if not _alive(pid):
                return
            time.sleep(0.05)


def _alive(pid: int) -> bool:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # our own child stays a zombie until it is waited for
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _free_port(wanted: int) -> int:
    """A free port, `wanted` if possible; on a busy port Label Studio would silently take the next one."""
    for port in (wanted, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise Failed("127.0.0.1: no port is free; end a process that listens there")
