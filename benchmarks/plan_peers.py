"""Common mixers, each by its own API: which of four sources every draw comes from. Runs without Amber.

python plan_peers.py DRAWS FOLDER prints one JSON object: for each peer its seconds, the worst deviation of a source
from its proportion at any prefix, and the share of batches of 64 without the rarest source.
"""

import importlib.machinery
import itertools
import json
import os
import random
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

WEIGHTS = (0.5, 0.3, 0.15, 0.05)
BATCH = 64


def webdataset(draws: int, folder: Path) -> Iterator[int]:
    """RandomMix, which draws a source for every sample."""
    from webdataset.mix import RandomMix

    random.seed(0)
    return itertools.islice(iter(RandomMix([_Endless(i) for i in range(len(WEIGHTS))], list(WEIGHTS))), draws)


def torchdata(draws: int, folder: Path) -> Iterator[int]:
    """MultiNodeWeightedSampler."""
    from torchdata.nodes import IterableWrapper, MultiNodeWeightedSampler

    nodes = {str(i): IterableWrapper(_Endless(i)) for i in range(len(WEIGHTS))}
    node = MultiNodeWeightedSampler(nodes, {str(i): w for i, w in enumerate(WEIGHTS)}, seed=0)
    node.reset()
    return (next(node) for _ in range(draws))


def grain(draws: int, folder: Path) -> Iterator[int]:
    """MapDataset.mix, which interleaves sources evenly."""
    from grain import MapDataset

    parts = [MapDataset.source([i]).repeat(draws) for i in range(len(WEIGHTS))]
    mixed = MapDataset.mix(parts, weights=WEIGHTS)
    return (mixed[i] for i in range(draws))


def datasets(draws: int, folder: Path) -> Iterator[int]:
    """interleave_datasets of Hugging Face."""
    from datasets import IterableDataset, interleave_datasets

    parts = [IterableDataset.from_generator(_rows, gen_kwargs={"source": i}) for i in range(len(WEIGHTS))]
    mixed = interleave_datasets(parts, probabilities=list(WEIGHTS), seed=0)
    return (row["source"] for row in itertools.islice(mixed, draws))


def litdata(draws: int, folder: Path) -> Iterator[int]:
    """CombinedStreamingDataset."""
    from litdata import CombinedStreamingDataset, StreamingDataset, optimize

    for i in range(len(WEIGHTS)):
        optimize(_Constant(i), list(range(draws)), str(folder / f"lit{i}"), chunk_size=draws, num_workers=1)
    parts = [StreamingDataset(str(folder / f"lit{i}")) for i in range(len(WEIGHTS))]
    mixed = CombinedStreamingDataset(parts, seed=0, weights=list(WEIGHTS), iterate_over_all=False)
    return itertools.islice(iter(mixed), draws)


def mosaicml(draws: int, folder: Path) -> Iterator[int]:
    """Streams with proportions, shuffled together."""
    _without_torchvision()
    from streaming import MDSWriter, Stream, StreamingDataset

    for i in range(len(WEIGHTS)):
        with MDSWriter(out=str(folder / f"mds{i}"), columns={"source": "int"}) as writer:
            for _ in range(draws // 4):
                writer.write({"source": i})
    streams = [Stream(local=str(folder / f"mds{i}"), proportion=w) for i, w in enumerate(WEIGHTS)]
    mixed = StreamingDataset(streams=streams, epoch_size=draws, batch_size=BATCH, shuffle=True, shuffle_seed=0)
    return (row["source"] for row in mixed)


def _without_torchvision() -> None:
    """Replace torchvision, whose wheels fit no CPU build of torch; mixing needs none of it."""
    for name in ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional"):
        sys.modules[name] = module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        module.__path__ = []
    sys.modules["torchvision.datasets"].VisionDataset = object  # type: ignore[attr-defined]
    sys.modules["torchvision.transforms.functional"].to_tensor = None  # type: ignore[attr-defined]


class _Endless:
    def __init__(self, source: int) -> None:
        self.source = source

    def __iter__(self) -> Iterator[int]:
        return itertools.repeat(self.source)


class _Constant:
    def __init__(self, source: int) -> None:
        self.source = source

    def __call__(self, index: int) -> int:
        return self.source


def _rows(source: int) -> Iterator[dict[str, int]]:
    while True:
        yield {"source": source}


PEERS: dict[str, Callable[[int, Path], Iterator[int]]] = {
    "webdataset": webdataset, "torchdata": torchdata, "grain": grain, "HF interleave": datasets, "litdata": litdata,
    "mosaicml-streaming": mosaicml,
}  # fmt: skip


def measure(draw: Callable[[int, Path], Iterator[int]], draws: int, folder: Path) -> dict[str, float]:
    """Seconds of the drawing only, and its evenness."""
    sources = draw(draws, folder)
    begun = time.perf_counter()
    order = np.fromiter(sources, np.int64)
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "draws": len(order), **evenness(order)}


def evenness(order: np.ndarray) -> dict[str, float]:
    """The worst deviation of a source at any prefix, in draws, and the share of batches without the rarest one."""
    seen = np.cumsum(order[:, None] == np.arange(len(WEIGHTS)), axis=0)
    asked = np.arange(1, len(order) + 1)[:, None] * np.asarray(WEIGHTS)
    batches = (order[: len(order) // BATCH * BATCH] == len(WEIGHTS) - 1).reshape(-1, BATCH).any(axis=1)
    return {"deviation": float(np.abs(seen - asked).max()), "without": float(1 - batches.mean())}


def main() -> None:
    """Measure every peer; a peer that fails prints the reason on standard error."""
    draws, folder, found = int(sys.argv[1]), Path(sys.argv[2]), {}
    for name, draw in PEERS.items():
        try:
            found[name] = measure(draw, draws, folder)
        except Exception as error:
            sys.stderr.write(f"{name}: {error!r}\n")
    print(json.dumps(found), flush=True)  # noqa: T201
    os._exit(0)  # some peers leave threads behind


if __name__ == "__main__":
    main()
