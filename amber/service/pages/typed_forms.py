"""What people typed into a form, as one of the API's models."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from curation.errors import BadInput

__all__ = ["parsed"]

Model = TypeVar("Model", bound=BaseModel)


def parsed(model: type[Model], **fields: Any) -> Model:
    """The fields as a `model`; BadInput is one line with the field, what was typed, and the rule of each problem."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise BadInput("; ".join(map(_line, error.errors(include_url=False)))) from None


def _line(problem: Any) -> str:
    where = " ".join(str(part) for part in problem["loc"]) or "form"
    return f"{where} {str(problem['input'])[:60]!r}: {problem['msg'].removeprefix('Value error, ')}"
