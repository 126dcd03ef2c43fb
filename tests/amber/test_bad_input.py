"""Whatever a user or a machine does wrong: one line on standard error, a code, and a catalog as it was before."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.lamps import DECLARATION, declare, ingested

from amber.cli import run
from curation.catalog.catalog import Catalog

Capture = pytest.CaptureFixture[str]

POLICY = '[task.color]\nowner = "signals"\nshare = {share}\nimportance = {share}\nrule = "balanced"\n'


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set (`data`) and a workspace that holds it (`home`): to be copied, not changed."""
    folder = tmp_path_factory.mktemp("template")
    ingested(folder)
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the workspace in the current folder, and the data set."""
    shutil.copytree(template / "home", tmp_path / "home")
    (tmp_path / "data").symlink_to(template / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AMBER_HOME", "home")
    monkeypatch.setenv("AMBER_AUTHOR", "ada")
    return tmp_path


def digest() -> str:
    """Of the catalog's history; equal digests are equal contents."""
    with Catalog.open("home").read() as now:
        return now.digest


def refused(capsys: Capture, *words: str, code: int = 2) -> str:
    """The one line with which a command is refused, once nothing else was printed or changed."""
    before = digest()
    assert run(list(words)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert digest() == before
    return one_line(err)


def one_line(err: str) -> str:
    """The only line that is no progress."""
    (line,) = [line for line in err.splitlines() if line.strip() and not line.startswith("  ")]
    assert line.startswith("amber: ")
    assert "Traceback" not in line
    return line


REFUSED = {
    "no such verb": (["lop"], "'lop'", "Did you mean"),
    "no such option": (["loop", "--round", "3"], "--round", "--rounds"),
    "no such folder": (["ingest", "nowhere"], "nowhere", "dataset.toml"),
    "a folder that is no data set": (["ingest", "home"], "home", "dataset.toml"),
    "images of a data set that draws none": (["ingest", "data", "--images", "9"], "images", "leave it out"),
    "no author": (["ingest", "data", "--author", " "], "author ' '", "AMBER_AUTHOR"),
    "no workspace": (["tasks", "--home", "nowhere"], "nowhere", "amber init --home nowhere"),
    "a file as home": (["init", "--home", "data/dataset.toml"], "data/dataset.toml", "--home"),
    "an empty home": (["init", "--home", ""], "home ''", "AMBER_HOME"),
    "a split that is none": (["coverage", "--split", "tset"], "'tset'", "'test'"),
    "no such slice": (["slices", "show", "yelow"], "'yelow'", "amber slices"),
    "a commit to come": (["slices", "show", "yellow", "--commit", "99"], "commit 99", "0 to 1"),
    "a commit below zero": (["plan", "--commit", "-1"], "commit -1", "0 to 1"),
    "a commit that is a word": (["plan", "--commit", "HEAD"], "'HEAD'", "integer"),
    "a slice of no task": (["slices", "add", "a", "true", "--task", "colour"], "'colour'", "amber tasks"),
    "a slice of a bad name": (["slices", "add", "a b", "true"], "'a b'", "name"),
    "options before a subcommand": (["slices", "--home", "home", "add", "a", "true"], "'add'", "behind"),
    "no labels yet": (["plan"], "no label", "label"),
    "no draws": (["plan", "--draws", "0"], "--draws", "x>=1"),
    "a seed below zero": (["request", "--budget", "4", "--seed", "-1"], "-1", "x>=0"),
    "a budget below one": (["request", "--budget", "-4"], "budget -4", "raise"),
    "a random share above one": (["request", "--budget", "4", "--random-share", "3"], "3.0", "[0, 1]"),
    "no such run": (["request", "--budget", "4", "--run", "f00"], "'f00'", "no such"),
    "no run yet": (["report"], "no run", "amber train"),
    "no plan yet": (["train"], "no plan", "amber plan"),
    "no such plan": (["train", "--plan", "f00"], "'f00'", "amber plan --list"),
    "a trunk that is none": (["train", "--trunk", "resnet"], "'resnet'", "'small'"),
    "rounds below zero": (["loop", "--rounds", "-1"], "rounds -1", "negative"),
    "a budget of nothing": (["loop", "--budget", "0"], "budget 0", "raise"),
    "a start below zero": (["loop", "--start", "-1"], "start -1", "negative"),
    "fewer draws than a batch": (["loop", "--draws", "63"], "draws 63", "64"),
    "a loop without an author": (["loop", "--author", ""], "author ''", "--author"),
    "a negative count": (["log", "-n", "-3"], "-3", "x>=0"),
    "no policy": (["policy", "check", "nowhere.toml"], "nowhere.toml", "check the path"),
    "a folder as policy": (["loop", "--policy", "home"], "home", "check the path"),
}  # fmt: skip


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("words", "value", "mend"), REFUSED.values(), ids=REFUSED)
def test_is_refused_in_one_line(words: list[str], value: str, mend: str, capsys: Capture) -> None:
    line = refused(capsys, *words)
    assert value in line
    assert mend in line


PREDICATES = {
    "; DROP TABLE sample": "boolean expression",
    "label.color = 'red'; DROP TABLE sample": "boolean expression",
    "true) OR (DELETE FROM sample": "boolean expression",
    "(DELETE FROM sample RETURNING true)": "boolean expression",
    "EXISTS (INSERT INTO sample SELECT * FROM sample)": "boolean expression",
    "(SELECT count(*) FROM sample) > 0": "subquery",
    "true FROM sample": "nothing else",
    "length(read_text('/etc/passwd').content) > 0": "read_text",
    "random() > 0.5": "random",
    "getenv('HOME') = '/'": "getenv",
    "attr.colour = 'red'": "attr.colour",
    "label.colour = 'red'": "did you mean 'color'",
    "nope = 1": "'nope'",
    "label.color": "true or false",
    "label.color = 'red": "unterminated",
    "": "boolean expression",
    "count(*) > 1": "count",
    "label.color = $1": "parameter",
}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("predicate", "why"), PREDICATES.items())
def test_a_slice_is_one_boolean_expression(predicate: str, why: str, capsys: Capture) -> None:
    line = refused(capsys, "slices", "add", "bad", "--", predicate)
    assert repr(predicate) in line
    assert why in line


POLICIES = {
    "shares that do not sum to 1": (POLICY.format(share=0.9), "sum to 0.9, must sum to 1"),
    "a share that is a word": (POLICY.format(share='"half"'), "task.color.share = 'half'"),
    "a task that is unknown": (POLICY.format(share=1).replace("color", "colour"), "did you mean 'color'"),
    "a boost of a slice that is unknown": (POLICY.format(share=1) + "boost = { yelow = 2.0 }", "'yelow'"),
    "a field that is unknown": (POLICY.format(share=1) + "gama = 0.5", "task.color.gama"),
    "a rule that is unknown": (POLICY.format(share=1).replace("balanced", "fair"), "'fair'"),
    "no TOML": ("[task.color", "not valid TOML"),
    "nothing": ("", "task"),
}


@pytest.mark.parametrize("words", [["policy", "check"], ["plan", "--policy"], ["loop", "--policy"]], ids=" ".join)
@pytest.mark.parametrize(("text", "why"), POLICIES.values(), ids=POLICIES)
def test_a_policy_is_refused(words: list[str], text: str, why: str, folder: Path, capsys: Capture) -> None:
    (folder / "policy.toml").write_text(text)
    line = refused(capsys, *words, "policy.toml")
    assert why in line


def test_every_fault_of_a_declaration_is_named(folder: Path, capsys: Capture) -> None:
    faults = {"class_folders": "folders", '["red"': '["green"', "0.3": "1.3", 'owner = "signals"': ""}
    text = DECLARATION
    for right, wrong in faults.items():
        text = text.replace(right, wrong)
    (folder / "wrong").mkdir()
    (folder / "wrong" / "dataset.toml").write_text(text)
    line = refused(capsys, "ingest", "wrong")
    for named in ("wrong/dataset.toml", "'folders'", "owner", "split.test = 1.3"):
        assert named in line


def truncated(path: Path) -> None:
    picture().save(path, quality=95)
    path.write_bytes(path.read_bytes()[:-200])


def huge(path: Path) -> None:
    """A PNG whose header announces 10^10 pixels."""
    picture().save(path, "PNG")
    data = path.read_bytes()
    side = (100_000).to_bytes(4, "big")
    path.write_bytes(data[:16] + side + side + data[24:])


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture().save(path, exif=exif)


def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 48, 3))
    return Image.fromarray(pixels.astype(np.uint8))


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated.jpg": (truncated, "cut off"),
    "empty.jpg": (Path.touch, "empty"),
    "text.jpg": (lambda path: path.write_text("not an image\n"), "text, not an image"),
    "huge.png": (huge, "100000 x 100000 pixels"),
}
ODD: dict[str, Callable[[Path], object]] = {
    "cmyk.jpg": lambda path: picture().convert("CMYK").save(path),
    "deep.png": lambda path: Image.fromarray(np.full((32, 48), 40_000, np.uint16)).save(path),
    "grey.png": lambda path: picture().convert("L").save(path),
    "alpha.png": lambda path: picture().convert("RGBA").save(path),
    "turned.jpg": turned,
}


@pytest.fixture
def awkward(folder: Path) -> Path:
    """A data set in which bad and odd images stand among sound ones."""
    declare(folder / "awkward", counts=(6, 3, 6))
    for name, (write, _) in BAD.items():
        write(folder / "awkward" / "images" / "red" / name)
    for name, make in ODD.items():
        make(folder / "awkward" / "images" / "green" / name)
    return folder / "new"


def test_bad_images_are_quarantined_and_the_rest_goes_in(awkward: Path, capsys: Capture) -> None:
    assert run(["ingest", "awkward", "--home", str(awkward)]) == 2
    out, err = capsys.readouterr()
    assert "20 samples (20 new)" in out
    with Catalog.open(awkward).read() as now:
        kept = {Path(row["location"]).name: row for row in now.quarantine().to_pylist()}
        sizes = {Path(row["location"]).name: (row["width"], row["height"]) for row in now.samples().to_pylist()}
    for name, (_, reason) in BAD.items():
        assert reason in kept[name]["reason"]
        assert f"{name}: {kept[name]['reason']}" in err
    assert {name: sizes[name] for name in ODD} == dict.fromkeys(ODD, (48, 32)) | {"turned.jpg": (32, 48)}


def test_odd_images_go_round_the_loop(awkward: Path, capsys: Capture) -> None:
    assert run(["ingest", "awkward", "--home", str(awkward), "--json"]) == 2
    words = ["--rounds", "0", "--start", "8", "--draws", "64", "--trunk", "small"]
    assert run(["loop", *words, "--home", str(awkward)]) == 0, capsys.readouterr().err


def test_bad_images_again_change_nothing(awkward: Path, capsys: Capture) -> None:
    counts = []
    for _ in range(2):
        assert run(["ingest", "awkward", "--home", str(awkward)]) == 2
        with Catalog.open(awkward).read() as now:
            counts.append(now.counts())
    assert counts[0] == counts[1]


def test_nothing_but_bad_images(folder: Path, capsys: Capture) -> None:
    declare(folder / "bad", counts=(2, 0, 0))
    for path in (folder / "bad" / "images" / "red").iterdir():
        path.write_bytes(b"")
    assert "none of its 2 images" in refused(capsys, "ingest", "bad")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("home", "code"), [("data/dataset.toml/home", 2), ("/dev/null/home", 2), ("/proc/home", 1)])
def test_a_home_that_cannot_be_made(home: str, code: int, capsys: Capture) -> None:
    assert home in refused(capsys, "init", "--home", home, code=code)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_without_rights(folder: Path, capsys: Capture) -> None:
    (folder / "home").chmod(0o500)
    assert "home" in refused(capsys, "ingest", "data", code=1)


def test_an_image_that_changed_is_not_packed(folder: Path, capsys: Capture) -> None:
    (folder / "data").unlink()
    declare(folder / "data", seed=1)
    assert run(["ingest", "data", "--home", "other"]) == 0
    (folder / "data" / "images" / "red" / "000.jpg").unlink()
    capsys.readouterr()
    assert "red/000.jpg" in refused(capsys, "pack", "--home", "other")


def test_a_catalog_that_is_none(folder: Path, capsys: Capture) -> None:
    (folder / "broken").mkdir()
    (folder / "broken" / "catalog.duckdb").write_bytes(b"nonsense" * 1000)
    assert "broken/catalog.duckdb" in refused(capsys, "log", "--home", "broken", code=4)


def test_a_damaged_shard(folder: Path, capsys: Capture) -> None:
    assert run(["pack"]) == 0
    (shard,) = (folder / "home" / "shards").iterdir()
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.write_bytes(data)
    capsys.readouterr()
    assert shard.name in refused(capsys, "pack", "--verify", code=4)


# What the machine does


LOOP = ["loop", "--rounds", "0", "--start", "8", "--draws", "128"]
LONG = ["loop", "--rounds", "0", "--start", "8", "--draws", "200000"]
FULL = "[Ss]pace|too large"


def amber(*words: str, limit: int | None = None) -> "subprocess.Popen[str]":
    """`amber` in a process of its own, on a disk that is full for files above `limit` bytes."""

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell runs behind ignores it
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    words = (sys.executable, "-m", "amber", *words)
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=prepare)


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Its exit code, and what it printed to standard error from now on."""
    err = process.communicate(timeout=120)[1]
    return process.returncode, err


def seen(process: "subprocess.Popen[str]", text: str) -> None:
    """Wait until a line of standard error holds `text`."""
    assert process.stderr
    assert any(text in line for line in process.stderr), "it ended without"


@pytest.fixture
def disk(folder: Path) -> Iterator[Path]:
    """A disk of 9 MB."""
    (folder / "disk").mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", folder / "disk"], capture_output=True)
    if mounted.returncode:
        pytest.skip("a disk can be mounted by root alone")
    yield folder / "disk"
    subprocess.run(["umount", folder / "disk"], check=True)


def left_half_written(home: Path) -> list[Path]:
    return [path for path in home.rglob("*.part") if ".work" not in path.parts]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("limit", [0, 5_000, 100_000, 300_000])
def test_a_full_disk_in_ingest(limit: int) -> None:
    code, err = ended(amber("ingest", "data", "--home", "new", limit=limit))
    assert code == 1
    assert re.search(FULL, one_line(err)), err
    assert not left_half_written(Path("new"))
    assert run(["ingest", "data", "--home", "new"]) == 0
    with Catalog.open("new").read() as now:
        assert now.digest == digest()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("limit", [10, 5_000, 20_000, 60_000, 150_000, 300_000])
def test_a_full_disk_in_the_loop(limit: int) -> None:
    code, err = ended(amber(*LOOP, limit=limit))
    assert code == 1
    assert re.search(FULL, one_line(err)), err
    assert not left_half_written(Path("home"))
    assert run(LOOP) == 0


def test_a_disk_that_fills_up(disk: Path) -> None:
    """Whatever stage meets the end of the disk, what was committed stays, and with more room it goes on."""
    home = disk / "home"
    shutil.copytree("home", home)
    for room in (0, 60_000, 200_000, 400_000):
        filler = disk / "filler"
        filler.write_bytes(bytes(max(0, shutil.disk_usage(disk).free - room)))
        code, err = ended(amber(*LOOP, "--home", str(home)))
        assert code == 1
        assert re.search(FULL, one_line(err)), err
        with Catalog.open(home).read() as now:
            assert now.counts()
        filler.unlink()
    shutil.rmtree(Path("home"))
    shutil.copytree(home, Path("home"))
    assert run(LOOP) == 0


@pytest.mark.usefixtures("folder")
def test_a_report_that_cannot_be_written(capsys: Capture) -> None:
    assert run(LOOP) == 0
    capsys.readouterr()
    assert "/proc/report.html" in refused(capsys, "report", "--out", "/proc/report.html", code=1)


def test_a_class_that_the_task_does_not_have(folder: Path, capsys: Capture) -> None:
    (folder / "data").unlink()
    declare(folder / "data")
    text = (folder / "data" / "dataset.toml").read_text()
    (folder / "data" / "dataset.toml").write_text(text.replace('"yellow"', '"amber"', 1))
    assert "'yellow'" in refused(capsys, "ingest", "data", "--home", "new")
    assert not (folder / "new" / "oracle.parquet").exists()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("stage", ["pack", "embed"])
def test_ctrl_c_in_the_loop(stage: str) -> None:
    process = amber(*LONG)
    seen(process, stage)
    process.send_signal(signal.SIGINT)
    code, err = ended(process)
    assert code == 130
    assert "interrupted" in one_line(err)
    assert run(LOOP) == 0


@pytest.mark.usefixtures("folder")
def test_ctrl_c_in_ingest() -> None:
    process = amber("ingest", "data", "--home", "new")
    while not Path("new/catalog.lock").exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    code, err = ended(process)
    assert code == 130
    assert "interrupted" in one_line(err)
    assert run(["ingest", "data", "--home", "new"]) == 0
    with Catalog.open("new").read() as now:
        assert now.digest == digest()


def test_ctrl_c_before_it_began() -> None:
    words = [sys.executable, "-X", "importtime", "-m", "amber", "--help"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    seen(process, "click")
    process.send_signal(signal.SIGINT)
    code, err = ended(process)
    assert code == 130
    assert "interrupted" in one_line("\n".join(line for line in err.splitlines() if "import time" not in line))


@pytest.mark.usefixtures("folder")
def test_two_loops_at_once(capsys: Capture) -> None:
    with amber(*LONG) as process:
        seen(process, "embed")
        code = run(LONG)
        process.kill()
    assert code == 3
    assert "another loop" in one_line(capsys.readouterr().err)


@pytest.mark.usefixtures("folder")
def test_two_ingests_at_once() -> None:
    both = [amber("ingest", "data", "--home", "new") for _ in range(2)]
    assert [ended(process)[0] for process in both] == [0, 0]
    with Catalog.open("new").read() as now:
        assert now.digest == digest()


@pytest.mark.usefixtures("folder")
def test_a_catalog_that_is_held(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setitem(Catalog.__init__.__kwdefaults__, "patience", 0.05)
    with Catalog.open("home").commit(author="ada", message="long"):
        assert run(["tasks"]) == 3
    assert str(os.getpid()) in one_line(capsys.readouterr().err)


def test_a_catalog_that_is_held_outside_amber(folder: Path, capsys: Capture) -> None:
    code = "import duckdb, sys; held = duckdb.connect('home/catalog.duckdb'); print(flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        assert run(["tasks"]) == 3
        process.communicate()
    assert "home/catalog.duckdb" in one_line(capsys.readouterr().err)
