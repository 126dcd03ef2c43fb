"""The entry point (`amber`, `python -m amber`): it catches Ctrl-C before anything heavy is imported."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    try:
        from amber.cli import run
    except KeyboardInterrupt:
        exec("")  # see amber/exit_codes.py
        print("amber: interrupted before it started; run the same again", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
