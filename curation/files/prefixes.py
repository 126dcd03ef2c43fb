"""Names by their first letters, as people type hashes."""

from collections.abc import Iterable

from curation.errors import NotFound

__all__ = ["full_name"]

SHOWN = 4
"""At most so many candidates are named."""


def full_name(prefix: str, names: Iterable[str], *, what: str, where: object, listed: str) -> str:
    """The one of `names` that is `prefix`, or the only one that begins with it.

    NotFound when none does, or when several do; then it names them. `listed` is the command that lists all.

    >>> full_name("ab", ["abc1", "b2"], what="run", where="home", listed="amber runs")
    'abc1'
    >>> full_name("a", ["abc1", "abd2"], what="run", where="home", listed="amber runs")
    Traceback (most recent call last):
    curation.errors.NotFound: run 'a': 2 begin so (abc1, abd2); give more of it
    """
    every = set(names)
    if prefix in every:
        return prefix
    found = sorted(name for name in every if prefix and name.startswith(prefix))
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
        raise NotFound(f"{what} {prefix!r}: {len(found)} begin so ({some}); give more of it")
    raise NotFound(f"{what} {prefix!r}: {where} has no such {what}; `{listed}` lists them")
