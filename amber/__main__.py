"""The entry point (`amber`, `python -m amber`): it catches Ctrl-C before anything heavy is imported."""

import os
import sys

__all__ = ["main"]

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
    if WITHOUT_PANDAS & set(sys.argv[1:2]) or "_AMBER_COMPLETE" in os.environ:
        sys.meta_path.insert(0, WithoutPandas())
    try:
        from amber.cli import run
    except KeyboardInterrupt:
        exec("")  # see amber/exit_codes.py
        print("amber: interrupted before it started; run the same again", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
