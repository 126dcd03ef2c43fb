"""An extension of griffe, for `make docs`: the examples in docstrings become blocks of code."""

import re
from typing import Any

import griffe

__all__ = ["DocstringExamples", "fenced"]

EXAMPLE = re.compile(r"^>>> .*(?:\n(?!$).*)*", re.MULTILINE)
"""A prompt, and all lines up to the next empty one."""


class DocstringExamples(griffe.Extension):
    """Fences the examples of every docstring."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of one object."""
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """A docstring whose examples stand in fences, which Markdown would read as quotations.

    >>> print(fenced("Adds."))
    Adds.
    """
    return EXAMPLE.sub(lambda found: f"```pycon\n{found[0]}\n```", text)
