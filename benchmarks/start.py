"""`make bench-start`: how long every verb takes to start: its help, and a call that does its first work.

A start is what its help takes, on the clock; CPU, that of the process and its children, stands beside it, since other
work on the machine moves it less. A call works on a workspace of a few drawn images, or ends in the one line that says
that there is none: it has imported what the verb needs, and its work is in its figure. The verbs take turns.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from amber.cli import VERBS, run
from benchmarks.table import Row, finish, small

LIMIT = 0.6
ROUNDS = 3 if small() else 7
HERE = Path(__file__).resolve().parent.parent
LIBRARIES = "click, duckdb, numpy, pyarrow.compute, pyarrow.parquet, pydantic, PIL.Image, rich.console, rich.table"
"""What nearly every verb needs, imported by nothing else."""
READS = {
    "accounts": [], "init": [], "log": [], "notices": [], "owners": [], "plan": ["--list"], "prune": [],
    "revert": ["99"], "runs": [], "slices": [], "tasks": [],
}  # fmt: skip
"""Arguments of verbs that are called on a workspace."""
WITHOUT = {
    "advise": [], "affinity": [], "backup": ["copy"], "browse": [], "catalog": ["verify"], "compare": [],
    "compare-trees": [], "completion": ["zsh"],
    "coverage": [], "diff": ["1"], "discover": [], "doubts": [], "drift": ["1", "2"], "duplicates": [],
    "evaluate": [], "export-model": ["run", "--to", "out"], "forecast": ["--task", "car", "--target", "0.9"],
    "forget": ["key", "--yes"], "gate": ["--gate", "gate.toml", "--author", "bench"], "group": [], "ingest": ["."],
    "label": ["status"], "lineage": [], "loop": [], "oracle": [], "pack": [], "policy": ["suggest"],
    "predict": ["run", "images"], "predictions": ["import", "theirs.csv", "--name", "theirs"], "prevalence": [],
    "queue": [], "release": ["--list"], "replay": [], "report": [], "request": [], "restore": ["copy"],
    "retrain": ["--gate", "gate.toml"], "search": ["tree"],
    "serve": [], "similar": ["key"], "simulate": [".", "--wanted", "a=b"],
    "train": [], "triggers": [], "trunks": ["nosuch"], "write": ["csv", "out.csv"],
}  # fmt: skip
"""Arguments of verbs that are called without a workspace: on one, their work would be measured too."""


def main() -> None:
    """Start every verb in turn, and print the medians."""
    with tempfile.TemporaryDirectory(prefix="bench-start-") as name:
        folder = Path(name)
        _make_workspace(folder)
        calls = {
            (verb, what): ["-m", "amber", *words] for verb in VERBS for what, words in _calls(folder, verb).items()
        }
        calls["libraries", "alone"] = ["-c", f"import {LIBRARIES}"]
        took: dict[tuple[str, str], list[tuple[float, float]]] = {call: [] for call in calls}
        for _ in range(ROUNDS):
            for call, words in calls.items():
                took[call].append(_start(folder, words))
    finish("start", [_row(verb, what, took[verb, what]) for verb, what in calls])


def _make_workspace(folder: Path) -> None:
    """A workspace of 400 drawn images with labels, in `home`."""
    code = run(["ingest", str(HERE / "datasets" / "streets"), "--images", "400", "--author", "bench", "--home",
                str(folder / "home")])  # fmt: skip
    if code:
        sys.exit(code)


def _calls(folder: Path, verb: str) -> dict[str, list[str]]:
    home = folder / ("home" if verb in READS else "missing")
    return {"--help": [verb, "--help"], "call": [verb, *(READS | WITHOUT)[verb], "--home", str(home)]}


def _start(folder: Path, words: list[str]) -> tuple[float, float]:
    """Seconds on the clock and of CPU that one process takes."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "AMBER_AUTHOR": "bench", "PYTHONPATH": str(HERE)}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if "Traceback" in done.stderr:
        sys.exit(f"{' '.join(words)}: {done.stderr}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _row(verb: str, what: str, took: list[tuple[float, float]]) -> Row:
    """The median and the range of the rounds on the clock, and the median of CPU."""
    wall = [part for part, _ in took]
    value = statistics.median(wall)
    start = what == "--help"
    return Row(
        what=f"{verb} {what}", value=value, unit=" s", low=min(wall), high=max(wall),
        asked=f"<= {LIMIT} s" if start else "", met=not start or value <= LIMIT,
        peers={"CPU": statistics.median(part for _, part in took)},
    )  # fmt: skip


if __name__ == "__main__":
    main()
