"""JSON documents, parsed and checked in one step by pydantic.

pydantic reads a COCO file in the time that orjson alone takes to parse it. It names the line of invalid JSON and the
path of an invalid value, and accepts the NaN that Python's json writes: the ledger then names the label that holds it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from curation.errors import BadInput, NotFound
from curation.ingestion.readers.findings import BadEntry, Findings

__all__ = ["parse_json", "read_document", "read_text"]

Document = TypeVar("Document")

_ANY: TypeAdapter[Any] = TypeAdapter(Any)
_BOM = b"\xef\xbb\xbf"


def read_document(
    path: Path, form: TypeAdapter[Document], kind: str, findings: Findings | None = None,
    dropped: list[Any] | None = None,
) -> Document:  # fmt: skip
    """The document in a file of the format `kind`; NotFound or BadInput name the file, the value and the rule.

    Where `findings` quarantines, invalid entries of the document's lists are refused there and added to `dropped`.
    """
    data = _bytes(path).removeprefix(_BOM)
    if not data.strip():
        raise BadInput(f"{path}: is empty; export it again")
    try:
        return form.validate_json(data)
    except ValidationError as error:
        if findings is not None and findings.quarantine:
            kept = _without_invalid(data, path.name, error, findings, [] if dropped is None else dropped)
            if kept is not None:
                return _validated(form, kept, path, kind)
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


def _validated(form: TypeAdapter[Document], data: Any, path: Path, kind: str) -> Document:
    try:
        return form.validate_python(data)
    except ValidationError as error:
        raise BadInput(f"{path}: {_problem(error, kind)}") from None


def _without_invalid(data: bytes, file: str, error: ValidationError, findings: Findings, dropped: list[Any]) -> Any:
    """The parsed document without the list entries that are invalid; None if the fault is in no entry of a list."""
    errors = error.errors(include_url=False)
    if errors[0]["type"] == "json_invalid":
        return None
    document = _ANY.validate_json(data)
    invalid: dict[int, tuple[list[Any], set[int]]] = {}
    for each in errors:
        found = _list_entry(document, each["loc"])
        if found is None:
            return None
        entries, row, name = found
        rows = invalid.setdefault(id(entries), (entries, set()))[1]
        if row not in rows:
            field = ".".join(str(part) for part in each["loc"][each["loc"].index(row) + 1 :]) or "entry"
            value = "" if each["type"] == "missing" else f"{field} = {_shown(each['input'])}"
            rule = f"{field} is missing" if each["type"] == "missing" else each["msg"]
            findings.refuse(BadEntry(f"{file} entry {name}.{row}", value, rule, "correct the file"))
            dropped.append(entries[row])
        rows.add(row)
    for entries, rows in invalid.values():
        entries[:] = [entry for row, entry in enumerate(entries) if row not in rows]
    return document


def _list_entry(document: Any, loc: Sequence[int | str]) -> tuple[list[Any], int, str] | None:
    """The first list on the path of an error, the entry's number in it, and the list's name."""
    value, name = document, "list"
    for part in loc:
        if isinstance(part, int) and isinstance(value, list):
            return value, part, name
        if isinstance(value, dict) and part in value:
            value, name = value[part], str(part)
    return None


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
