"""The example that a user names with `--like`: a sample of the workspace, or an image file."""

from pathlib import Path
from typing import Any

from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from curation.images.decoding import inspect
from training.recipe import Recipe

__all__ = ["example_of"]


def example_of(catalog: Catalog, like: str, recipe: Recipe | None) -> dict[str, Any]:
    """The fields of a `Proposal` for an example: `like` if it is the key of a sample, else the features of the file.

    BadInput when it is neither a key nor an image that can be read, or when there are no features to compare by.
    """
    if not like:
        return {}
    with catalog.read() as now:
        if like in now.samples()["key"].to_pylist():
            return {"like": like}
    if not Path(like).is_file():
        raise BadInput(f"--like {like!r}: is neither the key of a sample nor an image file; correct it")
    if recipe is None:
        raise BadInput(
            f"--like {like!r}: there are no features to compare images by before the first run; leave it out"
        )
    try:
        inspect(Path(like))
    except BadInput as error:
        raise BadInput(f"--like {like!r}: cannot be read as an image ({error}); name another") from None
    from training.evaluation.features import features_of_file  # loads torch

    return {"like": like, "example": features_of_file(catalog.home, Path(like), recipe)}
