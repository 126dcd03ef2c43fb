"""Images below a folder, without labels."""

from pathlib import Path, PurePosixPath

from curation.errors import BadInput, NotFound
from curation.ingest.readers.content import Content
from curation.ingest.readers.content_builder import ContentBuilder
from curation.ingest.readers.declared import ImageFolder
from curation.ingest.readers.image_paths import EXTENSIONS, images_in
from curation.ingest.readers.path_pattern import attributes_of, form_of

__all__ = ["read_image_folder"]

_DEEP = 32  # links may form a cycle


def read_image_folder(folder: Path, declared: ImageFolder, *, dataset: str) -> Content:
    """Read all images below `folder`/`declared.folder`; hidden files and files that are no images are passed over.

    Keys are `dataset`/path, without extension. A pattern selects images and gives them attributes.
    """
    root = (folder / declared.folder).absolute()
    if not root.is_dir():
        raise NotFound(f"{root}: no such folder; check [reader] folder")
    builder = ContentBuilder(dataset)
    form = form_of(declared.pattern, needs=("name",)) if declared.pattern else None
    paths = sorted(images_in(root, declared.pattern.count("/") if form else _DEEP))
    for path in paths:
        match = form.fullmatch(str(path.with_suffix(""))) if form else None
        if form is None or match is not None:
            attributes = attributes_of(match) if match else {}
            builder.add_image(str(path), str(root / path), _grouped(attributes, path, declared, dataset), str(path))
    content = builder.content(held_back=False)
    if not len(content.samples):
        raise BadInput(_nothing(root, declared.pattern, paths))
    return content


def _grouped(attributes: dict[str, str], path: PurePosixPath, declared: ImageFolder, dataset: str) -> dict[str, str]:
    return attributes | ({"group": f"{dataset}/{path.parent}"} if declared.group else {})


def _nothing(root: Path, pattern: str, paths: list[PurePosixPath]) -> str:
    if not paths:
        return f"{root}: holds no image ({', '.join(EXTENSIONS)}); check [reader] folder and pattern"
    return f"{root}: no image matches {pattern!r}, for example {str(paths[0])!r} does not; correct the pattern"
