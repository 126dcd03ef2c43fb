"""Tables that fit the width, numbers that people read, and progress without a terminal."""

import io
import re
import time

import pytest
from rich.console import Console

import amber.terminal
from amber.terminal import Screen, plain, table

COLUMNS = ["task", "owner", "share", "importance", "effective_samples", "distinct", "most_repeated", "predicate"]
ROW = ["light_color", "signals-team", 0.25, 1.0, 12_345.678, 123, 4.5e-5, "label.color = 'yellow' AND attr.night"]


def printed(width: int, columns: list[str], rows: list[list[object]]) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table("A title", columns, rows))
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_tables_fit_the_width_and_break_no_word(width: int) -> None:
    text = printed(width, COLUMNS, [ROW, ROW])
    assert max(map(len, text.splitlines())) <= width
    for word in " ".join([*COLUMNS, *map(str, ROW[:2]), ROW[-1]]).split():
        assert word in text


def test_a_table_that_fits_is_one_table() -> None:
    assert printed(200, COLUMNS, [ROW]).count("┏") == 1
    assert printed(60, COLUMNS, [ROW]).count("light_color") > 1


def test_a_hash_longer_than_the_width_is_broken() -> None:
    text = printed(80, ["run", "note"], [["0123456789abcdef" * 4, "a note"]])
    assert max(map(len, text.splitlines())) <= 80
    assert re.sub(r"[^0-9a-f]", "", "".join(line[:45] for line in text.splitlines()[3:])).startswith("0123456789abcdef")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.25, "0.25"), (1.0, "1"), (12_345.678, "12,346"), (4.5e-5, "0.000045"), (1.23456e-4, "0.0001235"),
     (1e-9, "<0.000001"), (-1e-9, ">-0.000001"), (0.0, "0"), (1e20, "100,000,000,000,000,000,000"), (7, "7"),
     (1_234_567, "1,234,567"), (None, "-"), (True, "yes"), (False, "no"), (float("nan"), "nan"), (999.96, "1000")],
)  # fmt: skip
def test_numbers_have_no_exponent(value: object, text: str) -> None:
    assert f" {text} │" in printed(80, ["name", "value"], [["a", value]])


def test_a_cell_lists_numbers_by_name() -> None:
    assert plain({"red": 1_200, "yellow": (1, 2)}) == "red 1,200, yellow 1 then 2"


def test_redirected_progress_is_a_line_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(amber.terminal.time, "monotonic", lambda: now)
    screen = Screen()
    screen.console = Console(file=io.StringIO(), width=80)
    with screen.stages():
        for second in range(0, 151, 10):
            now = 1_000.0 + second
            screen.tell("train", second, 150)
    lines = screen.console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split() for line in lines] == [
        ["train", "60", "of", "150,", "60", "s", "so", "far"],
        ["train", "120", "of", "150,", "120", "s", "so", "far"],
        ["train", "150", "150.0", "s"],
    ]


def test_redirected_progress_goes_on_while_a_stage_reports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amber.terminal, "MINUTE", 0.05)
    screen = Screen()
    screen.console = Console(file=io.StringIO(), width=80)
    with screen.stages():
        screen.tell("train", 1, 3)
        time.sleep(0.3)
        silent = screen.console.file.getvalue()  # type: ignore[attr-defined]
        screen.tell("train", 3, 3)
        time.sleep(0.15)
    assert silent.count("train            1 of 3, ") >= 2
    assert screen.console.file.getvalue().count("so far") == silent.count("so far")  # type: ignore[attr-defined]


def test_states_are_lines_where_they_change() -> None:
    screen = Screen()
    screen.console = Console(file=io.StringIO(), width=80)
    with screen.stages():
        screen.show_states("train", 640, {"car": "ACTIVE", "sign": "ACTIVE"})
        screen.show_states("train", 1_280, {"car": "PLATEAU", "sign": "ACTIVE"})
        screen.show_states("train", 1_920, {"car": "PLATEAU", "sign": "FROZEN"})
    lines = screen.console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split() for line in lines] == [
        ["train", "1,280", "car", "PLATEAU"],
        ["train", "1,920", "sign", "FROZEN"],
    ]


def test_a_terminal_shows_speed_time_left_and_states(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    screen.console = Console(file=io.StringIO(), width=160, force_terminal=True)
    with screen.stages():
        screen.tell("train", 0, 6_400)
        for done in (640, 1_280, 1_920):
            time.sleep(0.05)
            screen.tell("train", done, 6_400)
        screen.show_states("train", 1_920, {"car": "ACTIVE", "sign": "DISTILL"})
        screen._progress.refresh()  # type: ignore[union-attr]
    shown = screen.console.file.getvalue()  # type: ignore[attr-defined]
    assert re.search(r"[\d,]+ images/s", shown)
    assert "car ACTIVE, sign DISTILL" in shown
    assert re.search(r"1920/6400\S* .*0:00:00\S* .*00:0\d", shown)


def test_an_interval_stays_on_one_line() -> None:
    text = printed(72, [*COLUMNS[:4], "value [95% interval]"], [[*ROW[:4], "1.000 [0.777, 1.000]"]])
    assert "[0.777, 1.000]" in text
    assert "[95% interval]" in text


def test_a_table_without_rows_is_its_title() -> None:
    assert printed(80, COLUMNS, []).split() == ["A", "title", "(none)"]
