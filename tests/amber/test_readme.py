"""The first workspace of the README works as typed, in the shell and in Python, on a small data set."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.lamps import declare

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder as after `make demo`: the environment, and small `traffic_lights`."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    folder = declare(tmp_path / "datasets" / "traffic_lights", counts=(20, 6, 16))
    text = (folder / "dataset.toml").read_text()
    text = text.replace('"color"', '"light_color"').replace("label.color", "label.light_color")
    (folder / "dataset.toml").write_text(text)
    return tmp_path


def block(language: str) -> str:
    """The block of the section "A first workspace" in a language."""
    section = README.split("## A first workspace")[1].split("\n## ")[0]
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return found


def worked(words: list[str], folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AMBER_")}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_workspace_in_the_shell(checkout: Path) -> None:
    out = worked(["bash", "-e", "-c", block("bash")], checkout)
    assert "yellow (mined)" in out
    assert 'id="next"' in (checkout / "report.html").read_text()


def test_the_same_in_python(checkout: Path) -> None:
    out = worked([sys.executable, "-c", block("python")], checkout)
    assert len(re.findall(r"^\d+ labels: [01]\.\d+$", out, re.MULTILINE)) == 4
    assert 'id="loop"' in (checkout / "report.html").read_text()
