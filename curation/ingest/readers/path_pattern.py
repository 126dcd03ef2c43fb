"""Patterns of paths, such as "dataset_{attr:published_split}/{label}/{name}"."""

import re
from collections.abc import Collection

from curation.errors import BadInput

__all__ = ["attributes_of", "form_of"]

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_ATTRIBUTE = re.compile(r"attr:([a-z][a-z0-9_]*)")
_TAKEN = {"key", "location", "captured_at"}


def form_of(pattern: str, *, needs: Collection[str]) -> re.Pattern[str]:
    """The regular expression of a pattern; its groups are the names in `needs` ("label", "name") and `attr_NAME`.

    Each placeholder stands for (part of) the name of one folder or file. BadInput names the fault of a pattern.
    """
    pieces = _PLACEHOLDER.split(pattern)
    literals, groups = pieces[::2], [_group(name, pattern, needs) for name in pieces[1::2]]
    if any(brace in literal for literal in literals for brace in "{}"):
        raise BadInput(f"pattern {pattern!r}: a brace has no partner; write {_choice(needs)}")
    for group in sorted({*groups, *needs}):
        if groups.count(group) != 1:
            raise BadInput(f"pattern {pattern!r}: has {groups.count(group)} times {group}; write it once")
    parts = [f"(?P<{group}>[^/]+?)" for group in groups] + [""]
    return re.compile("".join(re.escape(literal) + part for literal, part in zip(literals, parts, strict=True)))


def attributes_of(match: re.Match[str]) -> dict[str, str]:
    """The attributes in a matched path, by name."""
    return {name.removeprefix("attr_"): text for name, text in match.groupdict().items() if name.startswith("attr_")}


def _choice(needs: Collection[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in needs) + " or {attr:NAME}"


def _group(placeholder: str, pattern: str, needs: Collection[str]) -> str:
    if placeholder in needs:
        return placeholder
    attribute = _ATTRIBUTE.fullmatch(placeholder)
    if attribute is None:
        rule = f"write {_choice(needs)} with a lower-case NAME"
        raise BadInput(f"pattern {pattern!r}: {{{placeholder}}} is unknown; {rule}")
    if attribute[1] in _TAKEN:
        raise BadInput(f"pattern {pattern!r}: {attribute[1]} is reserved; give the attribute another name")
    return f"attr_{attribute[1]}"
