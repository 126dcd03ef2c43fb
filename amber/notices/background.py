"""Sending notices beside the service, in a thread of its process."""

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from amber.notices.outbox import Sent, send
from curation.catalog.catalog import Catalog
from curation.errors import AmberError

__all__ = ["EVERY", "sending"]

EVERY: Final = 60.0
"""Seconds between two looks for new notices."""
PATIENCE: Final = 5.0
"""Seconds that a delivery gets to end when the service stops; what it then had not recorded is sent again."""

LOG = logging.getLogger(__name__)


@contextmanager
def sending(home: Path, *, every: float = EVERY) -> Iterator[None]:
    """While the block runs, send the notices of the workspace `home` every `every` seconds; failures are logged."""
    ended = threading.Event()
    thread = threading.Thread(target=_send_until, args=(ended, home, every), daemon=True, name="amber-notices")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(PATIENCE)


def _send_until(ended: threading.Event, home: Path, every: float) -> None:
    catalog = Catalog.open(home)
    while True:
        try:
            _log(send(catalog))
        except AmberError as error:
            LOG.warning(json.dumps({"notices": str(error)}))
        except Exception:  # the next look may go well; without a line here, nobody would know of it
            LOG.exception("notices")
        if ended.wait(every):
            return


def _log(done: Sent) -> None:
    lines = [*done.notes, *([done.error] if done.error else []), *(each.error for each in done.failures)]
    for line in lines:
        LOG.warning(json.dumps({"notices": line}))
    if done.tried:
        LOG.info(json.dumps({"notices_sent": len(done.tried) - len(done.failures)}))
