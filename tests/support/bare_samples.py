"""Samples without images, for tests that read only what the catalog holds."""

import pyarrow as pa

__all__ = ["bare_samples"]


def bare_samples(keys: list[str]) -> pa.Table:
    """A samples table for `PendingCommit.add_samples`, of images that are nowhere."""
    count = len(keys)
    return pa.table(
        {
            "key": keys, "location": [f"/none/{key}.jpg" for key in keys],
            "sha256": [f"{number:064d}" for number in range(count)], "phash": pa.array(range(count), pa.uint64()),
            "format": ["JPEG"] * count, "width": pa.array([32] * count, pa.int32()),
            "height": pa.array([24] * count, pa.int32()), "bytes": pa.array([900] * count, pa.int64()),
        }
    )  # fmt: skip
