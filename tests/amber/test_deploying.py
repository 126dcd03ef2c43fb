"""`amber export-model` and `predict`: what they print and refuse. Their networks: tests/training/deployment."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
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


@pytest.mark.parametrize(
    "words",
    [["predict", "RUN", "images"], ["export-model", "RUN", "--to", "out"], ["replay", "RUN", "--to", "out"]],
    ids=" ".join,
)
def test_altered_weights_are_damage(
    trained: str, words: list[str], home: Path, tmp_path: Path, capsys: Capture
) -> None:
    """torch itself reads them without a word."""
    shutil.copytree(home, tmp_path / "altered")
    (tmp_path / "images").symlink_to(home.parent / "data" / "images" / "red")
    path = tmp_path / "altered" / "runs" / trained / "checkpoints" / "last.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    call = [trained if word == "RUN" else word for word in words]
    assert "differs from what was written; train run" in refused(capsys, *call, "--home", "altered", code=4)
    assert words[0] == "replay" or not Path("out").exists()


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


def test_a_folder_is_predicted(trained: str, home: Path, capsys: Capture) -> None:
    images = home.parent / "data" / "images" / "red"
    assert run(["predict", trained[:6], str(images), "--pictures", "page.html"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "predictions.parquet: 40 images" in told
    assert "less like the training images" in told
    table = pq.read_table("predictions.parquet")
    assert (len(table), set(table["task"].to_pylist())) == (40, {"color"})
    assert table.column_names == ["key", "location", "task", "class", "code", "number", "confidence", "probabilities",
                                  "distance", "rank"]  # fmt: skip
    assert "data:image/jpeg" in Path("page.html").read_text()


def test_what_cannot_be_read_is_listed_and_the_rest_is_predicted(trained: str, home: Path, capsys: Capture) -> None:
    Path("in").mkdir()
    shutil.copy(home.parent / "data" / "images" / "red" / "000.jpg", "in/good.jpg")
    Path("in/bad.jpg").write_text("no image")
    assert run(["predict", trained, "in", "--out", "out.parquet", "--json"]) == 2
    out, err = capsys.readouterr()
    made = json.loads(out)
    assert (made["images"], [Path(part["path"]).name for part in made["unreadable"]]) == (1, ["bad.jpg"])
    assert "cannot be read" in err
    assert pq.read_table("out.parquet")["key"].to_pylist() == ["good.jpg"]


UNPREDICTED = {
    "no such folder": (["RUN", "nowhere"], "nowhere: no such folder"),
    "a folder without images": (["RUN", "empty"], "empty: holds no image"),
    "images that are none": (["RUN", "bad"], "none of 1 images can be read"),
    "a device that is not there": (["RUN", "bad", "--device", "cuda"], "no GPU"),
    "no such run": (["nosuch", "bad"], "'nosuch'"),
}


@pytest.mark.parametrize(("words", "says"), UNPREDICTED.values(), ids=UNPREDICTED)
def test_what_cannot_be_predicted_is_one_line(trained: str, words: list[str], says: str, capsys: Capture) -> None:
    Path("empty").mkdir()
    Path("bad").mkdir()
    Path("bad/a.jpg").touch()
    assert says in refused(capsys, "predict", *[trained if word == "RUN" else word for word in words])
    assert not Path("predictions.parquet").exists()
