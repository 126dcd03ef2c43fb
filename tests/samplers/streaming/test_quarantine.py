"""Bad images in a stream are named, or replaced by another image of their stratum; no other draw changes."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.homes import make_home
from support.pictures import SIZE, Draws, pictures

from amber.cli import run
from curation.errors import BadInput, Damaged, NotFound
from samplers import Policy, make_pack, make_plan
from samplers.pack.pack import Pack
from samplers.pack.pack_writer import write_pack
from samplers.streaming.batches import Batch
from samplers.streaming.draws import ATTEMPTS, Replacements
from samplers.streaming.stream import stream

G = 8
KEYS = [f"drive/{number:03d}" for number in range(40)]


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    return write_pack(pictures(tmp_path / "images", KEYS), tmp_path / "home", shard_bytes=8192)


@pytest.fixture
def plan(pack: Pack) -> Draws:
    return Draws(pack, np.random.default_rng(0).integers(0, 40, 160))


def blank(pack: Pack, row: int) -> None:
    """Overwrite an image with zero bytes."""
    with (pack.home / "shards" / pack.shards[pack.shard[row]].name).open("r+b") as file:
        file.seek(int(pack.offset[row]))
        file.write(bytes(int(pack.size[row])))


def content(batch: Batch) -> tuple[Any, ...]:
    return batch.rows.tolist(), batch.keys, batch.images.tobytes(), batch.values.tolist(), batch.weights.tolist()


def test_no_other_draw_moves(pack: Pack, plan: Draws) -> None:
    before = [content(batch) for batch in stream(plan, pack, G, size=SIZE)]
    blank(pack, 9)
    with stream(plan, pack, G, size=SIZE, on_error="quarantine") as found:
        after = [content(batch) for batch in found]
    bad = np.flatnonzero(plan.draws == 9)
    assert [note.position for note in found.replaced] == bad.tolist()
    rows = np.array([part[0] for part in after]).ravel()
    assert (rows % 2 == plan.draws % 2).all()  # the strata of these draws
    assert 9 not in rows
    others = np.setdiff1d(np.arange(160), bad)
    assert (rows[others] == plan.draws[others]).all()
    clean = [number for number in range(20) if not set(range(number * G, number * G + G)) & set(bad)]
    assert [after[number] for number in clean] == [before[number] for number in clean]
    for part in after:
        assert part[1] == [KEYS[row] for row in part[0]]
        assert [values[0] for values in part[3]] == part[0]


def test_the_replacement_is_the_named_image(pack: Pack, plan: Draws) -> None:
    whole = {batch.rows[i]: batch.images[i].copy() for batch in stream(plan, pack, G, size=SIZE) for i in range(G)}
    blank(pack, 9)
    for batch in stream(plan, pack, G, size=SIZE, on_error="quarantine"):
        for row, image in zip(batch.rows, batch.images, strict=True):
            assert np.array_equal(image, whole[row])


@pytest.mark.parametrize(("rank", "world_size", "start", "threads"), [(0, 1, 0, 3), (1, 2, 0, 1), (1, 4, 64, 2)])
def test_replacements_depend_on_nothing_else(
    pack: Pack, plan: Draws, rank: int, world_size: int, start: int, threads: int
) -> None:
    for row in (3, 9, 10, 11):
        blank(pack, row)
    whole = [content(batch) for batch in stream(plan, pack, G, size=SIZE, on_error="quarantine")]
    each = G // world_size
    part = stream(
        plan, pack, G, size=SIZE, on_error="quarantine", rank=rank, world_size=world_size, start=start, threads=threads
    )
    for found, expected in zip(part, whole[start // G :], strict=True):
        assert content(found)[0] == expected[0][rank * each : (rank + 1) * each]


def test_the_moved_mass_is_recorded(pack: Pack, plan: Draws) -> None:
    blank(pack, 9)
    with stream(plan, pack, G, size=SIZE, on_error="quarantine") as found:
        list(found)
    first = found.replaced[0]
    assert (first.key, first.mass) == ("drive/009", plan.probabilities()[9])
    assert "drive/009: " in first.reason
    assert first.by != first.key


def unreadable(pack: Pack, row: int) -> None:
    blank(pack, row)


def truncated(pack: Pack, row: int) -> None:
    os.truncate(pack.home / "shards" / pack.shards[pack.shard[row]].name, 700)


def lost(pack: Pack, row: int) -> None:
    (pack.home / "shards" / pack.shards[pack.shard[row]].name).unlink()


@pytest.mark.parametrize("harm", [unreadable, truncated, lost])
def test_an_image_is_replaced_after_any_damage(pack: Pack, plan: Draws, harm: Callable[[Pack, int], None]) -> None:
    harm(pack, 9)
    with stream(plan, pack, G, size=SIZE, on_error="quarantine") as found:
        assert len(list(found)) == 20
    gone = {9} if harm is unreadable else set(np.flatnonzero(pack.shard == pack.shard[9]).tolist())
    assert {note.key for note in found.replaced} == {KEYS[row] for row in gone & set(plan.draws.tolist())}


@pytest.mark.parametrize("harm", [unreadable, truncated, lost])
def test_raise_is_the_default(pack: Pack, plan: Draws, harm: Callable[[Pack, int], None]) -> None:
    for row in range(40):
        harm(pack, row) if harm is unreadable or row == 9 else None
    with pytest.raises((Damaged, NotFound), match=r"drive/0\d\d"):
        list(stream(plan, pack, G, size=SIZE))


def test_a_stratum_without_a_readable_image_is_damaged(pack: Pack, plan: Draws) -> None:
    for row in range(0, 40, 2):
        blank(pack, row)
    with pytest.raises(Damaged, match=f"{ATTEMPTS} replacements of its stratum failed too"):
        list(stream(plan, pack, G, size=SIZE, on_error="quarantine"))


def test_an_unknown_on_error_is_refused(pack: Pack, plan: Draws) -> None:
    with pytest.raises(BadInput, match="on_error 'skip': raise or quarantine"):
        stream(plan, pack, G, size=SIZE, on_error="skip")  # type: ignore[arg-type]


@given(st.integers(0, 2**63), st.integers(1, 30))
def test_replacements_are_even_over_the_stratum(seed: int, members: int) -> None:
    class Plan:
        def __init__(self) -> None:
            self.seed = seed

        def members(self, position: int) -> np.ndarray:
            return np.arange(members)

    rows = [row for position in range(60) for row in Replacements(Plan()).candidates(position)]  # type: ignore[arg-type]
    counts = np.bincount(rows, minlength=members)
    expected = len(rows) / members
    assert np.abs(counts - expected).max() < 6 * np.sqrt(expected) + 1


def test_the_mixture_of_a_plan_is_kept(tmp_path: Path) -> None:
    """Every stratum of every task gets as many draws with a bad image as without; weights do not change."""
    catalog = make_home(tmp_path)
    pack = make_pack(catalog)
    with catalog.read() as now:
        policy = Policy.for_labelled(now)
    plan = make_plan(catalog, policy, pack, draws=400)
    bad = int(plan.draws[5])
    blank(pack, int(pack.rows([plan.keys[bad].as_py()])[0]))
    with stream(plan, pack, 40, size=SIZE, on_error="quarantine") as found:
        rows = np.concatenate([batch.rows for batch in found])
    assert {note.mass for note in found.replaced} == {plan.probabilities()[bad]}
    for position, row in enumerate(rows.tolist()):
        assert row in plan.members(position)
        assert row == plan.draws[position] or plan.draws[position] == bad
    assert bad not in rows


def test_training_continues_and_records_replacements(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Evaluation stops at the bad image, since it never skips one; once fixed, the verb resumes after training."""
    catalog = make_home(tmp_path, samples=60)
    pack = make_pack(catalog)
    with catalog.read() as now:
        plan = make_plan(catalog, Policy.for_labelled(now), pack, draws=128)
    (shard,), bad = (catalog.home / "shards").iterdir(), int(plan.draws[5])
    sound, key = shard.read_bytes(), plan.keys[bad].as_py()
    blank(pack, int(pack.rows([key])[0]))
    words = ["train", "--trunk", "small", "--size", "32", "48", "--batch", "32", "--home", str(catalog.home), "--json"]
    words += ["--author", "ada"]
    assert run(words) == 4
    assert not list(catalog.home.glob("runs/*"))
    assert run([*words, "--on-error", "quarantine"]) == 4
    assert capsys.readouterr().err.count(f"{key}: ") == 2
    shard.write_bytes(sound)
    assert run(words) == 0
    replaced = json.loads(capsys.readouterr().out)["replaced"]
    assert [note["position"] for note in replaced] == np.flatnonzero(plan.draws == bad).tolist()
    assert {note["key"] for note in replaced} == {key}
