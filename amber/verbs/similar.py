"""The verb `amber similar`."""

from collections.abc import Sequence
from pathlib import Path

import click

from amber.similar import Found, Search, Wanted
from amber.terminal import Screen, note, show, table
from amber.verbs.options import grouped, split_option, using_files, workspace
from curation.catalog.catalog import Catalog, check_author
from curation.errors import BadInput
from curation.requests.manual_requests import request_labels, tag

__all__ = ["similar_command"]

wanted = grouped(
    "wanted", Wanted,
    click.argument("what"),
    click.option("--embeddings", default="", metavar="MODEL", help="Default: the first of the workspace."),
    click.option("--boxes", default="", metavar="TASK", help="Search the known boxes of this task, not whole images."),
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
    """Find the images, or boxes, most similar to WHAT: a sample, a box of it, a part of an image, a file, or a vector.

    \b
    KEY             a sample                KEY#TASK:N      box N of a task of boxes, from 1
    FILE            an image file           KEY#X,Y,W,H     a part of the image, in pixels; FILE#X,Y,W,H too
    FILE.npy        a vector

    Vectors are compared by their cosine: those that training made, or else made here. Boxes are embedded as images
    are, when they are first searched (--boxes). Embeddings of a model of one's own are ingested as a table
    (docs/readers.md).

    Example: amber similar drive-3/00017#signs:1 --boxes signs --out alike.html
    """
    if task or name:
        check_author(author)
    if app and not name:
        raise BadInput("--app: shows the images by their tag; name one with --tag NAME")
    catalog = Catalog.open(home)
    screen = Screen(quiet=as_json)
    with screen.stages():
        search = Search.of(catalog, wanted, screen.tell)
        found = search.nearest(screen.tell)
    keys, done = list(dict.fromkeys(part.key for part in found)), list[str]()
    if search.too_small:
        done.append(f"boxes too small to search: {search.too_small:,} (less than 2 pixels a side)")
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
        _write(out, wanted.what, search, found)
    cells = [
        [part.name, *([part.box.label] if part.box else []), f"{part.similarity:.3f}"] for part in found
    ]  # fmt: skip
    columns = ["box", "class", "cosine"] if wanted.boxes else ["key", "cosine"]
    show([part.row() for part in found], as_json, lambda: table(f"Similar to {wanted.what}", columns, cells))
    if app:
        from amber.verbs.browse import browse_command

        context.invoke(browse_command, view=f"tagged {name}", home=home, as_json=as_json)


def _write(out: Path, what: str, search: Search, found: Sequence[Found]) -> None:
    """A page of the images or boxes that were found."""
    from amber.picture_page import PictureRow, write_pictures

    pictures = [(search.files[part.key][0], [part.name, f"{part.similarity:.3f}"]) for part in found]
    parts = [part.box.corners for part in found if part.box]
    write_pictures(out, f"Similar to {what}", [PictureRow(title="nearest first", pictures=pictures, parts=parts)])
