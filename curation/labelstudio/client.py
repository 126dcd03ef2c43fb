"""A thin client of a Label Studio server: the dozen calls that push and pull need, made through its SDK.

The SDK would repeat a write up to twice when the connection breaks or the server answers 408, 409, 429 or 5xx. The
server may have done such a write, and a repeated import doubles its items. So the SDK repeats nothing here
(`max_retries=0`): this client repeats reads, and reports a write without a response as `Lost`.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from curation.errors import AmberError, BadInput, Failed, NotFound, not_installed
from curation.files.retries import Backoff, retried

if TYPE_CHECKING:
    import httpx

__all__ = ["Json", "LabelStudioClient", "Lost"]

Json = dict[str, Any]
Result = TypeVar("Result")

KNOWN: Final = ((1, 23), (2, 0))
"""Supported versions, from the first (included) to the second (excluded); the tests run the first."""

PAGE: Final = 500
"""Items per page: half a second of the server's time."""

KEYS_PAGE: Final = 2_000
"""Items per page when only ids and data are read."""

TIMEOUT: Final = 120.0
"""Seconds to wait for a response."""

COLUMNS: Final = "id,data,meta,updated_at,overlap,annotations,result,completed_by,was_cancelled,lead_time,created_at"
"""The fields to read. The server applies the list to items and to their annotations; all fields take eight times as
long."""

FIELDS: Final = ("id", "data", "meta", "overlap", "annotations")
"""The fields of an item that this client returns unchanged."""


class Lost(Failed):
    """A write whose outcome is unknown (time-out or lost response): read the server's state before repeating it."""


class _Unreadable(Failed):
    """A response that does not have the form that the SDK expects."""


class LabelStudioClient:
    """A client of the Label Studio at `url`. `token` is a legacy token or a personal access token.

    `name` (default: the URL) identifies the server in the catalog and stays the same when its URL changes.

    Reads are repeated for up to `patience` seconds while the server is busy or cannot be reached; writes are never
    repeated. BadInput when the server refuses the token or has an unsupported version; Failed when it cannot be
    reached.
    """

    def __init__(
        self, url: str, token: str, *, patience: float = 10.0, any_version: bool = False,
        name: str = "", transport: "httpx.BaseTransport | None" = None,
    ) -> None:  # fmt: skip
        self.url = url.rstrip("/")
        self.name = name or self.url
        if not self.url.startswith(("http://", "https://")):
            raise BadInput(f"{url}: not a URL of a Label Studio; give http://HOST:PORT")
        try:
            import httpx
            from label_studio_sdk import LabelStudio
            from label_studio_sdk.core import ApiError

            from curation.labelstudio.access_token import PersonalToken
        except ImportError as error:
            raise not_installed(error.name or "label_studio_sdk", "labeling") from error
        self._backoff = Backoff(first=0.1, longest=2.0, patience=patience)
        self._api_error, self._transport_error = ApiError, httpx.TransportError
        personal = token.count(".") == 2
        auth = PersonalToken(self.url, token) if personal else None
        self._http = httpx.Client(timeout=TIMEOUT, transport=transport, auth=auth)
        key = "" if personal else token  # the SDK would exchange a personal token itself
        self._sdk: Any = LabelStudio(base_url=self.url, api_key=key, max_retries=0, httpx_client=self._http)
        try:
            self.version = self._version(any_version)
        except BaseException:
            self._http.close()
            raise

    def __enter__(self) -> "LabelStudioClient":
        return self

    def __exit__(self, *raised: object) -> None:
        self._http.close()

    def clock(self) -> datetime:
        """The server's time, in UTC without a zone, in whole seconds."""
        headers = self._read("/api/version", lambda sdk: sdk.versions.with_raw_response.get().headers)
        date = headers.get("date")
        return (parsedate_to_datetime(date) if date else datetime.now(UTC)).astimezone(UTC).replace(tzinfo=None)

    def people(self) -> dict[int, str]:
        """E-mail addresses of the users by id."""
        users = self._read("/api/users", lambda sdk: sdk.users.list())
        return {int(user.id): str(user.email or f"label_studio:{user.id}") for user in users}

    def projects(self) -> list[Json]:
        """All projects, sorted by id: id, title, description, task_number."""
        fields = ("id", "title", "description", "task_number")
        found: list[Json] = []
        page, more = 1, True
        while more:
            query = {"page": page, "page_size": 100, "include": ",".join(fields)}
            answer = self._read("/api/projects", lambda sdk, query=query: sdk.projects.list(**query))  # type: ignore[misc]
            found += [{field: getattr(project, field, None) for field in fields} for project in answer.items]
            page, more = page + 1, bool(answer.response.next)
        return sorted(found, key=lambda project: int(project["id"]))

    def config(self, project: int) -> str:
        """The labelling config of a project."""
        return str(self._read(f"/api/projects/{project}", lambda sdk: sdk.projects.get(project)).label_config)

    def make_project(self, settings: Json) -> Json:
        """Create a project with these settings."""
        made = self._write("/api/projects", lambda sdk: sdk.projects.create(**settings))
        return {"id": made.id, "title": made.title, "description": made.description}

    def add_items(self, project: int, items: Sequence[Json]) -> int:
        """Import items (data, meta, predictions), all or none; returns how many were imported."""
        where = f"/api/projects/{project}/import"
        return int(self._write(where, lambda sdk: sdk.projects.import_tasks(project, request=list(items))).task_count)

    def change_item(self, item: int, fields: Json) -> None:
        """Change fields of an item, such as its overlap; does nothing when the item was deleted."""
        with suppress(NotFound):
            self._write(f"/api/tasks/{item}", lambda sdk: sdk.tasks.update(str(item), **fields))

    def remove_item(self, item: int) -> None:
        """Delete an item; does nothing when it was deleted already."""
        with suppress(NotFound):
            self._write(f"/api/tasks/{item}", lambda sdk: sdk.tasks.delete(str(item)))

    def changed_items(self, project: int, since: str) -> Iterator[list[Json]]:
        """Pages of the items that were added or changed after `since` (ISO 8601; "" for all), oldest change first.

        Each page starts at the time of the last item seen, not at a page number. So an item that changes meanwhile
        appears again, and shifts no other item out of the pages.
        """
        size = PAGE
        while True:
            page = self._items(project, since, size)
            if page:
                yield page
            if len(page) < size:
                return
            seen = str(page[-1]["updated_at"])
            size, since = (PAGE, seen) if seen != since else (2 * size, since)

    def keys(self, project: int, field: str) -> dict[int, str]:
        """The value of a data field of every item of a project, by item id."""
        found: dict[int, str] = {}
        page, full = 1, True
        while full:
            query = {"project": project, "fields": "task_only", "include": "id,data", "page": page,
                     "page_size": KEYS_PAGE}  # fmt: skip
            try:
                answer = self._read("/api/tasks", lambda sdk, query=query: sdk.tasks.list(**query))  # type: ignore[misc]
            except NotFound:
                break  # the last page was full
            found |= {int(item.id): str(item.data.get(field, "")) for item in answer.items}
            page, full = page + 1, len(answer.items) == KEYS_PAGE
        return found

    def views(self, project: int) -> set[str]:
        """The titles of a project's views (tabs)."""
        found = self._read("/api/dm/views", lambda sdk: sdk.views.list(project=project))
        return {str((getattr(view, "data", None) or {}).get("title", "")) for view in found}

    def add_view(self, project: int, title: str, field: str, text: str) -> None:
        """Add a view of the items whose data field holds `text`, the lowest prediction score first."""
        rule = {"filter": f"filter:tasks:data.{field}", "operator": "contains", "type": "String", "value": text}
        data = {
            "title": title, "filters": {"conjunction": "and", "items": [rule]}, "ordering": ["tasks:predictions_score"],
        }  # fmt: skip
        self._write("/api/dm/views", lambda sdk: sdk.views.create(project=project, data=data))

    def hooks(self, project: int) -> list[Json]:
        """The webhooks of a project: id and url."""
        hooks = self._read("/api/webhooks", lambda sdk: sdk.webhooks.list(project=str(project)))
        return [{"id": hook.id, "url": hook.url, "headers": hook.headers} for hook in hooks]

    def add_hook(self, project: int, url: str, headers: Mapping[str, str]) -> None:
        """Call `url` when an annotation is added, changed or deleted."""
        actions = ["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"]
        settings = {"project": project, "url": url, "headers": dict(headers), "send_payload": False,
                    "send_for_all_actions": False, "actions": actions}  # fmt: skip
        self._write("/api/webhooks", lambda sdk: sdk.webhooks.create(**settings))

    def remove_hook(self, hook: int) -> None:
        """Delete a webhook."""
        self._write(f"/api/webhooks/{hook}", lambda sdk: sdk.webhooks.delete(hook))

    def _items(self, project: int, since: str, size: int) -> list[Json]:
        """The first page of items that changed after `since`, by time of change."""
        rule = {"filter": "filter:tasks:updated_at", "operator": "greater", "type": "Datetime", "value": since}
        filters = {"conjunction": "and", "items": [rule] if since else []}
        query = {
            "project": project, "page": 1, "page_size": size, "fields": "all", "include": COLUMNS,
            "query": json.dumps({"filters": filters, "ordering": ["tasks:updated_at"]}),
        }  # fmt: skip
        answer = self._read("/api/tasks", lambda sdk: sdk.tasks.list(**query))
        return [
            {**{field: getattr(item, field, None) for field in FIELDS}, "updated_at": _text(item.updated_at)}
            for item in answer.items
        ]

    def _version(self, any_version: bool) -> str:
        try:
            answer = self._read("/api/version", lambda sdk: sdk.versions.get())
            version = str(getattr(answer, "release", None) or "")
        except _Unreadable:
            version = ""
        parts = version.split(".")
        known = all(part.isdigit() for part in parts[:2]) and KNOWN[0] <= tuple(map(int, parts[:2])) < KNOWN[1]
        if not known and not any_version:
            raise BadInput(
                f"{self.url}: Label Studio {version or 'without a version'}; Amber supports 1.23 and later 1.x; "
                "use one of these, or pass --any-version"
            )
        return version

    def _read(self, path: str, call: Callable[[Any], Result]) -> Result:
        """Make a read call, and repeat it while the server is busy or cannot be reached."""

        def once() -> Result | _Unreadable:
            try:
                return self._call(path, call)
            except _Unreadable as error:
                return error  # another try would not help

        found = retried(once, Failed, self._backoff)
        if isinstance(found, _Unreadable):
            raise found
        return found

    def _write(self, path: str, call: Callable[[Any], Result]) -> Result:
        try:
            return self._call(path, call)
        except Failed as error:
            raise Lost(str(error)) from error

    def _call(self, path: str, call: Callable[[Any], Result]) -> Result:
        """Call the SDK once."""
        try:
            return call(self._sdk)
        except self._api_error as error:
            raise self._error(path, error.status_code, error.body) from error
        except self._transport_error as error:
            raise Failed(f"{self.url}: cannot be reached ({error}); start it, or correct the URL") from error
        except (KeyError, TypeError, ValueError) as error:
            raise _Unreadable(f"{self.url}{path}: not a response of Label Studio; check the URL") from error

    def _error(self, path: str, status: int | None, body: Any) -> AmberError:
        """The error for a response with this status; check the status first, since error bodies have an `id` too."""
        where = f"{self.url}{path}"
        if status is None or status < 400:
            return _Unreadable(f"{where}: not a response of Label Studio ({status}); check the URL")
        if status in (401, 403):
            return BadInput(f"{where}: the token was refused ({status}); create a new one on the account page")
        if status == 404:
            return NotFound(f"{where}: not found; was the project deleted?")
        if status >= 500 or status == 429:
            return Failed(f"{where}: the server failed ({status}); run the command again")
        return BadInput(f"{where}: refused ({status}: {_detail(body)}); correct that")


def _text(at: datetime) -> str:
    """A time as the server writes it: ISO 8601 in UTC, with Z."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _detail(body: Any) -> str:
    detail = body.get("validation_errors") or body.get("detail") or body if isinstance(body, Mapping) else body
    return " ".join(str(detail).split())[:200]
