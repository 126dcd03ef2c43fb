"""`amber export-model`: what it prints, and what it refuses in one line. The networks: tests/training/deployment."""

import json
from pathlib import Path

import pytest
from support.lamps import ingested
from support.refusals import refused

from amber.cli import run

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one run."""
    folder = tmp_path_factory.mktemp("deploying")
    ingested(folder)
    (folder / "recipe.toml").write_text('trunk = "small"\nsize = [32, 48]\naugment = false\nthreads = 1\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMBER_HOME", str(folder / "home"))
        patch.setenv("AMBER_AUTHOR", "ada")
        for words in (["request", "--budget", "40", "--random-share", "1"], ["oracle"], ["pack"],
                      ["plan", "--draws", "128"], ["train", "--recipe", str(folder / "recipe.toml")]):  # fmt: skip
            assert run(words) == 0, words
    return folder / "home"


@pytest.fixture
def trained(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The run of the workspace `home`, which is in the current folder under that name."""
    (tmp_path / "home").symlink_to(home)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AMBER_HOME", "home")
    (path,) = home.glob("runs/*/run.json")
    return path.parent.name


def test_a_network_is_exported(trained: str, capsys: Capture) -> None:
    assert run(["export-model", trained[:6], "--to", "out", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["run"], made["tasks"], made["folder"]) == (trained, ["color"], "out")
    assert made["check"]["onnx_recorded"] <= 1e-4
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "model.json", "model.onnx", "model.pt2", "weights.safetensors",
    ]  # fmt: skip


REFUSED = {
    "no such run": (["nosuch", "--to", "out"], "'nosuch'", 2),
    "no such task": (["RUN", "--task", "boat", "--to", "out"], "its tasks are color", 2),
    "a folder that exists": (["RUN", "--to", "home"], "home: exists already", 2),
    "a folder in a file": (["RUN", "--to", "file/out"], "file/out: not written", 1),
    "no folder": (["RUN"], "--to", 2),
}


@pytest.mark.parametrize(("words", "says", "code"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_exported_is_one_line(
    trained: str, words: list[str], says: str, code: int, capsys: Capture
) -> None:
    Path("file").touch()
    assert says in refused(capsys, "export-model", *[trained if word == "RUN" else word for word in words], code=code)
    assert sorted(path.name for path in Path().iterdir()) == ["file", "home"]
