"""Patterns of paths, such as "dataset_{attr:published_split}/{label}/{name}"."""

import re
from collections.abc import Collection, Mapping, Sequence

from curation.errors import BadInput
from curation.ingestion.readers.findings import Findings

__all__ = ["attributes_of", "form_of", "group_of", "note_wide_groups"]

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


def group_of(match: re.Match[str], parts: Sequence[str], pattern: str) -> dict[str, str]:
    """The attribute `group`: the values of the placeholders `parts`, joined by /; empty without parts."""
    if not parts:
        return {}
    values = match.groupdict()
    names = [part if part in values else f"attr_{part.removeprefix('attr:')}" for part in parts]
    wrong = next((part for part, name in zip(parts, names, strict=True) if name not in values), None)
    if wrong is not None:
        raise BadInput(f"group {wrong!r}: the pattern {pattern!r} has no such placeholder; write it there")
    if "attr_group" in values and "attr_group" not in names:
        raise BadInput(f"pattern {pattern!r}: has {{attr:group}}, and [reader] group is declared too; keep one")
    return {"group": "/".join(values[name] for name in names)}


def note_wide_groups(groups: Mapping[str, set[str]], what: str, findings: Findings) -> None:
    """Note the groups with samples in several folders or of several classes (`what`)."""
    wide = {group: members for group, members in groups.items() if len(members) > 1}
    if wide:
        group, members = next(iter(wide.items()))
        named = ", ".join(sorted(members)[:3]) + (", ..." if len(members) > 3 else "")
        more = f", and so do {len(wide) - 1:,} more groups" if len(wide) > 1 else ""
        fix = 'if they are different groups, compose them of several parts: group = ["label", "group"] in [reader]'
        findings.note(f"group {group!r} spans {len(members)} {what} ({named}){more}; {fix}")


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
