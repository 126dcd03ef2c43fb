"""The entry point (`amber`, `python -m amber`): it catches Ctrl-C before anything heavy is imported."""

import atexit
import os
import sys
from collections.abc import Callable
from contextlib import suppress

__all__ = ["main", "run_and_leave", "run_arguments"]

WITHOUT_PANDAS = {
    "backup", "coverage", "diff", "forget", "log", "oracle", "owners", "plan", "policy", "prune", "restore", "revert",
    "runs", "slices", "tasks",
}  # fmt: skip
"""Verbs that read the catalog alone: no library of theirs, and no code of the user, can need pandas."""


class WithoutPandas:
    """Hides pandas, which Amber does not use: DuckDB and Arrow import it where it is installed, a fifth of a start."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """ModuleNotFoundError for pandas, None for all else, as a finder of `sys.meta_path`."""
        if name == "pandas":
            raise ModuleNotFoundError("pandas is hidden: this verb of Amber does not use it", name=name)


def main() -> None:
    """Run the command line."""
    run_and_leave(run_arguments)


def run_and_leave(work: Callable[[], int]) -> None:
    """Run `work` and end the process with the code it returns, at once after the exit handlers registered since.

    Otherwise the interpreter shuts down while threads of Arrow and DuckDB may still have to release Python objects; a
    thread that is late then aborts the process after all its work is done (Python before 3.14).
    """
    codes = [1]
    atexit.register(lambda: _leave(codes[-1]))  # what is registered first is called last
    codes.append(work())
    sys.exit(codes[-1])


def _leave(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def run_arguments() -> int:
    """Run the command that the process was started with, and return its exit code."""
    if WITHOUT_PANDAS & set(sys.argv[1:2]) or "_AMBER_COMPLETE" in os.environ:
        sys.meta_path.insert(0, WithoutPandas())
    try:
        from amber.cli import run
    except KeyboardInterrupt:
        exec("")  # see amber/exit_codes.py
        print("amber: interrupted before it started; run the same again", file=sys.stderr)  # noqa: T201
        return 130
    return run(sys.argv[1:])


if __name__ == "__main__":
    main()
