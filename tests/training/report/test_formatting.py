"""The words of the report: figures, doubts, predicates, and whose errors come first."""

from typing import Any

import numpy as np
import pytest

from training.evaluation.group_order import groups_first
from training.report.formatting import doubt_of, number_text, plain_text


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"n": 0, "value": None}, "no data"),
        ({"n": 1, "value": 1.0}, "too little data: 1 image"),
        ({"n": 29, "value": 1.0}, "too little data: 29 images"),
        ({"n": 30, "value": 0.9, "low": 0.7, "high": 0.95}, "too little data: interval 0.25 wide"),
        ({"n": 30, "value": 0.9, "low": 0.8, "high": 0.95}, ""),
        ({"n": 30, "value": 9.0, "low": 2.0, "high": 16.0, "metric": "mae"}, ""),
        ({"n": 30, "value": 9.0, "low": None, "high": None, "metric": "mae"}, "too little data: all of one group"),
    ],
)
def test_too_little_data_is_marked(row: dict[str, Any], words: str) -> None:
    assert doubt_of({"metric": "accuracy", **row}) == words


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (13.0, "13.0"), (0.00123, "0.00123"), (117.4, "117"), (-4.5678, "-4.57"), (12_345.6, "12,346")],
)
def test_numbers_have_three_digits(value: float, shown: str) -> None:
    assert number_text(value) == shown


@pytest.mark.parametrize(
    ("canonical", "plain"),
    [
        ("(\"label\".color = 'yellow')", "label.color = 'yellow'"),
        ("((a.b) AND (c.d))", "(a.b) AND (c.d)"),
        ("(a.b = 1) OR (c.d = 2)", "(a.b = 1) OR (c.d = 2)"),
        ("(a.b = '(') OR (c.d = ')')", "(a.b = '(') OR (c.d = ')')"),
        ("attr.night", "attr.night"),
    ],
)
def test_predicates_are_shown_plainly(canonical: str, plain: str) -> None:
    assert plain_text(canonical) == plain


def test_groups_take_turns() -> None:
    order, groups = np.array([5, 3, 4, 0, 1]), np.array([7, 8, 9, 7, 7, 7])
    assert groups_first(order, groups).tolist() == [5, 1, 3, 4, 0]
