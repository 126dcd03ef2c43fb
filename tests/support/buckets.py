"""An S3-compatible server on loopback, announced in the environment."""

import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from moto.server import ThreadedMotoServer

__all__ = ["serving_bucket"]


@contextmanager
def serving_bucket(name: str) -> Iterator[str]:
    """The URL of an empty bucket; inside the block the environment has the server's address and credentials."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    address = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    variables = {
        "AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing",
    }  # fmt: skip
    try:
        with patch.dict(os.environ, variables):
            urllib.request.urlopen(urllib.request.Request(f"{address}/{name}", method="PUT")).close()
            yield f"s3://{name}"
    finally:
        server.stop()
