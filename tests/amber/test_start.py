"""How much a verb imports before it starts: what most calls do not need must not be among it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from amber.cli import VERBS

SLOW = {
    "scipy", "matplotlib", "jinja2", "torch", "fiftyone", "fastapi", "uvicorn", "httpx", "ray", "psycopg", "fsspec",
    "prometheus_client", "starlette",
}  # fmt: skip
MODULES = sorted({source.partition(":")[0] for source, _ in VERBS.values()})
MOST = 600
"""Modules after the import of a verb. It was about 1,900 when the command line imported all verbs."""


def imported(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("module", MODULES)
def test_a_verb_imports_only_what_it_needs(module: str) -> None:
    names = imported(f"import amber.cli, amber.verbs.{module}")
    assert names & SLOW == set()
    assert len(names) <= MOST


def test_help_imports_no_verb() -> None:
    names = imported(
        "import contextlib, io\nfrom amber.cli import run\n"
        "with contextlib.redirect_stdout(io.StringIO()): run(['--help'])"
    )
    assert {name for name in names if name.startswith("amber.verbs")} == set()
    assert names & {*SLOW, "numpy", "pyarrow", "duckdb"} == set()


def test_the_list_of_verbs_matches_the_commands() -> None:
    from amber.cli import cli

    assert {name: command.name for name, command in cli.commands.items()} == {name: name for name in VERBS}


@pytest.mark.parametrize("verb", ["log", "tasks", "runs", "coverage", "plan", "prune"])
def test_a_query_does_not_import_pandas(verb: str, folder: Path) -> None:
    start = "from amber.__main__ import run_arguments\nrun_arguments()\nprint()"
    names = imported(f"import sys\nsys.argv = ['amber', '{verb}']\n{start}")
    assert {name for name in names if name.startswith("pandas.")} == set()


def test_verbs_of_the_catalog_load_no_plans() -> None:
    assert not {name for name in imported("import amber.verbs.ledger") if name.startswith(("samplers", "training"))}


def test_a_process_ends_after_its_exit_handlers_without_a_shutdown_of_the_interpreter() -> None:
    """Threads of Arrow that release Python objects too late abort a process whose interpreter shuts down."""
    script = (
        "import atexit, sys\nfrom amber.__main__ import run_and_leave\n"
        "class Late:\n    def __del__(self): print('shut down')\n"
        "sys.modules['late'] = Late()\n"
        "def work():\n    atexit.register(print, 'handler')\n    print('done')\n    return 11\n"
        "run_and_leave(work)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (11, "done\nhandler\n", "")


def test_a_process_that_fails_without_a_code_ends_with_1_and_the_trace() -> None:
    script = "from amber.__main__ import run_and_leave\nrun_and_leave(lambda: 1 // 0)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (
        1,
        "ZeroDivisionError: integer division or modulo by zero",
    )
