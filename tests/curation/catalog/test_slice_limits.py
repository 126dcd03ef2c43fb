"""Predicates that would run away are refused in one line, within a limit of time and memory, and hold no lock."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.homes import copy_home, make_home

from curation.catalog import vetting_process
from curation.catalog.arrow_query import limited
from curation.catalog.catalog import Catalog
from curation.catalog.slice_vetting import Frame, vet
from curation.catalog.vetting_process import vet_in_child
from curation.errors import BadInput, Failed

FRAME = Frame(families={"attr": {"text": "VARCHAR", "other": "VARCHAR", "words": "VARCHAR[]", "n": "BIGINT"}})

LONG = "a" * 120
CAPPED = [
    f"'{LONG}' ILIKE '%a%a%a%a%a%b'",
    f"'{LONG}' LIKE '%a%a%a%a%a%b'",
    f"'{LONG}' NOT LIKE '%a%a%a%a%a%b'",
    f"'{LONG}' NOT ILIKE '%a%a%a%a%a%b'",
    f"'{LONG}' GLOB '*a*a*a*a*a*b'",
    f"'{LONG}' LIKE '%a%a%a%a%a%b' ESCAPE '!'",
    f"'{LONG}' ILIKE '%a%a%a%a%a%b' ESCAPE '!'",
    "text ILIKE '%a%b'",
    "text NOT ILIKE '%a%b%'",
    "text GLOB 'a*b*c'",
    "text LIKE '%a_a%b'",
    "text LIKE '%a%b' ESCAPE '!'",
    "text LIKE other",
    "text ILIKE concat('%a%a', '%a%a%b')",
    "text GLOB other",
    "regexp_matches(text, other)",
    "regexp_full_match(text, other || 'b')",
    "text SIMILAR TO other",
    "regexp_extract(text, other) = 'a'",
    "len(regexp_split_to_array(text, other)) > 1",
    "regexp_replace(text, other, '') = 'a'",
    "levenshtein(text, other) < 3",
    "editdist3(text, other) < 3",
    "damerau_levenshtein(text, other) < 3",
    "jaro_similarity(text, other) > 0.5",
    "jaro_winkler_similarity(text, other) > 0.5",
    f"levenshtein(text, '{'a' * 201}') < 3",
    "len(flatten([flatten([flatten([[words]])])])) > 0",
    "len(list_transform(words, w -> string_split(text, ''))) > 0",
    "len(list_filter(words, w -> len(string_split(text, '')) > 1)) > 0",
    "len(regexp_extract_all(replace(text, 'a', 'aaaa'), '.')) > 0",
    "len(split(replace(text, 'a', 'aaaa'), '')) > 0",
    f"len({' || '.join(['text'] * 65)}) > 5",
    f"len(concat({', '.join(['text'] * 65)})) > 5",
    f"len(concat_ws(text, {', '.join(['1'] * 65)})) > 5",
    f"len([{', '.join(['text'] * 65)}]) > 5",
    "len(replace(text, 'a', other)) > 5",
    "len(regexp_replace(text, '.', other, 'g')) > 5",
    f"len(replace(text, 'a', '{'b' * 65}')) > 5",
    "len(regexp_replace(text, '(.*)', '" + r"\1" * 40 + "')) > 5",
    f"len([{', '.join(['split(text, other)'] * 5)}]) > 5",
    " OR ".join(f"upper(substr(text, {start})) = 'A'" for start in range(33)),
    "len(list_transform(words, w -> text)) > 0",
    "len(list_transform([1, 2], w -> upper(text))) > 0",
    "len([w || text for w in words]) > 0",
    "len(lpad(text, 1000000000, 'x')) > 0",
    "len(rpad(text, 1000000000, 'x')) > 0",
    "len(repeat(text, 1000000000)) > 0",
    "len(range(1000000000)) > 0",
]

FINE = [
    "text LIKE '%a%b%'",
    "text ILIKE 'a%'",
    "text NOT LIKE '%%%a%%%'",
    "text GLOB '*.jpg'",
    "levenshtein(text, 'fog') < 3",
    "jaro_similarity('fog', text) > 0.9",
    "len(string_split(text, ' ')) > 3",
    "len(flatten([words, words])) > 2",
    "n = 1234567890123456789",
    "text LIKE '%a%b'",
    "text ILIKE '%fog%' AND text ILIKE 'a%b'",
    "text GLOB 'a*b'",
    "text || other = 'a' OR concat(text, ' ', other) = 'b'",
    "replace(text, ' ', '_') = 'a_b'",
    "len(list_filter(words, w -> w = text)) > 0",
    "len(list_transform(words, w -> upper(w))) > 0",
    "len([w || 'a' for w in words]) > 0",
    " OR ".join(f"contains(text, '{start}')" for start in range(300)),
]


@pytest.mark.parametrize("predicate", CAPPED)
def test_it_is_refused_in_one_line_and_at_once(predicate: str) -> None:
    began = time.monotonic()
    with pytest.raises(BadInput) as error:
        vet(predicate, FRAME)
    assert "\n" not in str(error.value)
    assert "MB to check" not in str(error.value)  # a rule refuses it, not the limit
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("predicate", FINE)
def test_it_is_allowed(predicate: str) -> None:
    assert vet(predicate, FRAME)


def test_what_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    before = vetting_process._CHILD._running().pid
    monkeypatch.setattr(vetting_process, "SECONDS", 0.1)
    os.kill(before, signal.SIGSTOP)  # a child that does not answer
    with pytest.raises(BadInput, match=r"takes more than .* to check; write it with shorter texts") as error:
        vet_in_child("true", {"families": {}, "classes": {}})
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    assert vet_in_child("true", {"families": {}, "classes": {}})
    assert vetting_process._CHILD._running().pid != before


def test_what_takes_too_much_memory_is_ended() -> None:
    code = "from curation.catalog.vetting_process import serve; serve(lambda predicate, frame: bytearray(1 << 30))"
    request = b'{"predicate": "true", "frame": {}}\n'
    done = subprocess.run([sys.executable, "-c", code], input=request, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b'{"ready": true}\n')
    assert b"MemoryError" in done.stderr


def test_the_child_has_a_limit_of_memory() -> None:
    vet("true", Frame())
    process = vetting_process._CHILD._process
    assert process is not None
    soft, _ = resource.prlimit(process.pid, resource.RLIMIT_AS)
    size = int(Path(f"/proc/{process.pid}/statm").read_text().split()[0]) * resource.getpagesize()
    assert size <= soft <= size + vetting_process.MEMORY


def test_a_killed_child_is_started_again() -> None:
    vet("true", Frame())
    process = vetting_process._CHILD._process
    assert process is not None
    os.kill(process.pid, 9)
    process.wait()
    assert vet("false", Frame())


def test_a_child_that_does_not_start_is_no_fault_of_the_predicate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "duckdb.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    vetting_process._CHILD.close()
    with pytest.raises(Failed, match="the process that checks predicates does not start; "):
        vet("1 < 2", Frame())
    monkeypatch.undo()
    assert vet("1 < 2", Frame())


def test_a_query_that_takes_long_is_interrupted(tmp_path: Path) -> None:
    catalog = Catalog.create(tmp_path)
    with catalog.read() as now:
        with (
            pytest.raises(BadInput, match=r"slice 's': ran longer than 0.2 s"),
            limited(now.view.connection, 0.2, "slice 's'"),
        ):
            now.view.rows("SELECT count(*) FROM range(100_000_000) a, range(1_000) b WHERE md5(a.range::VARCHAR) = 'x'")
        assert now.view.rows("SELECT 1") == [(1,)]


def test_writers_do_not_wait_for_a_predicate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = copy_home(make_home(tmp_path / "made", samples=8), tmp_path)
    checked = threading.Event()
    seen = []

    def slow(predicate: str, frame: object) -> str:
        with Catalog.open(catalog.home).commit(author="bob", message="meanwhile") as change:
            seen.append(change.id)
        checked.set()
        return vet_in_child(predicate, frame)  # type: ignore[arg-type]

    with catalog.read() as now:
        frame = now.frame()
    monkeypatch.setattr("curation.catalog.slice_vetting.vet_in_child", slow)
    canonical = vet("attr.night OR false", frame)
    with catalog.commit(author="ada", message="slice") as change:
        change.add_slice("later", "attr.night OR false", checked=canonical)
    assert len(seen) == 1
