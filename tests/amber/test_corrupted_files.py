"""An attack on every kind of file that Amber reads: truncated, flipped, empty, of another type, huge, deeply nested.

Each reading command ends within limits of time and memory, in one line or as if nothing had happened, and the catalog
stays as it was. Run by `make soak`.
"""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.confined import command, confined
from support.homes import copy_home, label, labels, make_home
from support.sources import FORMATS, Scene, draw
from support.workspace_files import FILES as WORKSPACE

from amber.service.app import make_app
from amber.service.tokens import Tokens
from curation.catalog.admin.backup import export
from curation.catalog.catalog import Catalog
from curation.catalog.held_back_labels import hold_back
from curation.files.digest import digest
from curation.files.read_back import sha256_of
from curation.images.embeddings import writing
from samplers import Policy, make_pack, make_plan
from training.recipe import Recipe
from training.run import Run

pytestmark = pytest.mark.soak

RUN = "runs/r/predictions.parquet"

Damage = Callable[[bytes], bytes]


def flipped(seed: int) -> Damage:
    def flip(data: bytes) -> bytes:
        generator, changed = random.Random(seed), bytearray(data)
        for _ in range(3):
            changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
        return bytes(changed)

    return flip


DAMAGE: dict[str, Damage] = {
    "empty": lambda data: b"",
    "one byte": lambda data: data[:1],
    "nine tenths": lambda data: data[: len(data) * 9 // 10],
    "all but one byte": lambda data: data[:-1],
    "doubled": lambda data: data + data,
    "flipped": flipped(1),
    "flipped elsewhere": flipped(2),
    "zeros": lambda data: bytes(len(data)),
    "a picture": lambda data: b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(range(256)) * 4,
    "not UTF-8": lambda data: b"\xff\xfe\x00" + data,
    "NUL": lambda data: b"\0" + data,
    "deep": lambda data: b"[" * 100_000,
    "deep objects": lambda data: b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "a number": lambda data: b"1e999",
    "a huge number": lambda data: b"9" * 5_000,
    "words for numbers": lambda data: b'{"hash": [], "format": "x", "policy": 1, "tasks": {}}',
    "a list of lists": lambda data: b"[[[]]]",
    "a text": lambda data: b'"text"',
    "another table": lambda data: table_bytes(pa.table({"x": [1, 2, 3]})),
    "huge": lambda data: data + bytes(300 << 20),
}


EACH = 6
"""Kinds of damage that one file gets; the next file gets the next ones."""


def some_damage(number: int) -> dict[str, Damage]:
    names = list(DAMAGE)
    chosen = [names[(EACH * number + place) % len(names)] for place in range(EACH)]
    return {name: DAMAGE[name] for name in chosen}


def table_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


FILES: dict[str, str] = {
    **WORKSPACE,
    "catalog.duckdb": "coverage",
    "catalog.lock": "coverage",
    "catalog.toml": "coverage",
    "oracle.parquet": "catalog verify",
    "plans/*/plan.json": "plan show",
    "plans/*/rates.parquet": "plan show",
    "packs/reduced.json": "pack",
    "shards/*.tar": "pack --verify",
    "policy.toml": "policy check policy.toml",
    "backup/manifest.json": "catalog import backup",
    "backup/sample.parquet": "catalog import backup",
    "data/dataset.toml": "ingest data --author ada",
    "data/coco.json": "ingest data --author ada",
    "data/images/a.jpg": "ingest data --author ada",
}
"""Files of a workspace and beside it, each with a command that reads it."""

SOURCES = ("scalabel", "yolo", "fiftyone", "label_studio", "voc", "webdataset", "csv", "parquet", "arrow")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A workspace with every kind of file."""
    catalog = make_home(tmp_path_factory.mktemp("files"), samples=60)
    home, pack = catalog.home, make_pack(catalog)
    with catalog.read() as now:
        plan = make_plan(catalog, Policy.for_labelled(now), pack, draws=64)
        keys = now.samples()["key"].to_pylist()
    Run(id="r", plan=plan.hash, commit=1, recipe=Recipe()).save(home)
    rows = {
        "key": keys, "task": ["color"] * 60, "code": pa.array([0, 1, 2] * 20, pa.int32()),
        "number": pa.nulls(60, pa.float64()), "confidence": pa.array([0.5] * 60, pa.float32()),
        "probabilities": [[0.5, 0.3, 0.2]] * 60,
    }  # fmt: skip
    pq.write_table(pa.table(rows), home / RUN)
    with catalog.commit(author="ada", message="run") as change:
        change.add_run("r", plan=plan.hash, predictions=RUN, sha256=sha256_of(home / RUN))
    with writing(home, "model", keys, [("all", 8)]) as vectors:
        vectors[:] = np.arange(480).reshape(60, 8)
    hold_back(home, labels([label(key, "bike", True, "oracle") for key in keys[:30]]))
    Tokens(home).add("ann", "label")
    (home / "runs/r/exposure.json").write_text("[]")
    (home / "packs/reduced.json").write_text(json.dumps({"max_side": 24, "quality": 85}))
    (home / "policy.toml").write_text('[task.color]\nowner = "ada"\nshare = 1.0\nimportance = 1.0\nrule = "balanced"\n')
    export(catalog, home / "backup")
    source(home / "data", "coco")
    return catalog


def source(folder: Path, kind: str) -> list[Path]:
    """A data set of this kind; returns its files apart from images and declaration."""
    draw(folder, ["a.jpg", "b.jpg"])
    before = {*folder.rglob("*")}
    reader = FORMATS[kind](folder, [Scene(name, [("car", 1.0, 2.0, 10.0, 4.0)]) for name in ("a.jpg", "b.jpg")])
    made = sorted(path for path in {*folder.rglob("*")} - before if path.is_file())
    facts = {"name": "d", "title": "t", "licence": "l", "source": "s"}
    task = {"name": "objects", "kind": "detection", "classes": ["car", "light"], "owner": "ada"}
    lines = [f"{name} = {json.dumps(value)}" for name, value in facts.items()]
    lines += [f"reader = {inline(reader)}", f"task = [{inline(task)}]", 'split = {by = "group", test = 0.2}']
    (folder / "dataset.toml").write_text("\n".join(lines))
    return made


def inline(value: object) -> str:
    """A value as TOML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {inline(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(inline, value)) + "]"
    return json.dumps(value)


def state(home: Path) -> str:
    """The digest of the newest commit, and of what it holds."""
    with Catalog.open(home).read() as now:
        return f"{now.digest} {digest(now.samples())} {digest(now.labels('color'))} {now.counts()}"


@pytest.mark.parametrize("file", FILES)
def test_damage_ends_in_one_line_within_limits(file: str, original: Catalog, tmp_path: Path) -> None:
    catalog = copy_home(original, tmp_path)
    home = catalog.home
    path = next(iter(home.glob(file)), home / file)
    whole, before, faults = path.read_bytes() if path.exists() else b"", state(home), []
    (tmp_path / "kept").mkdir()
    for kind, damage in some_damage(list(FILES).index(file)).items():
        if not whole and kind.startswith("flipped"):
            continue
        shutil.copy2(home / "catalog.duckdb", tmp_path / "kept")
        path.write_bytes(damage(whole))
        words = [
            str(home / word) if (home / word).exists() and "/" not in word else word for word in FILES[file].split()
        ]
        if fault := command([*words, "--home", str(home)]).fault(0, 2, 4):
            faults.append(f"{kind}: {fault}")
        restore(path, whole)
        if not file.startswith(("data/", "catalog.duckdb")) and "request" not in words and state(home) != before:
            faults.append(f"{kind}: the catalog changed")
        shutil.copy2(tmp_path / "kept" / "catalog.duckdb", home)
    assert faults == []


def restore(path: Path, whole: bytes) -> None:
    path.write_bytes(whole)
    if not whole:
        path.unlink()


@pytest.mark.parametrize("kind", SOURCES)
def test_damaged_sources_end_in_one_line_within_limits(kind: str, tmp_path: Path) -> None:
    (path, *_), faults = source(tmp_path / "data", kind), []
    whole = path.read_bytes()
    for name, damage in some_damage(SOURCES.index(kind)).items():
        path.write_bytes(damage(whole))
        home = tmp_path / f"home {name}"
        words = ["ingest", str(tmp_path / "data"), "--home", str(home), "--author", "ada"]
        for more in ([], ["--quarantine"]):
            if fault := command([*words, *more]).fault(0, 2, 4):
                faults.append(f"{path.name} {name} {more}: {fault}")
    assert faults == []


@pytest.mark.parametrize("name", ["service.key", "service.json", "service.forgotten"])
def test_the_service_starts_or_refuses_with_a_damaged_secret(name: str, original: Catalog, tmp_path: Path) -> None:
    catalog = copy_home(original, tmp_path)
    confined(started, str(catalog.home))
    path, faults = catalog.home / name, []
    whole = path.read_bytes() if path.exists() else b""
    for kind, damage in DAMAGE.items():
        if whole or not kind.startswith("flipped"):
            path.write_bytes(damage(whole))
            if fault := confined(started, str(catalog.home)).fault(0, 4):
                faults.append(f"{kind}: {fault}")
    assert faults == []


def started(home: str) -> int:
    """0 if the service of `home` starts and reads its secrets, else the exit code of what it raises."""
    from amber.exit_codes import guarded

    def work() -> None:
        workspace = make_app(home).state.workspace
        workspace.signer.sign("a.jpg", seconds=9)
        workspace.tokens.all()

    return guarded(work)
