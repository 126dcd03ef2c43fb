"""Rows are lists that are also tables: for Arrow, pandas and a notebook."""

import doctest
import json
import pickle
import sys
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation import NotFound, rows
from curation.rows import LONGEST_REPR, SHOWN, Rows, html_table, shortened, tabled


@dataclass(frozen=True, kw_only=True)
class Side:
    n: int


@dataclass(frozen=True, kw_only=True)
class Measure:
    task: str
    n: int
    value: float | None = None
    good: bool | None = None
    at: datetime | None = None
    first: Any = None
    side: Side | None = None
    names: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)


MEASURES = [
    Measure(task="<b>car</b>", n=1200, value=0.123456, good=True, at=datetime(2026, 1, 2, tzinfo=UTC), first="red"),
    Measure(task="color", n=3, first=0.5, side=Side(n=2), names=("a", "b"), counts={"red": 1}),
]


def test_examples_run() -> None:
    failed, tried = doctest.testmod(rows)
    assert tried
    assert not failed


def test_rows_are_a_list() -> None:
    made = Rows(MEASURES, Measure)
    assert made == MEASURES
    assert json.dumps([asdict(row) for row in made[:0]]) == "[]"
    assert isinstance(made[0], Measure)
    assert made[:1].columns == made.columns
    assert pickle.loads(pickle.dumps(made)) == made


def test_they_become_arrow_and_pandas() -> None:
    table = Rows(MEASURES, Measure).to_arrow()
    assert table.schema.field("at").type == pa.timestamp("us", tz="UTC")
    assert table.drop_columns(["side", "counts"]).to_pylist() == [
        {"task": "<b>car</b>", "n": 1200, "value": 0.123456, "good": True, "at": datetime(2026, 1, 2, tzinfo=UTC),
         "first": "red", "names": []},
        {"task": "color", "n": 3, "value": None, "good": None, "at": None, "first": "0.5", "names": ["a", "b"]},
    ]  # fmt: skip
    assert table["side"].to_pylist() == [None, {"n": 2}]
    assert Rows(MEASURES, Measure).to_pandas()["n"].tolist() == [1200, 3]


def test_without_a_row_they_have_their_columns() -> None:
    made = tabled(Measure)(lambda: list[Measure]())()
    assert made.columns == list(Measure.__annotations__)
    assert made.to_arrow().select(["task", "n", "value", "good"]).schema.types == [
        pa.string(), pa.int64(), pa.float64(), pa.bool_(),
    ]  # fmt: skip
    assert Rows([], ("task", "n")).to_arrow().column_names == ["task", "n"]
    assert Rows[object]([], ()).to_arrow().num_columns == 0


def test_pandas_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(NotFound, match=r"^pandas: is not installed; run pip install pandas, or use to_arrow\(\)$"):
        Rows(MEASURES, Measure).to_pandas()


def test_a_notebook_shows_the_first_rows_and_escapes_them() -> None:
    shown = Rows(MEASURES * SHOWN, Measure)._repr_html_()
    assert f"{2 * SHOWN} rows, of which the first {SHOWN} are shown" in shown
    assert shown.count("<tr>") == SHOWN + 1
    assert "<b>" not in shown
    assert "<td>n 2</td><td>a, b</td><td>red 1</td>" in shown
    assert "<td>&lt;b&gt;car&lt;/b&gt;</td><td>1,200</td><td>0.1235</td><td>yes</td>" in shown


@given(st.text(), st.text(), st.text())
def test_no_text_becomes_markup(title: str, column: str, cell: str) -> None:
    made = html_table(title, [column], [[cell]])
    assert made.count("<") == html_table("", ["x"], [["x"]]).count("<")


@given(st.text(max_size=1000), st.integers(4, 300))
def test_a_shortened_text_is_short(text: str, longest: int) -> None:
    short = shortened(text, longest)
    assert len(short) <= longest
    assert (short == text) == (len(text) <= longest)


def test_a_repr_is_short() -> None:
    wide = Rows[dict[str, int]]([], [f"column {number}" for number in range(100)])
    assert len(repr(wide)) <= LONGEST_REPR
    assert repr(Rows(MEASURES, Measure)).startswith("2 rows of Measure: task, n, value")
