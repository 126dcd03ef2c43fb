"""Errors of the command line: one line on standard error, and an exit code.

0 done, 1 the machine failed (a full disk), 2 bad input, 3 the catalog is locked, 4 a damaged file, 10 a gate blocks (or
a replay differs), 11 a gate lacks data, 130 interrupted.
"""

import errno
import os
import sys
from collections.abc import Callable

import click

from amber.extras import missing_module
from amber.interrupts import remembered
from curation.errors import AmberError

__all__ = ["OUTCOMES", "guarded"]

OUTCOMES = {"pass": 0, "block": 10, "not enough data": 11}
"""The exit code of each decision of a gate."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_MEMORY = ("not enough memory", "can't allocate memory", "CUDA out of memory")
"""How torch says that memory ran out."""


def guarded(work: Callable[[], object]) -> int:
    """Run `work` and return its exit code; an error that a user can cause becomes one line on standard error."""
    try:
        with remembered():
            code = work()
        sys.stdout.flush()
    except AmberError as error:
        return _fail(str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "amber"
        return _fail(f"{error.format_message().rstrip('.')}; see `{path} --help`", error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _interrupted()
    except BrokenPipeError:  # the reader has closed the pipe, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except ModuleNotFoundError as error:
        missing = missing_module(error)
        if missing is None:
            raise
        return _fail(str(missing), missing.exit_code)
    except OSError as error:
        fix = "free some space" if error.errno in FULL else "check the path and its rights"
        return _fail(f"{error.filename or 'system'}: {error.strerror or error}; {fix} and run the same again", 1)
    except MemoryError:
        return _out_of_memory()
    except RuntimeError as error:
        if str(error) == "Query interrupted":  # what DuckDB raises on Ctrl-C
            return _interrupted()
        if any(words in str(error) for words in NO_MEMORY):
            return _out_of_memory()
        raise
    return code if isinstance(code, int) else 0


def _interrupted() -> int:
    exec("")  # Python forgets an interrupt that passed an exec(); it would end by the signal instead of by the code
    return _fail("interrupted: what was committed is kept, nothing is half-written; run the same again", 130)


def _out_of_memory() -> int:
    return _fail("memory: there is too little; end other programs, or do less at once, and run the same again", 1)


def _fail(message: str, code: int) -> int:
    click.echo(f"amber: {' '.join(message.split())}", err=True)
    return code
