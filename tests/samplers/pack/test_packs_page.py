"""The commands and the Python of docs/packs.md run in order, in one workspace."""

import gc
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from support.buckets import serving_bucket
from support.homes import make_home

from amber.cli import run

PAGE = Path(__file__).parents[3] / "docs" / "packs.md"

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:werkzeug", "ignore::DeprecationWarning:botocore")


def command(line: str) -> None:
    """Run a verb of Amber in this process, which is faster, and other commands in a shell."""
    if line.startswith("amber "):
        assert run(shlex.split(line, comments=True)[1:]) == 0, line
    else:
        subprocess.run(["bash", "-ec", line], check=True)


def without_amber(script: str) -> str:
    """The output of a script that may import nothing of Amber; webdataset leaves shards to the garbage collector."""
    ours = "{'amber', 'curation', 'samplers', 'training'}"
    check = f"import sys\nassert not {ours} & {{name.partition('.')[0] for name in sys.modules}}"
    Path("train_on_shards.py").write_text(f"{script}\n{check}\n")
    words = [sys.executable, "-W", "ignore", "train_on_shards.py"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```(bash|python)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    make_home(tmp_path).close()
    (tmp_path / "home").rename(tmp_path / "amber-home")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with serving_bucket("packs"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves shards to the garbage collector
        for kind, block in blocks:
            if block.startswith("# train_on_shards.py"):
                trained = without_amber(block)
            elif kind == "python":
                exec(compile(block, str(PAGE), "exec"), names)
            for line in block.splitlines() if kind == "bash" else []:
                command(line)
        names.pop("images").close()
        gc.collect()
    assert re.search(r"^pictures%2F\d+\.jpg\npictures%2F\d+\.json$", capfd.readouterr().out, re.MULTILINE)
    assert {path.suffix for path in Path("amber-home/shards").iterdir()} == {".tar"}
    assert trained.startswith("1280 draws, last loss ")
    assert names["rest"] == 1280 // 64 - 1
    assert names["note"]["position"] == 1279
    assert names["note"]["labels"].keys() == names["note"]["weights"].keys() != set()
