"""SQL of the samples for which a predicate is true.

Most slices are a few conditions on one column each, and none is true where its column has no value. Such a condition is
evaluated on the rows of its column only, and the next one only on samples that pass. All other conditions, such as
`state.TASK = 'unknown'` or a comparison of two columns, are evaluated on samples that pass, joined to their columns.
"""

from collections.abc import Callable, Sequence

from curation.catalog.slices import Column, Term, terms_of

__all__ = ["members_sql", "truths_sql"]


def members_sql(predicate: str, column: Callable[[str, str], str], samples: str) -> str:
    """SQL of `sample_id`, sorted; `column` returns the SQL of each (family, name): sample_id, value."""
    terms = terms_of(predicate)
    found = samples
    strict = {part: [term for term in terms if term.strict and term.columns == (part,)] for part in _columns(terms)}
    queries = {part: f'({column(*part)}) AS "{_name(part)}"' for part in strict}
    for part, conditions in strict.items():
        if conditions:
            rows = f"SELECT sample_id FROM {queries[part]} WHERE {_all(conditions)}"
            found = rows if found is samples else f"FROM ({found}) SEMI JOIN ({rows}) USING (sample_id)"
    if loose := [term for term in terms if not term.strict]:
        joins = " ".join(f"LEFT JOIN {queries[part]} USING (sample_id)" for part in _columns(loose))
        found = f"SELECT sample_id FROM ({found}) {joins} WHERE {_all(loose)}"
    return f"FROM ({found}) ORDER BY sample_id"


def truths_sql(predicates: Sequence[str], column: Callable[[str, str], str], samples: str) -> str:
    """SQL of `sample_id`, in no order, and for each of `predicates` whether it is true (null where that is not known):
    columns "0", "1" and so on."""
    terms = [terms_of(predicate) for predicate in predicates]
    parts = _columns([term for each in terms for term in each])
    joins = " ".join(f'LEFT JOIN ({column(*part)}) AS "{_name(part)}" USING (sample_id)' for part in parts)
    truths = ", ".join(f'{_all(each)} AS "{at}"' for at, each in enumerate(terms))
    return f"SELECT sample_id, {truths} FROM ({samples}) {joins}"


def _columns(terms: Sequence[Term]) -> list[Column]:
    return list(dict.fromkeys(part for term in terms for part in term.columns))


def _name(part: Column) -> str:
    return ".".join(part)


def _all(terms: Sequence[Term]) -> str:
    return " AND ".join(f"({term.text})" for term in terms)
