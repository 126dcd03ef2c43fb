"""The service as one ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException as NoRoute
from starlette.middleware.trustedhost import TrustedHostMiddleware

from amber.service.access import Admin, Reader, Workspace
from amber.service.facts.run_work import RunWork
from amber.service.images.answers import Images
from amber.service.images.forgotten import Forgotten
from amber.service.images.pictures import Pictures
from amber.service.images.signed_urls import Signer
from amber.service.kept import Kept, stamp_of
from amber.service.metrics import Metrics
from amber.service.middleware import Capacity, Watch
from amber.service.models.ledger import Health
from amber.service.pages import shown
from amber.service.pages.accounts import NotSignedIn, from_here
from amber.service.pages.rendering import message
from amber.service.pages.signing_in import form_without_session
from amber.service.routes import (
    labels,
    ledger,
    log,
    people,
    picked,
    plans,
    releases,
    requests,
    runs,
    sign_offs,
    slices,
    standing,
)
from amber.service.routes.docs_page import docs_page
from amber.service.tokens import Tokens
from curation.catalog.catalog import Catalog
from curation.errors import AmberError, Busy, NotFound

__all__ = ["ROUTERS", "make_app"]

MACHINE: Final = ("/api/", "/images/", "/health", "/metrics", "/openapi.json", "/docs", "/static/", "/events/")
"""What the paths begin with that are not read by people in a browser."""

DESCRIPTION = "Images under signed URLs, and what the catalog knows. Every route but /health needs a token."

router = APIRouter()


def make_app(
    home: Path | str, *, hosts: tuple[str, ...] = ("127.0.0.1", "localhost"), user_header: str = ""
) -> FastAPI:
    """The service of the workspace at `home`. It refuses requests whose Host header is not in `hosts`.

    `user_header` names the header by which a proxy says who has signed in there, as the name of a token; "" trusts
    none. `app.state` holds its `workspace`, its `metrics`, its `pictures`, what its pages have `counted`, and the
    `work` behind the pages of runs.
    """
    catalog = Catalog.open(home)
    workspace = Workspace(catalog=catalog, signer=Signer.of(catalog.home), tokens=Tokens(catalog.home))
    metrics, pictures = Metrics(), Pictures()
    counted, work = shown.counted(catalog), RunWork(workspace)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        counted.close()
        work.close()

    app = FastAPI(
        title="Amber", version="1", docs_url=None, redoc_url=None, openapi_url=None, description=DESCRIPTION,
        lifespan=life,
    )  # fmt: skip
    app.state.workspace, app.state.metrics, app.state.pictures = workspace, metrics, pictures
    app.state.counted, app.state.user_header, app.state.work = counted, user_header, work
    forgotten = Forgotten(catalog.home, workspace.signer)
    app.add_middleware(Capacity, metrics=metrics)
    app.add_middleware(Kept, stamp=partial(stamp_of, catalog))
    app.add_middleware(Images, signer=workspace.signer, pictures=pictures, forgotten=forgotten)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.add_middleware(Watch, metrics=metrics)
    app.add_exception_handler(AmberError, _amber_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(NoRoute, _http_error)
    app.add_exception_handler(NotSignedIn, _not_signed_in)
    for part in ROUTERS:
        app.include_router(part)
    for part in shown.ROUTERS:
        app.include_router(part, dependencies=[Depends(from_here)])
    return app


@router.get("/health")
async def health() -> Health:
    """Whether the service is up; needs no token."""
    return Health()


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(token: Admin, request: Request) -> Any:
    """Metrics for Prometheus; needs a token of the scope admin."""
    return PlainTextResponse(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/openapi.json", include_in_schema=False)
def document(token: Reader, request: Request) -> Any:
    return JSONResponse(request.app.openapi())


@router.get("/docs", include_in_schema=False)
def docs(token: Reader, request: Request) -> Any:
    return HTMLResponse(docs_page(request.app.openapi()))


ROUTERS: Final = (
    router, ledger.router, requests.router, labels.router, picked.router, plans.router, sign_offs.router,
    people.router, runs.router, releases.router, log.router, slices.router, standing.router,
)  # fmt: skip
"""The routes for machines."""


async def _amber_error(request: Request, error: Exception) -> Response:
    """An error that a user can cause, as its one line: 404 not found, 503 busy, 409 anything else."""
    status = 503 if isinstance(error, Busy) else 404 if isinstance(error, NotFound) else 409
    answer = _said(request, _sendable(str(error)), status)
    if status == 503:
        answer.headers["Retry-After"] = "5"
    return answer


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, NoRoute)
    answer = _said(request, str(error.detail), error.status_code)
    answer.headers.update(error.headers or {})
    return answer


async def _invalid_request(request: Request, error: Exception) -> Response:
    """What does not fit the schema, without the input itself: it may hold NaN or text that JSON cannot express."""
    assert isinstance(error, RequestValidationError)
    rows = [
        {"type": row["type"], "loc": [_sendable(part) for part in row["loc"]], "msg": _sendable(row["msg"])}
        for row in error.errors()
    ]
    if _is_page(request):
        return _said(request, "; ".join(f"{row['loc'][-1]}: {row['msg']}" for row in rows), 422)
    return JSONResponse({"detail": rows}, 422)


async def _not_signed_in(request: Request, error: Exception) -> Response:
    if not _is_page(request):
        return _said(request, "session: has ended; sign in again", 401)
    return await form_without_session(request)


def _said(request: Request, line: str, status: int) -> Response:
    """One line: as a page to people, as JSON to everybody else."""
    if _is_page(request):
        return message(request, line, account=getattr(request.state, "account", None), status=status)
    return JSONResponse({"detail": line}, status)


def _is_page(request: Request) -> bool:
    return not request.url.path.startswith(MACHINE)


def _sendable(value: Any) -> Any:
    """Text without lone surrogates, which UTF-8 cannot express; anything else unchanged."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
