"""Whatever is read back is what was written: one flipped byte in a file of a workspace is one line and exit code 4."""

import json
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support.homes import copy_home, label, labels, make_home
from support.workspace_files import FILES

from amber.cli import run
from amber.run_overlay import overlay_of
from amber.service.tokens import Tokens
from amber.verification import verify_files
from curation.catalog.admin.verification import verify
from curation.catalog.catalog import Catalog
from curation.catalog.event_tables import REQUESTS
from curation.catalog.held_back_labels import hold_back
from curation.catalog.snapshot import Snapshot
from curation.errors import Damaged
from curation.files.read_back import check_sha256, sha256_of
from curation.images.embeddings import Embeddings, add_vectors, forget_vectors, writing
from curation.requests import oracle
from curation.requests.candidates import Candidates
from samplers import Policy, make_plan
from samplers.pack.pack_writer import make_pack
from samplers.plan.plan import Plan
from training.dynamics.rebuilding import weights_sha256
from training.dynamics.retraining import Retraining
from training.imported import Imported
from training.loop.checkpoint import load_state, save_state, write_tensors
from training.network.weights import read_tensors
from training.recipe import Recipe
from training.run import Run

RUN = "runs/r/predictions.parquet"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A workspace with a plan, a run, embeddings and held-back labels."""
    catalog = make_home(tmp_path_factory.mktemp("read_back"), samples=60)
    pack = make_pack(catalog)
    with catalog.read() as now:
        plan = make_plan(catalog, Policy.for_labelled(now), pack, draws=64)
        keys = now.samples()["key"].to_pylist()
    Run(id="r", plan=plan.hash, commit=1, recipe=Recipe()).save(catalog.home)
    rows = {
        "key": keys, "task": ["color"] * 60, "code": pa.array([0, 1, 2] * 20, pa.int32()),
        "number": pa.nulls(60, pa.float64()), "confidence": pa.array([0.5] * 60, pa.float32()),
        "probabilities": [[0.5, 0.3, 0.2]] * 60,
    }  # fmt: skip
    pq.write_table(pa.table(rows), catalog.home / RUN)
    with catalog.commit(author="ada", message="run") as change:
        change.add_run("r", plan=plan.hash, predictions=RUN, sha256=sha256_of(catalog.home / RUN))
    with writing(catalog.home, "model", keys, [("all", 8)]) as vectors:
        vectors[:] = np.arange(480).reshape(60, 8)
    hold_back(catalog.home, labels([label(key, "bike", True, "oracle") for key in keys[:30]]))
    return catalog


@pytest.fixture
def catalog(original: Catalog, tmp_path: Path) -> Catalog:
    return copy_home(original, tmp_path)


def flip(path: Path, at: float = 0.5) -> None:
    """Change one bit of a file, `at` a part of its length."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 1
    path.write_bytes(data)


def mine(catalog: Catalog) -> object:
    with catalog.read() as now:
        return Candidates(now, catalog.home, run="r", embeddings="model").principal()


def mirror(catalog: Catalog) -> object:
    with catalog.read() as now:
        return overlay_of(catalog.home, now, "r", "")


def answer(catalog: Catalog) -> object:
    return oracle.answer(catalog, batch=uuid4().hex)


def more_vectors(catalog: Catalog) -> object:
    row = pa.array([[1.0] * 8], pa.list_(pa.float32()))
    return add_vectors(catalog.home, "model", pa.table({"key": ["pictures/00000"], "vector": row}))


READERS: list[tuple[str, Callable[[Catalog], object]]] = [
    (RUN, mine),
    (RUN, mirror),
    ("embeddings/model/vectors.npy", mine),
    ("embeddings/model/statistics.npy", mine),
    ("embeddings/model/keys.parquet", mine),
    ("embeddings/model/vectors.npy", lambda catalog: Embeddings.open(catalog.home, "model")),
    ("embeddings/model/vectors.npy", more_vectors),
    ("embeddings/model/vectors.npy", lambda catalog: forget_vectors(catalog.home, "pictures/00003")),
    ("oracle.parquet", answer),
    ("oracle.parquet", lambda catalog: hold_back(catalog.home, labels([label("pictures/00000", "bike", False)]))),
]


@pytest.mark.parametrize("reader", range(len(READERS)))
def test_a_flipped_byte_is_damage(reader: int, catalog: Catalog) -> None:
    file, read = READERS[reader]
    read(catalog)
    flip(catalog.home / file, 0.1)
    with pytest.raises(Damaged) as error:
        read(catalog)
    assert str(catalog.home / file) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_request_from_altered_predictions_ends_with_exit_4(
    catalog: Catalog, capfd: pytest.CaptureFixture[str]
) -> None:
    flip(catalog.home / RUN)
    assert run(["request", "--run", "r", "--budget", "3", "--home", str(catalog.home), "--author", "ada"]) == 4
    (line,) = capfd.readouterr().err.splitlines()
    assert "predictions.parquet: differs from what was written" in line
    with catalog.read() as now:
        assert len(now.requests()) == 0


@pytest.mark.parametrize("file", ["plan.json", "labels.parquet", "draws.parquet", "samples.parquet"])
def test_a_flipped_byte_of_a_plan_is_damage(file: str, catalog: Catalog) -> None:
    folder = Plan.newest(catalog.home).folder
    damaged = 0
    for at in (0.2, 0.4, 0.6):
        shutil.copy(folder / file, folder / "kept")
        flip(folder / file, at)
        damaged += 1
        with suppress(Damaged):
            plan = Plan(folder)
            assert (len(plan.draws), len(plan.keys) > 0, len(plan.label_value) > 0) == (64, True, True)
            damaged -= 1
        shutil.move(folder / "kept", folder / file)
    assert damaged == 3 if file == "plan.json" else damaged


def test_a_version_of_a_file_is_hashed_once(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"a" * 1000)
    sha256 = sha256_of(path)
    assert check_sha256(path, sha256, "fix") == path
    flip(path)
    with pytest.raises(Damaged, match="its sha256 is another"):
        check_sha256(path, sha256, "fix")
    path.unlink()
    with pytest.raises(Damaged, match="is missing; fix"):
        check_sha256(path, sha256, "fix")


def test_verify_names_the_altered_oracle(catalog: Catalog) -> None:
    flip(catalog.home / "oracle.parquet", 0.1)
    faults = [check.fault for check in verify(catalog) if check.name == "oracle"]
    assert "oracle.parquet" in faults[0]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "noise": lambda data: bytes(7 * at % 251 for at in range(len(data))),
    "list": lambda data: b"[1, 2]",
    "null": lambda data: b"null",
    "deep": lambda data: b"[" * 100_000,
}


@pytest.mark.parametrize("file", FILES)
def test_damage_of_any_kind_is_exit_4_in_one_line(
    file: str, catalog: Catalog, capfd: pytest.CaptureFixture[str]
) -> None:
    (path,) = catalog.home.glob(file) if "exposure" not in file and "service" not in file else [catalog.home / file]
    if file == "service.json":
        Tokens(catalog.home).add("ann", "label")
    if file == "runs/r/exposure.json":
        path.write_text("[{}]")
    whole = path.read_bytes()
    if file == "oracle.parquet":
        with catalog.commit(author="ada", message="ask") as change:
            change.add_requests(requested(change.now))
    for kind, damage in DAMAGE.items():
        path.write_bytes(damage(whole))
        code = run([*FILES[file].split(), "--home", str(catalog.home)])
        err = capfd.readouterr().err
        assert (code, len(err.splitlines())) == (4, 1), (kind, err)
        assert str(path) in err or str(path.parent) in err, (kind, err)
        if not file.startswith(("service", "plans/*/plan", "packs/*/man")):
            assert any(check.fault for check in [*verify(catalog), *verify_files(catalog.home)]), kind
    path.write_bytes(whole)
    assert [check for check in [*verify(catalog), *verify_files(catalog.home)] if check.fault] == []


def requested(now: Snapshot) -> pa.Table:
    row = {
        "sample_id": 0, "task_id": now.task_ids()["bike"], "arm": "random", "slice": "", "reason": "", "run": "",
        "priority": 0, "propensity": 1.0, "cost": 1.0,
    }  # fmt: skip
    return pa.Table.from_pylist([row], REQUESTS)


RECORDS: dict[str, tuple[Run | Imported | Retraining, str, Callable[[Path], object]]] = {
    "run": (
        Run(id="a", plan="p", commit=1, recipe=Recipe(), curve=[{"Draws": 1.0, "car": 0.25}], seconds=float("nan")),
        "runs/a/run.json", lambda home: Run.open(home, "a"),
    ),
    "imported": (
        Imported(id="a", model="m", file="f", sha256="0" * 64, commit=1, tasks={"car": 3}),
        "runs/a/imported.json", lambda home: Imported.open(home, "a"),
    ),
    "retraining": (
        Retraining(base="b", commit=1, settings={"seeds": 2}, ledger={"sample": 3}, wanted={"head": ("car",)}, why={}),
        "retraining.json", Retraining.newest,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RECORDS)
def test_any_flipped_bit_of_a_record_is_damage(name: str, tmp_path: Path) -> None:
    record, file, opened = RECORDS[name]
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    record.save(tmp_path)
    assert repr(opened(tmp_path)) == repr(record)
    whole = path.read_bytes()
    for at in range(0, len(whole), 2):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at // 2 % 7]) + whole[at + 1 :])
        with pytest.raises(Damaged, match=f"^{path}: cannot be read"):
            opened(tmp_path)


def test_a_record_of_an_older_amber_has_no_digest(tmp_path: Path) -> None:
    Run(id="a", plan="p", commit=1, recipe=Recipe()).save(tmp_path)
    path = tmp_path / "runs" / "a" / "run.json"
    path.write_text(
        json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != "digest"})
    )
    assert Run.open(tmp_path, "a").plan == "p"


READ_TENSORS: dict[str, Callable[[Path], object]] = {
    "weights": lambda path: read_tensors(path, "train it again"),
    "a state": load_state,
    "their digest": lambda path: weights_sha256(path.parents[3], "a"),
}


@pytest.mark.parametrize("name", READ_TENSORS)
def test_a_flipped_bit_of_tensors_is_damage(name: str, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "a" / "checkpoints" / "last.pt"
    path.parent.mkdir(parents=True)
    values = {"w": torch.arange(5_000.0), "b": torch.ones(3)}
    (save_state if name == "a state" else write_tensors)(path, values)
    READ_TENSORS[name](path)
    whole = path.read_bytes()
    for part in (0.3, 0.5, 0.7):
        flip(path, part)
        with pytest.raises(Damaged, match=r"last.pt: a?.*data/\d differs from what was written; "):
            READ_TENSORS[name](path)
        path.write_bytes(whole)


def test_a_damaged_checkpoint_is_found(catalog: Catalog) -> None:
    path = catalog.home / "runs" / "r" / "checkpoints" / "last.pt"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", b"a" * 1000)
    whole = path.read_bytes()
    for damage in (DAMAGE["empty"], DAMAGE["half"], DAMAGE["noise"], lambda data: data.replace(b"a" * 9, b"b" * 9, 1)):
        path.write_bytes(damage(whole))
        faults = [check.fault for check in verify_files(catalog.home) if check.name == "run files"]
        assert "last.pt" in faults[0]
