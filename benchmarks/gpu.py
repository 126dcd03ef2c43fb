"""The trainer on a GPU: images a second beside random tensors, waiting for data, and what bf16 and compiling gain.

Images are made here and nothing is downloaded; without a GPU it says so.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.table import Row, finish
from benchmarks.train_steps import learner, many_tasks, random_draws
from training.loop.learner import Learner
from training.loop.ranks import Ranks
from training.network.model import as_pixels
from training.network.trunks import SmallTrunk

BATCH, STEPS, HEIGHT, WIDTH = 256, 100, 80, 128


def main() -> None:
    """The table, or one line without a GPU."""
    if not torch.cuda.is_available():
        sys.stdout.write("bench-gpu: torch sees no GPU here; nothing was measured\n")
        return
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as name:
        rows = gpu_rows(Path(name))
    finish("gpu", rows, device=torch.cuda.get_device_name())


def gpu_rows(folder: Path) -> list[Row]:
    """Images a second of a step on random tensors, on decoded images, and of its variants."""
    device = torch.device("cuda")
    tasks = many_tasks(100)
    arms: dict[str, Callable[[], float]] = {}
    plain, exact, compiled = (_on_gpu(learner(SmallTrunk(), tasks, global_batch=BATCH), device) for _ in range(3))
    exact._bf16 = False
    for _, stage in SmallTrunk.stages.fget(compiled.network.trunk):  # type: ignore[attr-defined]
        stage.compile()
    random = torch.randint(0, 255, (BATCH, 3, HEIGHT, WIDTH), dtype=torch.uint8, device=device)
    for name, made in (("bf16", plain), ("float32", exact), ("compiled", compiled)):
        arms[name] = lambda made=made: _speed(made, tasks, _same(random))[0]  # type: ignore[misc]
    speed = {name: max(arm() for _ in range(3)) for name, arm in arms.items()}
    fed, waiting = _speed(plain, tasks, _decoded(folder, device))
    ratio = fed / speed["bf16"]
    return [
        Row(what="images a second on decoded images over random tensors", value=ratio, asked=">= 0.95",
            met=ratio >= 0.95, peers={"decoded": fed, **speed}),
        Row(what="share of the step that waits for data", value=waiting, asked="<= 0.02", met=waiting <= 0.02),
        Row(what="bf16 over float32", value=speed["bf16"] / speed["float32"], unit="x", asked="printed"),
        Row(what="compiled over not", value=speed["compiled"] / speed["bf16"], unit="x", asked="printed"),
        Row(what="largest difference of a step's losses from those of the CPU", value=_apart(tasks, device),
            asked="<= 1e-3", met=_apart(tasks, device) <= 1e-3),
    ]  # fmt: skip


def _on_gpu(made: Learner, device: torch.device) -> Learner:
    """The same learner on the GPU."""
    network = made.network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Learner(made.recipe, network, made.tasks, Ranks(device=device))


def _speed(made: Learner, tasks: list, batches: Iterator[Tensor]) -> tuple[float, float]:  # type: ignore[type-arg]
    """Images a second over 100 steps, and the part of them spent waiting for the next batch."""
    draws = random_draws(tasks, torch.zeros(BATCH, 1))
    parts = [part.to(made.ranks.device) for part in (draws.values, draws.known, draws.weights)]
    waited, started = 0.0, 0.0
    for step in range(-10, STEPS):
        if step == 0:
            torch.cuda.synchronize()
            waited, started = 0.0, time.monotonic()
        asked = time.monotonic()
        inputs = as_pixels(next(batches))
        waited += time.monotonic() - asked
        values, known, weights = parts
        made.step(
            type(draws)(inputs=inputs, values=values, known=known, weights=weights, keys=draws.keys,
                        positions=draws.positions), max(0, step), 1.0,
        )  # fmt: skip
    torch.cuda.synchronize()
    seconds = time.monotonic() - started
    return BATCH * STEPS / seconds, waited / seconds


def _same(images: Tensor) -> Iterator[Tensor]:
    while True:
        yield images


def _decoded(folder: Path, device: torch.device) -> Iterator[Tensor]:
    """Batches of JPEGs through a pack and `sweep`, copied from pinned memory."""
    from benchmarks.train_stopping import make_catalog
    from samplers import make_pack
    from samplers.streaming.stream import sweep

    generator = np.random.default_rng(0)
    shade = generator.integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    Image.fromarray(shade).resize((WIDTH, HEIGHT)).save(folder / "photo.jpg", quality=90)
    catalog = make_catalog(folder, 0, image=folder / "photo.jpg")
    pack = make_pack(catalog)
    rows = np.tile(np.arange(len(pack.keys), dtype=np.int32), -(-BATCH * (STEPS + 10) // len(pack.keys)))
    for batch in islice(sweep(pack, rows, BATCH, size=(HEIGHT, WIDTH), threads=8), STEPS + 10):
        yield torch.from_numpy(batch.images).pin_memory().to(device, non_blocking=True)


def _apart(tasks: list, device: torch.device) -> float:  # type: ignore[type-arg]
    """The largest relative difference between the losses of a step on the CPU and on the GPU, in float32."""
    torch.manual_seed(0)
    inputs = torch.randn(32, 3, HEIGHT, WIDTH)
    one = learner(SmallTrunk(), tasks, global_batch=32)
    other = learner(SmallTrunk(), tasks, global_batch=32)
    other.network.load_state_dict(one.network.state_dict())
    other = _on_gpu(other, device)
    other._bf16 = False
    draws = random_draws(tasks, inputs)
    there = type(draws)(
        inputs=inputs.to(device), values=draws.values.to(device), known=draws.known.to(device),
        weights=draws.weights.to(device), keys=draws.keys, positions=draws.positions,
    )  # fmt: skip
    first, second = one.step(draws, 0, 1.0).losses, other.step(there, 0, 1.0).losses.cpu()
    return float(((first - second).abs() / first.clamp(min=1e-6)).max())


if __name__ == "__main__":
    main()
