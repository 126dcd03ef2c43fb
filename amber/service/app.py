"""The service as one ASGI application."""

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.middleware.trustedhost import TrustedHostMiddleware

from amber.service.api import api_router
from amber.service.docs_page import docs_page
from amber.service.images import Images, Pictures
from amber.service.middleware import Figures, Watch, allowed
from amber.service.models import Health
from amber.service.picked_samples import picking_router
from amber.service.signed_urls import Signer
from amber.service.tokens import Tokens
from curation.catalog.catalog import Catalog
from curation.errors import AmberError, Busy, NotFound

__all__ = ["make_app"]

SHORT = 3_600
"""Seconds for which the images of the JSON API may be read."""


def make_app(home: Path | str, *, hosts: tuple[str, ...] = ("127.0.0.1", "localhost")) -> FastAPI:
    """The service of a workspace; requests that name another host than `hosts` are refused."""
    catalog = Catalog.open(home)
    signer, tokens, figures = Signer.of(catalog.home), Tokens(catalog.home), Figures()
    read, admin = allowed(tokens, "read"), allowed(tokens, "admin")
    app = FastAPI(
        title="Amber", version="1", docs_url=None, redoc_url=None, openapi_url=None,
        description="Images under signed URLs, and what the catalog knows. Every route but /health wants a token.",
    )  # fmt: skip
    app.add_middleware(Images, signer=signer, pictures=Pictures())
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.add_middleware(Watch, figures=figures)
    app.add_exception_handler(AmberError, _told)

    @app.get("/health")
    async def health() -> Health:
        """Whether the service is there; asks for no token."""
        return Health()

    @app.get("/metrics", response_class=PlainTextResponse)
    def metrics(token: admin) -> Any:  # type: ignore[valid-type]
        """Figures for Prometheus; wants a token of the scope admin."""
        return PlainTextResponse(generate_latest(figures.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/openapi.json", include_in_schema=False)
    def document(token: read) -> Any:  # type: ignore[valid-type]
        return JSONResponse(app.openapi())

    @app.get("/docs", include_in_schema=False)
    def page(token: read) -> Any:  # type: ignore[valid-type]
        return HTMLResponse(docs_page(app.openapi()))

    def image_of(sample: dict[str, Any]) -> str:
        return f"/images/{signer.sign(sample['location'], seconds=SHORT)}"

    app.include_router(api_router(catalog, tokens, image_of))
    app.include_router(picking_router(catalog, tokens))
    return app


async def _told(request: Request, error: Exception) -> JSONResponse:
    """An error that a user can cause, as its one line; what the catalog knows better than the schema is a conflict."""
    if isinstance(error, Busy):
        return JSONResponse({"detail": str(error)}, 503, {"Retry-After": "5"})
    return JSONResponse({"detail": str(error)}, 404 if isinstance(error, NotFound) else 409)
