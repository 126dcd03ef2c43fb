"""`amber forget`: removes an image and everything known about it from the workspace, for privacy. There is no undo."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from amber.service.images.forgotten import Forgotten
from amber.service.images.signed_urls import Signer
from curation.catalog.catalog import Catalog
from curation.catalog.held_back_labels import forget_held_back
from curation.errors import NotFound
from curation.images.embeddings import forget_vectors
from curation.labelstudio.item_cache import forget_items
from samplers.streaming.forget import forget_image
from training.forget import forget_predictions, forget_replaced, forget_training_key, withdraw_runs

__all__ = ["ForgetResult", "forget"]


@dataclass(frozen=True, kw_only=True)
class ForgetResult:
    """What `forget` changed: packs rewritten, plans and runs withdrawn; and what it leaves to people.

    `location` is the image's own file, `pictures` are reports that may show it, `backups` are files that may hold it;
    `servers` are Label Studios that show it until the next push or pull there. `copies` are the keys of other samples
    whose image is equal, byte by byte.
    """

    commit: int
    location: str
    packs: tuple[str, ...]
    plans: tuple[str, ...]
    runs: tuple[str, ...]
    pictures: tuple[str, ...]
    backups: tuple[str, ...]
    servers: tuple[str, ...]
    copies: tuple[str, ...]


def forget(catalog: Catalog, key: str, *, author: str) -> ForgetResult:
    """Remove the sample `key` from shards, packs, plans, runs, embeddings, the oracle's file, service and catalog.

    The catalog comes last, so a `forget` that was killed can be run again. NotFound when the catalog lacks the key.
    """
    home = catalog.home
    with catalog.read() as now:
        samples = now.samples()
    found = samples.filter(pc.equal(samples["key"], key))
    if not len(found):
        raise NotFound(f"key {key!r}: the catalog has no such sample; check the key")
    location = found["location"][0].as_py()
    equal = samples.filter(pc.equal(samples["sha256"], found["sha256"][0]))["key"].to_pylist()
    if samples["location"].to_pylist().count(location) == 1:
        Forgotten(home, Signer.of(home)).add(location)
    removed = forget_image(home, key)
    runs = tuple(sorted({*withdraw_runs(home, removed.plans), *forget_training_key(home, key)}))
    forget_replaced(home, key)
    forget_vectors(home, key)
    forget_held_back(home, key)
    servers = forget_items(home, key)
    hashes = forget_predictions(home, key)
    with catalog.commit(author=author, message="forget a sample") as change:
        change.forget(key, predictions=hashes)
        commit = change.id
    catalog.compact()
    return ForgetResult(
        commit=commit, location=location, packs=removed.packs, plans=removed.plans, runs=runs,
        pictures=_listed(home, "runs/*/report.html"), backups=_listed(home, "*.v*.duckdb", "*.backup*"),
        servers=servers, copies=tuple(sorted({*equal} - {key})),
    )  # fmt: skip


def _listed(home: Path, *patterns: str) -> tuple[str, ...]:
    return tuple(str(path) for pattern in patterns for path in sorted(home.glob(pattern)))
