"""Too little memory: one line and exit code 1, whoever asked for it."""

import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from support.confined import confined

from amber.cli import run
from amber.exit_codes import guarded

TOO_MUCH: dict[str, Callable[[], object]] = {
    "Python": lambda: bytearray(1 << 60),
    "NumPy": lambda: np.empty(1 << 56),
    "Arrow": lambda: pa.allocate_buffer(1 << 56),
}


def fail(text: str) -> None:
    raise RuntimeError(text)


TOO_MUCH |= {
    "torch": lambda: fail("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"),
    "torch on a GPU": lambda: fail("CUDA out of memory. Tried to allocate 2.00 GiB"),
}


@pytest.mark.parametrize("work", TOO_MUCH.values(), ids=TOO_MUCH)
def test_it_is_one_line(work: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(work) == 1
    assert capsys.readouterr().err.startswith("amber: memory: there is too little; ")


def test_other_failures_are_not_hidden() -> None:
    with pytest.raises(RuntimeError, match="something else"):
        guarded(lambda: fail("something else"))


def squeezed(room: int, *words: str) -> int:
    """`amber WORDS` in a process that may grow by `room` bytes."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + room, resource.RLIM_INFINITY))
    return run(list(words))


@pytest.mark.parametrize("room", [1 << 20, 64 << 20, 256 << 20])
def test_an_ingest_ends_in_one_line(room: int, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (9_000, 9_000)).save(tmp_path / "images" / "a.png")
    (tmp_path / "dataset.toml").write_text(
        'name = "d"\ntitle = "t"\nlicence = "l"\nsource = "s"\n[reader]\nkind = "image_folder"\nfolder = "images"\n'
        '[split]\nby = "group"\n[[task]]\nname = "wet"\nkind = "binary"\nowner = "bob"\n'
    )
    words = ["ingest", str(tmp_path), "--home", str(tmp_path / "home"), "--author", "ada"]
    found = confined(squeezed, room, *words)
    assert "Traceback" not in found.err
    assert found.code in (0, 1, 2), found.err
