"""Too little memory: one line and exit code 1, whoever asked for it."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

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
