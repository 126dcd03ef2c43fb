"""The entry point (`amber`, `python -m amber`): it catches Ctrl-C before anything heavy is imported."""

import sys

__all__ = ["main"]

WITH_PANDAS = {"browse", "label", "loop", "pack", "serve"}
"""Verbs whose libraries (FiftyOne, Label Studio's SDK, Ray) may use pandas. For all others DuckDB would import it, where it
is installed, at the first query with a parameter, and not use it: a fifth of the start."""


def main() -> None:
    """Run the command line."""
    if not WITH_PANDAS & set(sys.argv[1:2]):
        sys.modules["pandas"] = None  # type: ignore[assignment]
    try:
        from amber.cli import run
    except KeyboardInterrupt:
        print("amber: interrupted before it started; run the same again", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
