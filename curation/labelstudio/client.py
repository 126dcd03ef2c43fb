"""A thin client of Label Studio's REST API: the dozen calls that push and pull need.

httpx, not Label Studio's own SDK: that one brings 60 packages (pandas, OpenCV, NLTK), repeats a write that timed out,
which doubles items, and has no call for the incremental read.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from curation.errors import AmberError, BadInput, Failed, NotFound
from curation.files.retries import Backoff, retried

if TYPE_CHECKING:
    import httpx

__all__ = ["Json", "LabelStudioClient", "Lost"]

Json = dict[str, Any]

KNOWN: Final = ((1, 23), (2, 0))
"""Supported versions, from the first (included) to the second (excluded); the tests run the first."""

PAGE: Final = 500
"""Items per page: half a second of the server's time."""

COLUMNS: Final = "id,data,meta,updated_at,overlap,annotations,result,completed_by,was_cancelled,lead_time,created_at"
"""The fields to read. The server applies the list to items and to their annotations; all fields take eight times as
long."""


class Lost(Failed):
    """A write whose outcome is unknown (time-out or lost response): read the server's state before repeating it."""


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
        import httpx  # of the extra `labeling`

        self.url = url.rstrip("/")
        self.name = name or self.url
        self._token = token
        self._backoff = Backoff(first=0.1, longest=2.0, patience=patience)
        self._errors = httpx.TransportError
        if not self.url.startswith(("http://", "https://")):
            raise BadInput(f"{url}: not a URL of a Label Studio; give http://HOST:PORT")
        self._client = httpx.Client(base_url=self.url, timeout=120, transport=transport)
        self._client.headers["Authorization"] = f"Token {token}"
        try:
            if token.count(".") == 2:
                self._renew()
            self.version = self._version(any_version)
        except AmberError:
            self._client.close()
            raise

    def __enter__(self) -> "LabelStudioClient":
        return self

    def __exit__(self, *raised: object) -> None:
        self._client.close()

    def clock(self) -> datetime:
        """The server's time, in UTC without a zone, in whole seconds."""
        date = self._ask("GET", "/health").headers.get("date")
        return (parsedate_to_datetime(date) if date else datetime.now(UTC)).astimezone(UTC).replace(tzinfo=None)

    def people(self) -> dict[int, str]:
        """E-mail addresses of the users by id."""
        return {
            int(user["id"]): str(user.get("email") or f"label_studio:{user['id']}") for user in self._get("/api/users/")
        }

    def projects(self) -> list[Json]:
        """All projects, sorted by id: id, title, description, task_number."""
        found: list[Json] = []
        fields = "id,title,description,task_number"
        while True:
            asked = {"page_size": 100, "page": 1 + len(found) // 100, "include": fields}
            page = self._get("/api/projects/", asked)
            found += page["results"]
            if not page.get("next"):
                return sorted(found, key=lambda project: int(project["id"]))

    def config(self, project: int) -> str:
        """The labelling config of a project."""
        return str(self._get(f"/api/projects/{project}")["label_config"])

    def make_project(self, settings: Json) -> Json:
        """Create a project with these settings."""
        return dict(self._write("POST", "/api/projects/", settings).json())

    def add_items(self, project: int, items: Sequence[Json]) -> int:
        """Import items (data, meta, predictions), all or none; returns how many were imported."""
        return int(self._write("POST", f"/api/projects/{project}/import", list(items)).json()["task_count"])

    def change_item(self, item: int, fields: Json) -> None:
        """Change fields of an item, such as its overlap; does nothing when the item was deleted."""
        with suppress(NotFound):
            self._write("PATCH", f"/api/tasks/{item}", fields)

    def remove_item(self, item: int) -> None:
        """Delete an item; does nothing when it was deleted already."""
        with suppress(NotFound):
            self._write("DELETE", f"/api/tasks/{item}")

    def changed_items(self, project: int, since: str) -> Iterator[list[Json]]:
        """Pages of the items that were added or changed after `since` (ISO 8601; "" for all), oldest change first.

        Each page starts at the time of the last item seen, not at a page number. So an item that changes meanwhile
        appears again, and shifts no other item out of the pages.
        """
        size = PAGE
        while True:
            rule = {"filter": "filter:tasks:updated_at", "operator": "greater", "type": "Datetime", "value": since}
            query = {
                "filters": {"conjunction": "and", "items": [rule] if since else []},
                "ordering": ["tasks:updated_at"],
            }
            asked = {"project": project, "page": 1, "page_size": size, "query": json.dumps(query)}
            page: list[Json] = self._get("/api/tasks", {**asked, "fields": "all", "include": COLUMNS})["tasks"]
            if page:
                yield page
            if len(page) < size:
                return
            seen = str(page[-1]["updated_at"])
            size, since = (PAGE, seen) if seen != since else (2 * size, since)

    def keys(self, project: int, field: str) -> dict[int, str]:
        """The value of a data field of every item of a project, by item id."""
        found: dict[int, str] = {}
        page = 1
        while True:
            asked = {"project": project, "fields": "task_only", "include": "id,data", "page": page, "page_size": 2_000}
            try:
                items = self._get("/api/tasks", asked)["tasks"]
            except NotFound:
                return found  # the last page was full
            found |= {int(item["id"]): str(item["data"].get(field, "")) for item in items}
            if len(items) < 2_000:
                return found
            page += 1

    def hooks(self, project: int) -> list[Json]:
        """The webhooks of a project."""
        return list(self._get("/api/webhooks/", {"project": project}))

    def add_hook(self, project: int, url: str, headers: Mapping[str, str]) -> None:
        """Call `url` when an annotation is added, changed or deleted."""
        actions = ["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"]
        settings = {"project": project, "url": url, "headers": dict(headers), "send_payload": False,
                    "send_for_all_actions": False, "actions": actions}  # fmt: skip
        self._write("POST", "/api/webhooks/", settings)

    def remove_hook(self, hook: int) -> None:
        """Delete a webhook."""
        self._write("DELETE", f"/api/webhooks/{hook}/")

    def _version(self, any_version: bool) -> str:
        release = self._get("/api/version")
        version = str(release.get("release", "")) if isinstance(release, dict) else ""
        parts = version.split(".")
        known = all(part.isdigit() for part in parts[:2]) and KNOWN[0] <= tuple(map(int, parts[:2])) < KNOWN[1]
        if not known and not any_version:
            raise BadInput(
                f"{self.url}: Label Studio {version or 'without a version'}; Amber supports 1.23 and later 1.x; "
                "use one of these, or pass --any-version"
            )
        return version

    def _renew(self) -> None:
        """Exchange the personal access token for an access token, which is valid for five minutes."""
        answer = self._ask("POST", "/api/token/refresh", {"refresh": self._token}, renew=False)
        self._client.headers["Authorization"] = f"Bearer {self._checked(answer).json()['access']}"

    def _get(self, path: str, asked: Mapping[str, Any] | None = None) -> Any:
        return retried(lambda: self._checked(self._ask("GET", path, params=asked)).json(), Failed, self._backoff)

    def _write(self, method: str, path: str, body: Any = None) -> "httpx.Response":
        try:
            return self._checked(self._ask(method, path, body))
        except Failed as error:
            raise Lost(str(error)) from error

    def _ask(
        self, method: str, path: str, body: Any = None, *, params: Mapping[str, Any] | None = None, renew: bool = True
    ) -> "httpx.Response":
        try:
            answer = self._client.request(method, path, params=params, json=body)
        except self._errors as error:
            raise Failed(f"{self.url}: cannot be reached ({error}); start it, or correct the URL") from error
        if answer.status_code == 401 and renew and self._token.count(".") == 2:
            self._renew()
            return self._ask(method, path, body, params=params, renew=False)
        return answer

    def _checked(self, answer: "httpx.Response") -> "httpx.Response":
        """The response, unless its status is an error; check the status first, since error bodies have an `id` too."""
        status, where = answer.status_code, f"{self.url}{answer.request.url.path}"
        if status < 400:
            return answer
        if status in (401, 403):
            raise BadInput(f"{where}: the token was refused ({status}); create a new one on the account page")
        if status == 404:
            raise NotFound(f"{where}: not found; was the project deleted?")
        if status >= 500 or status == 429:
            raise Failed(f"{where}: the server failed ({status}); run the command again")
        raise BadInput(f"{where}: refused ({status}: {_detail(answer)}); correct that")


def _detail(answer: "httpx.Response") -> str:
    try:
        body = answer.json()
    except ValueError:
        return answer.reason_phrase
    return " ".join(str(body.get("validation_errors") or body.get("detail") or body).split())[:200]
