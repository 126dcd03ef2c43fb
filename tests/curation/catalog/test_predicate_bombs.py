"""An attack on whatever takes SQL text: predicates that try to take much time or memory, or to reach beyond a slice.

Each is declared or refused in one line, within a minute and a gigabyte, and the catalog changes only by what was
declared. Run by `make soak`.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.confined import command, confined

from amber.exit_codes import guarded
from curation.catalog.applicability import vet_applies
from curation.catalog.catalog import Catalog
from curation.catalog.tasks import Task

pytestmark = pytest.mark.soak

SAMPLES, LENGTH = 3_000, 2_000
LONG = "a" * 1_900
ONES = ", ".join("1" for _ in range(450))
LETTERS = "string_split(attr.t, '')"
BOMBS: dict[str, str] = {
    "concatenation": "len(" + " || ".join(["attr.t"] * 1_200) + ") > 5",
    "concat": "len(concat(" + ", ".join(["attr.t"] * 1_200) + ")) > 5",
    "balanced concat": "len(" + "||".join(["(" + "||".join(["attr.t"] * 30) + ")"] * 35) + ") > 5",
    "replace by the text": "len(replace(attr.t, 'a', attr.t)) > 5",
    "replace by a long constant": f"len(replace(attr.t, 'a', '{LONG}')) > 5",
    "regexp_replace by the text": "len(regexp_replace(attr.t, '.', attr.t, 'g')) > 5",
    "regexp_replace by references": "len(regexp_replace(attr.t, '(.*)', '" + r"\1" * 900 + "', 'g')) > 5",
    "concat_ws by the text": "len(concat_ws(attr.t, " + ", ".join(["'a'"] * 300) + ")) > 5",
    "split of each letter": "len(list_transform(string_split(attr.t, ''), lambda x: string_split(attr.t, ''))) > 5",
    "text in a lambda": "len(list_transform(string_split(attr.t, ''), lambda x: attr.t || x)) > 5",
    "upper in a lambda": f"len(list_transform([{ONES}], lambda x: upper(attr.t))) > 5",
    "two lambdas": f"len(flatten(list_transform([{ONES}], lambda x: [{ONES}]))) > 5",
    "two lambdas of text": f"len(list_transform({LETTERS}, lambda x: list_filter({LETTERS}, lambda y: x = y))) > 5",
    "filter in filter": f"len(list_filter({LETTERS}, lambda x: len(list_filter({LETTERS}, lambda y: x = y)) > 5)) > 5",
    "many splits side by side": "len([" + ", ".join(["string_split(attr.t, '')"] * 70) + "]) > 5",
    "sorted letters": "len(list_sort(string_split(attr.t, ''))) > 5",
    "unique letters": "list_unique(string_split(attr.t, '')) > 5",
    "comprehension": "len([x || attr.t for x in string_split(attr.t, '')]) > 5",
    "wildcards ILIKE": "attr.t ILIKE '%a%a%b'",
    "wildcards LIKE": "attr.t LIKE '%a_a%a_a%b'",
    "GLOB": "attr.t GLOB '*a*a*b'",
    "underscores": "attr.t LIKE '" + "_" * 5_000 + "%b%'",
    "levenshtein": "levenshtein(attr.t, '" + "b" * 200 + "') > 5",
    "many distances": " OR ".join(["levenshtein(attr.t, '" + "b" * 180 + "') < 5"] * 40),
    "jaccard": "jaccard(attr.t, attr.t) > 2",
    "hamming": "hamming(attr.t, reverse(attr.t)) > 5",
    "regexp repeated": "regexp_matches(attr.t, '(((a{0,30}){0,30}){0,30})b$')",
    "regexp alternation": "regexp_matches(attr.t, '(a|a|a|a|a|a|a|a)*b$')",
    "regexp big class": "regexp_matches(attr.t, '" + r"\pL{100}" * 9 + "')",
    "regexp from the column": "regexp_matches(attr.t, attr.t)",
    "regexp_extract_all": "len(regexp_extract_all(attr.t, '')) > 5",
    "regexp_split": "len(regexp_split_to_array(attr.t, '')) > 5",
    "nested md5": "md5(" * 95 + "attr.t" + ")" * 95 + " = 'x'",
    "deep parentheses": "(" * 4_000 + "true" + ")" * 4_000,
    "NOT chain": "NOT " * 2_400 + "true",
    "nested CASE": "CASE WHEN attr.n > 1 THEN " * 98 + "true" + " END" * 98,
    "OR chain": " OR ".join(f"attr.n = {i}" for i in range(700)),
    "IN list": "attr.n IN (" + ", ".join(map(str, range(1_900))) + ")",
    "huge number": "attr.n < " + "9" * 9_000,
    "power tower": "pow(pow(pow(9e99, 9e99), 9e99), 9e99) > 5",
    "shift": "(1::HUGEINT << 126) << 126 > 5",
    "date edge": "date_trunc('century', TIMESTAMP '294247-01-10 04:00:54') + to_centuries(9999) > '2000-01-01'",
    "intervals": "to_years(2147483647) * 2147483647 > INTERVAL 1 DAY",
    "strftime": "len(strftime(TIMESTAMP '2000-01-01', '" + "%c%x%X" * 1_500 + "')) > 5",
    "time_bucket": "time_bucket(INTERVAL 0 DAY, TIMESTAMP '2000-01-01') > TIMESTAMP '2000-01-01'",
    "translate": "translate(attr.t, 'a', '" + "b" * 1_000 + "') = 'b'",
    "unicode": "upper(attr.t || '\U0001f600') = 'x' AND attr.t SIMILAR TO '(a*)*b'",
    "map of letters": "cardinality(map(string_split(attr.t, ''), string_split(attr.t, ''))) > 5",
    "json depth": "json_valid('" + "[" * 9_000 + "')",
    "json path": "json_extract_string(attr.t, '$" + "..*" * 900 + "') = 'x'",
    "cast of a text": "CAST(attr.t AS INTEGER[]) IS NULL",
    "division by zero": "attr.n / 0 > 1 AND attr.n % 0 = 1",
    "lone surrogate": "attr.t = '\\ud800'",
    "comment": "true /* " + "x" * 9_000,
    "struct nest": "{'a': " * 90 + "1" + "}" * 90 + " IS NOT NULL",
    "list nest": "[" * 95 + "1" + "]" * 95 + " IS NOT NULL",
}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """3,000 samples, each with a text of 2,000 equal letters."""
    catalog = Catalog.create(tmp_path_factory.mktemp("bombs"))
    ids = np.arange(SAMPLES)
    keys = pa.array(ids).cast(pa.string())
    sizes = pa.array(np.full(SAMPLES, 9, np.int32))
    rows = {
        "key": keys, "location": keys, "sha256": keys, "phash": pa.array(ids, pa.uint64()),
        "format": pa.repeat("JPEG", SAMPLES), "width": sizes, "height": sizes, "bytes": ids,
    }  # fmt: skip
    with catalog.commit(author="ada", message="texts") as change:
        change.add_samples(pa.table(rows), dataset="d")
        texts = pa.repeat("a" * LENGTH, SAMPLES)
        change.add_attributes(pa.table({"key": keys, "t": texts, "n": pa.array(ids, pa.float64())}))
    return catalog


def test_bombs_are_refused_or_end_within_limits(catalog: Catalog) -> None:
    faults, declared = [], []
    with catalog.read() as now:
        before = now.commit
    for number, (name, predicate) in enumerate(BOMBS.items()):
        found = command(["slices", "add", f"s{number}", predicate, "--home", str(catalog.home), "--author", "ada"])
        declared += [f"s{number}"] if found.code == 0 else []
        if fault := found.fault(0, 2):
            faults.append(f"{name}: {fault}")
    assert faults == []
    with catalog.read() as now:
        assert list(now.slices()) == declared
        assert now.commit - before == len(declared)
    assert len(BOMBS) >= 40


def test_bombs_as_applies_are_refused_or_end_within_limits(catalog: Catalog) -> None:
    with catalog.read() as now:
        frame = now.frame()
    faults = []
    for name, predicate in BOMBS.items():
        task = Task(name="x", kind="binary", owner="ada", applies=predicate)
        if fault := confined(guarded, Vetting(task, frame)).fault(0, 2):
            faults.append(f"{name}: {fault}")
    assert faults == []


class Vetting:
    """The vetting of `applies`, as work that another process can do."""

    def __init__(self, task: Task, frame: object) -> None:
        self.task, self.frame = task, frame

    def __call__(self) -> None:
        vet_applies(self.task, self.frame)  # type: ignore[arg-type]


def test_the_catalog_opens_after_the_attack(catalog: Catalog) -> None:
    assert command(["catalog", "verify", "--home", str(Path(catalog.home))]).fault(0) == ""
