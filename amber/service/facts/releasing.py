"""A release that goes on in the background: one at a time, with its state for whoever looks."""

import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from curation.catalog.catalog import Catalog
from curation.catalog.ownership import Identity
from curation.errors import AmberError, Busy
from training.judging.gate_rules import GateRules

__all__ = ["Releasing", "Working"]

PATIENCE: Final = 8.0
"""Seconds that the service waits for a release when it stops."""

LOG: Final = logging.getLogger("amber.service")


@dataclass(frozen=True, kw_only=True)
class Working:
    """A release: of which run, by whom, what was `asked` (the rules as TOML, against, notes), and how far: `done` of
    `total` steps.

    `outcome` is "" while it goes on, "released", "deployed already", "block" or "not enough data" where the gate did
    not pass, or "failed" with the `line`. `gate` is the gate's report as plain values, where it decided.
    """

    run: str
    by: str
    started: float
    asked: dict[str, str]
    done: int = 0
    total: int = 4
    outcome: Literal["", "released", "deployed already", "block", "not enough data", "failed"] = ""
    line: str = ""
    gate: dict[str, Any] | None = None

    @property
    def seconds(self) -> int:
        """Seconds since it began."""
        return int(time.time() - self.started)


class Releasing:
    """The release that goes on, or the last one that did."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.now: Working | None = None

    def begin(self, run: str, rules: str, *, by: Identity, author: str, against: str = "", notes: str = "") -> Working:
        """Begin to release `run` (a whole id) by the TOML text `rules`, as `amber release` does.

        BadInput for rules that cannot be read; Busy while another release goes on.
        """
        parsed = GateRules.of_text(rules)
        with self._lock:
            if self.now and not self.now.outcome:
                raise Busy(f"release of {run}: run {self.now.run} is being released; wait for it")
            asked = {"against": against, "notes": notes}
            self.now = Working(run=run, by=author, started=time.time(), asked={"rules": rules, **asked})
            words = {"by": by, "author": author, **asked}
            self._thread = threading.Thread(
                target=self._work, args=(run, parsed, words), name="amber-release", daemon=True
            )
            self._thread.start()
            return self.now

    def close(self) -> None:
        """Wait a moment for the release that goes on; one that is cut off leaves nothing that is deployed."""
        if self._thread is not None:
            self._thread.join(PATIENCE)

    def _work(self, run: str, rules: GateRules, words: dict[str, Any]) -> None:
        try:
            from amber.release import release

            done = release(self._catalog, run, rules, home=str(self._catalog.home), progress=self._tell, **words)
        except AmberError as error:
            self._note(outcome="failed", line=str(error))
        except Exception as error:
            LOG.exception("releasing failed")
            self._note(outcome="failed", line=f"{type(error).__name__}: {error}")
        else:
            decision = done.decision
            outcome = (
                "deployed already" if decision is None else "released" if done.pointer else decision.result.outcome
            )
            self._note(outcome=outcome, gate=decision.view if decision else None)

    def _tell(self, done: int, total: int) -> None:
        self._note(done=done, total=total)

    def _note(self, **words: Any) -> None:
        assert self.now
        self.now = replace(self.now, **words)
