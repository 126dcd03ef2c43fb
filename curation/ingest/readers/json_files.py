"""JSON documents, parsed and checked in one step by pydantic.

pydantic reads a COCO file in the time that orjson alone takes to parse it. It names the line of invalid JSON and the
path of an invalid value, and accepts the NaN that Python's json writes: the ledger then names the label that holds it.
"""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from curation.errors import BadInput, NotFound

__all__ = ["parse_json", "read_document", "read_text"]

Document = TypeVar("Document")

_ANY: TypeAdapter[Any] = TypeAdapter(Any)
_BOM = b"\xef\xbb\xbf"


def read_document(path: Path, form: TypeAdapter[Document], kind: str) -> Document:
    """The document in a file of the format `kind`; NotFound or BadInput name the file, the value and the rule."""
    data = _bytes(path).removeprefix(_BOM)
    if not data.strip():
        raise BadInput(f"{path}: is empty; export it again")
    try:
        return form.validate_json(data)
    except ValidationError as error:
        raise BadInput(f"{path}: {_problem(error, kind)}") from None


def parse_json(text: str | bytes, origin: str) -> Any:
    """The value of a JSON text; BadInput names `origin`."""
    try:
        return _ANY.validate_json(text)
    except ValidationError as error:
        raise BadInput(f"{origin}: {_problem(error, 'JSON')}") from None


def read_text(path: Path) -> str:
    """The text of a file; NotFound or BadInput name its fault, and the line of a byte that is not UTF-8."""
    data = _bytes(path).removeprefix(_BOM)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{path} line {line}: is not UTF-8; save the file as UTF-8") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise NotFound(f"{path}: there is no such file; check the path") from error
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def _problem(error: ValidationError, kind: str) -> str:
    first, *others = error.errors(include_url=False)
    if first["type"] == "json_invalid":
        return f"not valid JSON ({first['msg'].removeprefix('Invalid JSON: ')}); correct the file or export it again"
    path = ".".join(str(part) for part in first["loc"]) or "the whole"
    value = "" if first["type"] == "missing" else f" = {_shown(first['input'])}"
    more = f", and {len(others)} more" if others else ""
    return f"is not {kind} ({path}{value}: {first['msg']}{more}); correct the file, or choose another reader"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
