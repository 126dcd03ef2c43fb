"""The service as one ASGI application."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.middleware.trustedhost import TrustedHostMiddleware

from amber.service import api, label_routes, picked_samples, sign_offs
from amber.service.access import Admin, Reader, Workspace
from amber.service.docs_page import docs_page
from amber.service.forgotten import Forgotten
from amber.service.images import Images
from amber.service.metrics import Metrics
from amber.service.middleware import Capacity, Watch
from amber.service.models import Health
from amber.service.pictures import Pictures
from amber.service.signed_urls import Signer
from amber.service.tokens import Tokens
from curation.catalog.catalog import Catalog
from curation.errors import AmberError, Busy, NotFound

__all__ = ["make_app"]

DESCRIPTION = "Images under signed URLs, and what the catalog knows. Every route but /health needs a token."

router = APIRouter()


def make_app(home: Path | str, *, hosts: tuple[str, ...] = ("127.0.0.1", "localhost")) -> FastAPI:
    """The service of the workspace at `home`. It refuses requests whose Host header is not in `hosts`.

    `app.state` holds its `workspace`, its `metrics` and its `pictures`.
    """
    catalog = Catalog.open(home)
    workspace = Workspace(catalog=catalog, signer=Signer.of(catalog.home), tokens=Tokens(catalog.home))
    metrics, pictures = Metrics(), Pictures()
    app = FastAPI(title="Amber", version="1", docs_url=None, redoc_url=None, openapi_url=None, description=DESCRIPTION)
    app.state.workspace, app.state.metrics, app.state.pictures = workspace, metrics, pictures
    forgotten = Forgotten(catalog.home, workspace.signer)
    app.add_middleware(Capacity, metrics=metrics)
    app.add_middleware(Images, signer=workspace.signer, pictures=pictures, forgotten=forgotten)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.add_middleware(Watch, metrics=metrics)
    app.add_exception_handler(AmberError, _amber_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    for part in (router, api.router, label_routes.router, picked_samples.router, sign_offs.router):
        app.include_router(part)
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


async def _amber_error(request: Request, error: Exception) -> JSONResponse:
    """An error that a user can cause, as its one line: 404 not found, 503 busy, 409 anything else."""
    detail = {"detail": _sendable(str(error))}
    if isinstance(error, Busy):
        return JSONResponse(detail, 503, {"Retry-After": "5"})
    return JSONResponse(detail, 404 if isinstance(error, NotFound) else 409)


async def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    """What does not fit the schema, without the input itself: it may hold NaN or text that JSON cannot express."""
    assert isinstance(error, RequestValidationError)
    rows = [
        {"type": row["type"], "loc": [_sendable(part) for part in row["loc"]], "msg": _sendable(row["msg"])}
        for row in error.errors()
    ]
    return JSONResponse({"detail": rows}, 422)


def _sendable(value: Any) -> Any:
    """Text without lone surrogates, which UTF-8 cannot express; anything else unchanged."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
