"""A missing extra ends in one line with the command that installs it."""

import doctest
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from support.lamps import ingested

from amber.extras import EXTRAS

ROOT = Path(__file__).parents[2]
BASE = """
import importlib.abc, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ModuleNotFoundError("No module named " + name, name=name)
sys.meta_path.insert(0, Blocker())
from amber.cli import run
sys.exit(run(sys.argv[1:]))
"""
"""Runs a command as in an environment without the modules of all extras."""

COMMANDS = {
    "train": ["train"],
    "loop": ["loop", "--draws", "64"],
    "search tree": ["search", "tree"],
    "search weights": ["search", "weights"],
    "serve": ["serve"],
    "label push": ["label", "push", "--url", "http://127.0.0.1:9", "--token", "t"],
    "label status": ["label", "status", "--url", "http://127.0.0.1:9", "--token", "t"],
    "loop with people": ["loop", "--label-studio", "http://127.0.0.1:9", "--token", "t"],
    "pack --ray": ["pack", "--ray", "local"],
    "browse": ["browse", "--no-app"],
    "init --catalog": ["init", "--catalog", "postgresql://a@127.0.0.1:9/b?data=/nowhere/lake", "--home", "new"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a workspace `home` that has a plan."""
    folder = tmp_path_factory.mktemp("extras")
    ingested(folder)
    for words in (["request", "--budget", "20", "--random-share", "1"], ["oracle"], ["plan", "--draws", "64"]):
        done = subprocess.run([sys.executable, "-m", "amber", *words], cwd=folder, env=environment(folder), check=False)
        assert done.returncode == 0
    return folder


def environment(folder: Path) -> dict[str, str]:
    variables = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    return {**variables, "AMBER_HOME": str(folder / "home"), "AMBER_AUTHOR": "ada"}


def one_line(done: "subprocess.CompletedProcess[str]") -> str:
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("  ")]
    assert line.startswith("amber: ")
    return line


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_missing_extra_is_one_line(folder: Path, words: list[str]) -> None:
    blocked = [module for modules in EXTRAS.values() for module in modules]
    code = BASE.format(blocked=blocked)
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder, env=environment(folder), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (1, 2), done.stderr
    assert "amber-curation[" in one_line(done)


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_a_page_installs_from_the_checkout_what_there_is(page: Path) -> None:
    """The wheel is in no registry: a page that names it would install nothing, or somebody else's package."""
    text = "" if page.name == "log.md" else page.read_text()
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for wanted in re.findall(r"pip install ([^`\n]*)", text):
        found = re.match(r"-e '\.\[([a-z,]+)\]'", wanted)
        assert found, wanted
        assert set(found[1].split(",")) <= set(known)


def test_examples_in_the_docstrings() -> None:
    import amber.cli
    import amber.loop
    import amber.terminal
    import amber.verbs.options
    import curation.errors

    for module in (curation.errors, amber.extras, amber.cli, amber.loop, amber.terminal, amber.verbs.options):
        assert doctest.testmod(module).failed == 0


@pytest.mark.soak
def test_the_base_wheel_in_a_fresh_environment(folder: Path, tmp_path: Path) -> None:
    """Installs a hundred megabytes, so it runs only in `make soak`."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT]
    subprocess.run(pip, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "fresh", with_pip=True)
    python = tmp_path / "fresh" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel], check=True)
    variables = {**environment(folder), "PYTHONPATH": ""}
    for verb in ("train", "loop", "serve"):
        done = subprocess.run(
            [python.with_name("amber"), *COMMANDS[verb]],
            cwd=tmp_path, env=variables, capture_output=True, text=True, check=False,
        )  # fmt: skip
        extra = "service" if verb == "serve" else "train"
        assert done.returncode == 2, done.stderr
        assert f"pip install 'amber-curation[{extra}]'" in one_line(done)
