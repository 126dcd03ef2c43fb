"""Ctrl-C, two commands at once, and a catalog that another process holds."""

import os
import signal
import subprocess
import sys
import time
import weakref
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.processes import ending
from support.refusals import LONG, LOOP, amber, digest, ended, one_line, seen

from amber.cli import run
from amber.exit_codes import guarded
from amber.terminal import Screen
from curation.catalog.catalog import Catalog

Capture = pytest.CaptureFixture[str]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("stage", ["pack", "embed"])
def test_ctrl_c_in_the_loop(stage: str) -> None:
    process = amber(*LONG)
    seen(process, stage)
    process.send_signal(signal.SIGINT)
    code, err = ended(process)
    assert code == 130
    assert "interrupted" in one_line(err)
    assert run(LOOP) == 0


@pytest.mark.usefixtures("folder")
def test_ctrl_c_in_ingest() -> None:
    process = amber("ingest", "data", "--home", "new")
    while not Path("new/catalog.lock").exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    code, err = ended(process)
    assert code == 130
    assert "interrupted" in one_line(err)
    assert run(["ingest", "data", "--home", "new"]) == 0
    with Catalog.open("new").read() as now:
        assert now.digest == digest()


def test_ctrl_c_before_it_started() -> None:
    words = [sys.executable, "-X", "importtime", "-m", "amber", "train", "--help"]
    with ending(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)) as process:
        seen(process, "click")
        process.send_signal(signal.SIGINT)
        code, err = ended(process)
    assert code == 130
    assert "interrupted" in one_line("\n".join(line for line in err.splitlines() if "import time" not in line))


@pytest.mark.usefixtures("folder")
def test_two_loops_at_once(capsys: Capture) -> None:
    with ending(amber(*LONG)) as process:
        seen(process, "embed")
        code = run(LONG)
        process.kill()
    assert code == 3
    assert "runs a loop there" in one_line(capsys.readouterr().err)


@pytest.mark.usefixtures("folder")
def test_two_ingests_at_once() -> None:
    with ExitStack() as stack:
        both = [stack.enter_context(ending(amber("ingest", "data", "--home", "new"))) for _ in range(2)]
        assert [ended(process)[0] for process in both] == [0, 0]
    with Catalog.open("new").read() as now:
        assert now.digest == digest()


@pytest.mark.usefixtures("folder")
def test_a_catalog_that_is_locked(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setitem(Catalog.__init__.__kwdefaults__, "patience", 0.05)
    with Catalog.open("home").commit(author="ada", message="long"):
        assert run(["tasks"]) == 3
    assert str(os.getpid()) in one_line(capsys.readouterr().err)


def test_a_catalog_that_is_locked_outside_amber(folder: Path, capsys: Capture) -> None:
    code = "import duckdb, sys; held = duckdb.connect('home/catalog.duckdb'); print(flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", code]
    with ending(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)) as process:
        assert process.stdout
        process.stdout.readline()
        assert run(["tasks"]) == 3
        process.communicate()
    assert "home/catalog.duckdb" in one_line(capsys.readouterr().err)


def test_an_interrupt_that_a_library_swallows(capsys: Capture) -> None:
    """It is raised again by the next report of progress, and inside exec() it still ends with exit code 130."""

    def swallow() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            reached.append("swallowed")
        Screen(quiet=True).tell("embed", 1, 2)
        reached.append("went on")

    reached: list[str] = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert guarded(swallow) == 130
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert reached == ["swallowed"]
    assert "interrupted" in one_line(capsys.readouterr().err)


def test_an_interrupt_that_python_cannot_raise(capsys: Capture) -> None:
    """Inside the callback of a weak reference; only our line is printed."""

    class Referred:
        pass

    def lose() -> None:
        referred = Referred()
        reference = weakref.ref(referred, lambda _: signal.raise_signal(signal.SIGINT))
        del referred
        assert reference() is None
        Screen(quiet=True).tell("embed", 1, 2)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    hook = sys.unraisablehook
    sys.unraisablehook = sys.__unraisablehook__  # pytest's own keeps it and prints nothing
    try:
        assert guarded(lose) == 130
        assert sys.unraisablehook is sys.__unraisablehook__
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGINT, before)
    assert "interrupted" in one_line(capsys.readouterr().err)


INSIDE_EXEC = """
import signal, sys
from amber.exit_codes import guarded
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(guarded(lambda: exec("signal.raise_signal(signal.SIGINT)")))
"""


def test_an_interrupt_inside_exec_ends_with_the_code(tmp_path: Path) -> None:
    (tmp_path / "inside.py").write_text(INSIDE_EXEC)
    done = subprocess.run([sys.executable, "-m", "inside"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 130
