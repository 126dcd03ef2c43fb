"""The people whom a catalog knows, and finding one by the beginning of an address."""

from collections.abc import Collection

from curation.catalog.snapshot import Snapshot
from curation.errors import NotFound

__all__ = ["known_people", "person_named"]


def known_people(now: Snapshot) -> set[str]:
    """Everybody who gave a label, was assigned to, or left."""
    rows = now.labels.annotators().to_pylist()
    labelled = {row["annotator"] for row in rows if row["source"] == "human"}
    answered = set(now.requests.answers()["annotator"].to_pylist())
    return labelled | answered | {part.person for part in now.people.assignments()} | now.people.left()


def person_named(name: str, known: Collection[str]) -> str:
    """The person called `name`: an e-mail address, or the part of one before the @ where only one begins with it.

    >>> person_named("ann", ["ann@example.org", "bob@example.org"])
    'ann@example.org'
    """
    fits = [each for each in known if name in (each, each.partition("@")[0])]
    if name in fits:
        return name
    if len(fits) != 1:
        listed = ", ".join(sorted(fits or known)[:10]) or "nobody"
        raise NotFound(f"{name}: {'several people have this name' if fits else 'not known'}; known are {listed}")
    return fits[0]
