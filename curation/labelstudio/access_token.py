"""Access tokens: exchange a personal access token for the tokens, valid for five minutes, that requests carry.

The SDK's own exchange does not renew an access token that the server refuses before it expires, and calls a deprecated
function of pydantic.
"""

from collections.abc import Generator

import httpx

from curation.errors import BadInput, Failed

__all__ = ["PersonalToken"]


class PersonalToken(httpx.Auth):
    """Authorizes requests by a personal access token of the server at `url`."""

    requires_response_body = True

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = f"{url}/api/token/refresh/", token
        self._access = ""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add an access token to a request; if the server refuses it, renew it once and send the request again."""
        if not self._access:
            yield from self._exchange()
        request.headers["Authorization"] = f"Bearer {self._access}"
        response = yield request
        if response.status_code == 401:  # refused, so a write was not done
            yield from self._exchange()
            request.headers["Authorization"] = f"Bearer {self._access}"
            yield request

    def _exchange(self) -> Generator[httpx.Request, httpx.Response, None]:
        response = yield httpx.Request("POST", self._url, json={"refresh": self._token})
        if response.status_code in (401, 403):
            reason = f"the token was refused ({response.status_code})"
            raise BadInput(f"{self._url}: {reason}; create a new one on the account page")
        if response.status_code >= 300:
            raise Failed(f"{self._url}: the server failed ({response.status_code}); run the command again")
        self._access = str(response.json()["access"])
