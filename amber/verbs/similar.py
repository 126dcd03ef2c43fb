"""The verb `amber similar`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np

from amber.extras import need_extra
from amber.terminal import note, show, table
from amber.verbs.options import grouped, split_option, using_files, workspace
from curation.arrays import Bools, Float32s
from curation.catalog.catalog import Catalog, check_author
from curation.catalog.snapshot import Snapshot
from curation.errors import BadInput
from curation.images.decoding import inspect
from curation.images.embeddings import Embeddings, models_of
from curation.images.similar import Similar, SimilarImages
from curation.requests.manual_requests import request_labels, tag
from training.recipe import Recipe

__all__ = ["similar_command"]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What images should be similar to, by which embeddings, and how many are wanted."""

    what: str
    embeddings: str
    count: int
    split: str

    def search(self, catalog: Catalog, now: Snapshot) -> list[Similar]:
        """The nearest images, the nearest first; without the image itself, and only those of the split."""
        model = self.embeddings or _first(catalog.home)
        found = SimilarImages(catalog.home, Embeddings.open(catalog.home, model))
        keys, itself = found.embeddings.keys, ""
        if self.what in keys:
            vector, itself = found.of_key(self.what), self.what
        else:
            vector = found.of_vector(self._vector(catalog, model))
        return found.nearest(vector, self.count, without=self._left_out(now, keys, itself))

    def _vector(self, catalog: Catalog, model: str) -> Float32s:
        """The vector of a file: as it stands in a .npy file, or of an image by Amber's own trunk."""
        path = Path(self.what)
        if not path.is_file():
            raise BadInput(f"{self.what!r}: is neither a key with a vector of {model} nor a file; correct it")
        if path.suffix == ".npy":
            try:
                return np.asarray(np.load(path, allow_pickle=False), np.float32)
            except (ValueError, OSError) as error:
                raise BadInput(f"{self.what!r}: is no array of numbers ({error}); save it by numpy.save") from None
        try:
            inspect(path)
        except BadInput as error:
            raise BadInput(f"{self.what!r}: cannot be read as an image ({error}); name another") from None
        recipe = Recipe()
        if recipe.embeddings != model:
            raise BadInput(f"embeddings {model}: are not of Amber's own trunk; name a key, or a vector as FILE.npy")
        need_extra("train")
        from training.evaluation.features import features_of_file

        return np.asarray(features_of_file(catalog.home, path, recipe), np.float32)

    def _left_out(self, now: Snapshot, keys: Sequence[str], itself: str) -> Bools:
        """Which of the vectors [N] are of the image itself, excluded, of another split, or not of the catalog."""
        samples = now.samples().to_pydict()
        kept = {
            key
            for key, split, excluded in zip(samples["key"], samples["split"], samples["excluded"], strict=True)
            if not excluded and (not self.split or split == self.split) and key != itself
        }
        return np.array([key not in kept for key in keys], np.bool_)


def _first(home: Path) -> str:
    found = models_of(home)
    if not found:
        raise BadInput(f"{home}: has no embeddings; `amber train` makes them, or ingest a table with vectors")
    return found[0]


wanted = grouped(
    "wanted", Wanted,
    click.argument("what"),
    click.option("--embeddings", default="", metavar="MODEL", help="Default: the first of the workspace."),
    click.option("-n", "count", default=20, show_default=True, type=click.IntRange(min=1), help="How many."),
    split_option,
)  # fmt: skip


@click.command("similar")
@wanted
@click.option("--request", "task", default="", metavar="TASK", help="Request labels of this task for them.")
@click.option("--tag", "name", default="", metavar="NAME", help="Tag them: a slice reads attr.tag_NAME.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.html", help="Write them as pictures.")
@click.option("--app", is_flag=True, help="Then open the images tagged so in the FiftyOne App; needs --tag.")
@click.option("--author", default="", envvar="AMBER_AUTHOR", help="Author of requests and tags (AMBER_AUTHOR).")
@workspace
@using_files
@click.pass_context
def similar_command(
    context: click.Context, wanted: Wanted, task: str, name: str, out: Path | None, app: bool, author: str, home: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Find the images most similar to WHAT: the key of a sample, an image file, or a vector (FILE.npy).

    Vectors are compared by their cosine. Embeddings of a model of one's own are ingested as a table (docs/readers.md).
    """
    if task or name:
        check_author(author)
    if app and not name:
        raise BadInput("--app: shows the images by their tag; name one with --tag NAME")
    catalog = Catalog.open(home)
    with catalog.read() as now:
        found = wanted.search(catalog, now)
        places = {row["key"]: row["location"] for row in now.samples().select(["key", "location"]).to_pylist()}
    keys, done = [part.key for part in found], list[str]()
    if (task or name) and keys:
        with catalog.commit(author=author, message=f"images similar to {wanted.what}") as change:
            if task:
                made = request_labels(change.now, keys, [task], f"similar to {wanted.what}")
                change.add_requests(made.rows)
                done.append(f"{len(made.rows):,} labels of {task} requested")
            if name:
                change.add_attributes(tag(change.now, keys, name, on=True).rows)
                done.append(f"{len(keys):,} images tagged; a slice reads attr.tag_{name}")
    for line in () if as_json else done:
        note(line)
    if out:
        from amber.picture_page import PictureRow, write_pictures

        pictures = [(places[part.key], [part.key, f"{part.similarity:.3f}"]) for part in found]
        write_pictures(out, f"Similar to {wanted.what}", [PictureRow(title="nearest first", pictures=pictures)])
    cells = [[part.key, f"{part.similarity:.3f}"] for part in found]
    show(
        [asdict(part) for part in found], as_json, lambda: table(f"Similar to {wanted.what}", ["key", "cosine"], cells)
    )
    if app:
        from amber.verbs.browse import browse_command

        context.invoke(browse_command, view=f"tagged {name}", home=home, as_json=as_json)
