"""What is to be sent, and what was sent: `notices/outbox.json`, with mode 0600.

A notice goes to a target once: a delivery that succeeded is recorded before the next one begins, and one that failed is
tried again, later each time. A process that is killed between the two sends it again, with the same id in its header:
at least once, and at most once after a success is recorded.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any, Final, Literal

from amber.notices.choices import FOLDER, Channel, Choice, Choices
from amber.notices.conversation import Refused
from amber.notices.events import notices_since
from amber.notices.notice import TEST, Notice
from amber.notices.settings import Settings
from amber.service.secret_files import write_secret
from curation.catalog.catalog import Catalog
from curation.errors import AmberError
from curation.files.locks import locked
from curation.files.read_back import read_json
from curation.files.retries import Backoff

__all__ = ["LONGEST", "Delivery", "Outbox", "Sending", "Sent", "send", "send_by", "send_test"]

FORMAT: Final = 1
BACKOFF: Final = Backoff(first=60.0, longest=6 * 3600.0)
"""Between two tries of a delivery."""
LONGEST: Final = timedelta(days=3)
"""After so long without success a delivery is given up."""
KEPT: Final = 1_000
"""Ended deliveries that stay listed, beside those of the newest commits."""
AFTER: Final = ("share", "waiting", "dry")
"""Kinds that may follow the newest commit without a commit of their own, as a plan does: it is looked at again."""
OVERLAP: Final = 1
"""Commits that are looked at again."""

State = Literal["open", "sent", "failed"]


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A notice on its way to a target, because of a `choice`.

    It was queued at `queued`; after `tries` tries it is "sent", or "failed" for good, at `ended`, or "open" and due at
    `due`. `error` is the line of the last try that failed. All times are in UTC.
    """

    notice: Notice
    choice: str
    channel: Channel
    target: str
    queued: datetime
    due: datetime
    tries: int = 0
    state: State = "open"
    error: str = ""
    ended: datetime | None = None

    @property
    def key(self) -> tuple[str, str]:
        """The id of the notice, and the target: no two deliveries have the same."""
        return self.notice.id, self.target

    def succeeded(self, at: datetime) -> "Delivery":
        """The delivery after a try that went well."""
        return replace(self, tries=self.tries + 1, state="sent", error="", ended=at)

    def failed(self, error: AmberError, at: datetime) -> "Delivery":
        """The delivery after a try that failed: due again, or failed for good where `Refused`, or after `LONGEST`."""
        tried = replace(self, tries=self.tries + 1, error=str(error))
        if isinstance(error, Refused) or at - self.queued >= LONGEST:
            return replace(tried, state="failed", ended=at)
        return replace(tried, due=at + timedelta(seconds=BACKOFF.wait(tried.tries)))


class Outbox:
    """The deliveries of a workspace, and the commit up to which notices were looked for (None: never)."""

    def __init__(self, home: Path) -> None:
        self._path = home / FOLDER / "outbox.json"
        self.seen: int | None = None
        self._deliveries: dict[tuple[str, str], Delivery] = {}
        if self._path.is_file():
            self.seen, rows = read_json(
                self._path, "remove it; all that happened since each choice is sent again", _parts
            )
            self._deliveries = {row.key: row for row in rows}

    def all(self) -> list[Delivery]:
        """All deliveries, in the order in which they were queued."""
        return list(self._deliveries.values())

    def due(self, at: datetime) -> list[Delivery]:
        """Open deliveries whose next try is due."""
        return [each for each in self._deliveries.values() if each.state == "open" and each.due <= at]

    def queue(self, notices: Sequence[Notice], choices: Sequence[Choice], at: datetime) -> None:
        """Queue each notice for everybody who chose it; one that is known for a target stays as it is."""
        for notice, choice in product(notices, choices):
            if choice.wants(notice):
                made = Delivery(
                    notice=notice, choice=choice.id, channel=choice.channel, target=choice.target, queued=at, due=at
                )
                self._deliveries.setdefault(made.key, made)

    def put(self, deliveries: Sequence[Delivery]) -> None:
        """Record what became of deliveries."""
        self._deliveries |= {each.key: each for each in deliveries}

    def follow(self, choices: Sequence[Choice]) -> None:
        """Forget open deliveries whose choice has ended, unless another choice of the target wants the notice too."""
        made = {each.id for each in choices}
        for key, each in list(self._deliveries.items()):
            if each.state != "open" or each.choice in made:
                continue
            other = next((part for part in choices if part.target == each.target and part.wants(each.notice)), None)
            if other is None:
                del self._deliveries[key]
            else:
                self._deliveries[key] = replace(each, choice=other.id)

    def save(self) -> None:
        """Write it, whole or not at all. Old deliveries that ended are forgotten: their notices are not found again."""
        rows = self.all()
        oldest = (self.seen or 0) - OVERLAP
        listed = {row.key for row in [row for row in rows if row.state != "open"][-KEPT:]}
        kept = [row for row in rows if row.state == "open" or row.key in listed or row.notice.commit >= oldest]
        self._deliveries = {row.key: row for row in kept}
        data = {"format": FORMAT, "seen": self.seen, "deliveries": [_as_json(row) for row in kept]}
        write_secret(self._path, json.dumps(data, indent=1))


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What one `send` did: the deliveries that it tried, what could not be judged, and why it could not look for new
    notices ("": it did)."""

    tried: tuple[Delivery, ...]
    notes: tuple[str, ...]
    error: str = ""

    @property
    def failures(self) -> tuple[Delivery, ...]:
        """Those that were not sent."""
        return tuple(each for each in self.tried if each.state != "sent")

    @property
    def well(self) -> bool:
        """Whether new notices were looked for, and everything that was due was sent."""
        return not self.error and not self.failures


Sending = Callable[[Sequence[Notice], Choice, Settings], None]
"""Sends notices to the target of a choice; raises an AmberError: `Refused` where trying again is of no use."""


def send_by(notices: Sequence[Notice], choice: Choice, settings: Settings) -> None:
    """Send notices by the channel of a choice."""
    if choice.channel == "mail":
        from amber.notices.mail import send_mail

        send_mail(notices, choice.target, settings)
    else:
        from amber.notices.webhook import post

        for notice in notices:
            post(notice, choice.target, choice.secret, settings)


def send(catalog: Catalog, *, sending: Sending = send_by, at: datetime | None = None) -> Sent:
    """Look for new notices, and send all that is due, each as its person chose; what fails stops nothing else.

    Mails to one address are sent as one. `at` is the time (default: now). Busy while another process sends from the
    workspace; BadInput where the settings break a rule.
    """
    home, settings = catalog.home, Settings.load(catalog.home)
    if not (home / FOLDER).is_dir():
        return Sent(tried=(), notes=())
    busy = f"{home}: {{}} sends its notices; wait for it, or end it"
    with locked(home / FOLDER / "send.lock", busy.format):
        choices, outbox = Choices(home).all(), Outbox(home)
        outbox.follow(choices)
        notes, error = _look(catalog, outbox, choices, at or _now())
        outbox.save()
        by_id, tried = {each.id: each for each in choices}, list[Delivery]()
        for batch in _batches(outbox.due(at or _now())):
            ended = _tried(batch, by_id[batch[0].choice], settings, sending, at)
            outbox.put(ended)
            outbox.save()
            tried += ended
    return Sent(tried=tuple(tried), notes=tuple(notes), error=error)


def send_test(catalog: Catalog, choice: Choice, *, sending: Sending = send_by) -> None:
    """Send a notice of the kind "test" to a choice; it is not recorded. Raises what the channel raises."""
    with catalog.read() as now:
        commit = now.commit
    notice = Notice(
        kind=TEST, subject=f"a test for {choice.person}", text="notices that you chose will arrive like this one",
        link="", command="amber notices", commit=commit, at=_now(),
    )  # fmt: skip
    sending([notice], choice, Settings.load(catalog.home))


def _look(catalog: Catalog, outbox: Outbox, choices: Sequence[Choice], at: datetime) -> tuple[list[str], str]:
    """Queue what happened since notices were last looked for; what could not be judged, and an error that prevented it:
    then the next call looks again, and what is due is sent all the same."""
    kinds = {kind for each in choices for kind in each.kinds}
    try:
        with catalog.read() as now:
            since = min((each.commit for each in choices), default=now.commit) if outbox.seen is None else outbox.seen
            found, notes = notices_since(now, catalog.home, since, kinds=kinds.difference(AFTER))
            found += notices_since(now, catalog.home, max(0, since - OVERLAP), kinds=kinds.intersection(AFTER))[0]
    except AmberError as error:
        return [], f"new notices were not looked for: {error}"
    outbox.seen = now.commit
    outbox.queue(found, choices, at)
    return notes, ""


def _tried(
    batch: Sequence[Delivery], choice: Choice, settings: Settings, sending: Sending, at: datetime | None
) -> list[Delivery]:
    try:
        sending([each.notice for each in batch], choice, settings)
    except AmberError as error:
        return [each.failed(error, at or _now()) for each in batch]
    return [each.succeeded(at or _now()) for each in batch]


def _batches(due: Sequence[Delivery]) -> Iterator[list[Delivery]]:
    """What is sent together: the mails to one address, everything else alone."""
    mails: dict[str, list[Delivery]] = {}
    for each in due:
        if each.channel == "mail":
            mails.setdefault(each.target, []).append(each)
        else:
            yield [each]
    yield from mails.values()


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _as_json(row: Delivery) -> dict[str, Any]:
    times = {
        name: at and at.isoformat() for name, at in (("queued", row.queued), ("due", row.due), ("ended", row.ended))
    }
    return {**vars(row), **times, "notice": row.notice.as_json()}


def _parts(data: dict[str, Any]) -> tuple[int | None, list[Delivery]]:
    if data["format"] != FORMAT:
        raise ValueError(f"its format is {data['format']!r}, this Amber knows {FORMAT}")
    return data["seen"], [_delivery(row) for row in data["deliveries"]]


def _delivery(row: dict[str, Any]) -> Delivery:
    times = {name: row[name] and datetime.fromisoformat(row[name]) for name in ("queued", "due", "ended")}
    return Delivery(**{**row, **times, "notice": Notice.of_json(row["notice"])})
