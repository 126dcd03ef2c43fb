"""The peers of `benchmarks.pack` and `benchmarks.stream`, in a separate environment:
`.venv-stream-peers/bin/python benchmarks/stream_peers.py FOLDER`.

FOLDER holds `files.txt`, the paths of JPEGs of one size, and `tars`, webdataset shards of them. Each line of standard
input requests one piece of work of one peer; the answer is a line of JSON with wall and CPU seconds and the number of
images. All decode with simplejpeg into batches of 64; files that a peer needs are written on `start`. `stream` reads as
a peer's first example does, `workers` as its documentation advises for more than one core.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import simplejpeg

BATCH, WORKERS = 64, 2
warnings.simplefilter("ignore")


def decoded(data: Any) -> np.ndarray:
    return simplejpeg.decode_jpeg(data, "RGB")


def in_batches(images: Iterable[np.ndarray]) -> int:
    """Stack images to batches, as a trainer gets them; returns the number of images."""
    count, waiting = 0, []
    for image in images:
        waiting.append(image)
        if len(waiting) == BATCH:
            np.stack(waiting)
            count, waiting = count + BATCH, []
    return count + len(waiting)


def decoded_member(sample: dict[str, Any]) -> np.ndarray:
    """The image of a sample, in the worker that read it."""
    return decoded(sample["jpg"])


def decoded_wids(sample: dict[str, Any]) -> np.ndarray:
    return decoded(sample[".jpg"].read())


def stacked(samples: list[dict[str, Any]]) -> np.ndarray:
    """One batch of samples that hold bytes, decoded and stacked in the worker."""
    held = [sample["jpg"] for sample in samples]
    return np.stack([decoded(each["bytes"] if isinstance(each, dict) else each) for each in held])


def in_workers(samples: Any, **options: Any) -> int:
    """Read through a `DataLoader`, whose workers decode and stack; returns the number of images."""
    from torch.utils.data import DataLoader

    return sum(len(batch) for batch in DataLoader(samples, BATCH, num_workers=WORKERS, **options))


class Peer:
    """The folder of the images, and a folder to write to."""

    def __init__(self, folder: Path) -> None:
        self.files = (folder / "files.txt").read_text().split("\n")
        self.tars = sorted(map(str, (folder / "tars").glob("*.tar")))
        self.home = folder / f"peer-{type(self).__name__}"
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir()

    def images(self) -> Iterator[tuple[int, bytes]]:
        for number, path in enumerate(self.files):
            yield number, Path(path).read_bytes()


class WebDataset(Peer):
    def write(self) -> int:
        from webdataset import ShardWriter

        with ShardWriter(f"{self.home}/%06d.tar", maxsize=64e6, verbose=0, mtime=0) as writer:
            for number, data in self.images():
                writer.write({"__key__": f"{number:06d}", "jpg": data, "json": b'{"key": "%d"}' % number})
        return len(self.files)

    def read(self) -> int:
        from webdataset import WebDataset

        return sum(len(sample["jpg"]) > 0 for sample in WebDataset(self.tars, shardshuffle=False))

    def stream(self) -> int:
        from webdataset import WebDataset

        found = WebDataset(self.tars, shardshuffle=len(self.tars)).shuffle(1000)
        return in_batches(decoded(sample["jpg"]) for sample in found)

    def workers(self) -> int:
        from webdataset import WebDataset, WebLoader

        found = WebDataset(self.tars, shardshuffle=len(self.tars)).shuffle(1000)
        found = found.map(decoded_member).batched(BATCH, collation_fn=np.stack)
        return sum(len(batch) for batch in WebLoader(found, batch_size=None, num_workers=WORKERS))


class ArrayRecord(Peer):
    def write(self) -> int:
        from array_record.python.array_record_module import ArrayRecordWriter

        writer = ArrayRecordWriter(str(self.home / "all.array_record"), "group_size:1,uncompressed")
        for _, data in self.images():
            writer.write(data)
        writer.close()
        return len(self.files)


class Grain(ArrayRecord):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.write()

    def read(self) -> int:
        import grain

        source = grain.sources.ArrayRecordDataSource(str(self.home / "all.array_record"))
        return sum(len(source[number]) > 0 for number in range(len(source)))

    def stream(self) -> int:
        return sum(len(batch) for batch in self._batches(threads=2))

    def workers(self) -> int:
        import grain

        options = grain.multiprocessing.MultiprocessingOptions(num_workers=WORKERS)
        return sum(len(batch) for batch in self._batches(threads=1).mp_prefetch(options))

    def _batches(self, threads: int) -> Any:
        import grain

        source = grain.sources.ArrayRecordDataSource(str(self.home / "all.array_record"))
        found = grain.MapDataset.source(source).shuffle(seed=0).map(decoded).batch(BATCH)
        return found.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=256))


class LitData(Peer):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from litdata.streaming.cache import Cache

        cache = Cache(str(self.home), chunk_bytes="64MB")
        for number, data in self.images():
            cache._add_item(number, {"jpg": data})
        cache.done()
        cache.merge(1)

    def stream(self) -> int:
        from litdata import StreamingDataset

        found = StreamingDataset(str(self.home), shuffle=True)
        return in_batches(decoded(sample["jpg"]) for sample in found)

    def workers(self) -> int:
        from litdata import StreamingDataLoader, StreamingDataset

        found = StreamingDataset(str(self.home), shuffle=True, transform=decoded_member)
        loader = StreamingDataLoader(found, batch_size=BATCH, num_workers=WORKERS)
        return sum(len(batch) for batch in loader)

    def read(self) -> int:
        from litdata import StreamingDataset

        return sum(len(sample["jpg"]) > 0 for sample in StreamingDataset(str(self.home)))


def without_torchvision() -> None:
    """Make a library importable that mentions torchvision, of which there is no CPU build, in a class not used here."""
    for name, held in {
        "": (),
        ".datasets": ("VisionDataset",),
        ".transforms": (),
        ".transforms.functional": ("to_tensor",),
    }.items():
        module = ModuleType(f"torchvision{name}")
        module.__spec__ = ModuleSpec(module.__name__, None)
        vars(module).update(dict.fromkeys(held, object))
        sys.modules[module.__name__] = module


class Mosaic(Peer):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        without_torchvision()
        from streaming import MDSWriter

        shutil.rmtree(self.home)
        with MDSWriter(out=str(self.home), columns={"jpg": "bytes"}, size_limit=64 << 20) as writer:
            for _, data in self.images():
                writer.write({"jpg": data})

    def stream(self) -> int:
        return in_batches(decoded(sample["jpg"]) for sample in self._samples(shuffle=True))

    def workers(self) -> int:
        return in_workers(self._samples(shuffle=True), collate_fn=stacked)

    def read(self) -> int:
        return sum(len(sample["jpg"]) > 0 for sample in self._samples(shuffle=False))

    def _samples(self, *, shuffle: bool) -> Iterable[dict[str, bytes]]:
        from streaming import StreamingDataset
        from streaming.base.util import clean_stale_shared_memory

        clean_stale_shared_memory()
        found: Iterable[dict[str, bytes]] = StreamingDataset(local=str(self.home), shuffle=shuffle, batch_size=BATCH)
        return found


class Wids(Peer):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.shards = []
        for path in self.tars:
            with tarfile.open(path) as members:
                self.shards.append({"url": path, "nsamples": sum(name.endswith(".jpg") for name in members.getnames())})

    def stream(self) -> int:
        from wids import ChunkedSampler, ShardListDataset

        found = ShardListDataset(self.shards, transformations=[], cache_dir=str(self.home), keep=True)
        return in_batches(decoded(found[number][".jpg"].read()) for number in ChunkedSampler(found, shuffle=True))

    def workers(self) -> int:
        from wids import ChunkedSampler, ShardListDataset

        found = ShardListDataset(self.shards, transformations=[decoded_wids], cache_dir=str(self.home), keep=True)
        return in_workers(found, sampler=ChunkedSampler(found, shuffle=True), collate_fn=np.stack)


class Energon(Peer):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for path in self.tars:
            (self.home / Path(path).name).symlink_to(Path(path).resolve())
        words = ["prepare", "--non-interactive", "--no-progress", "--split-ratio", "1,0,0"]
        energon = Path(sys.executable).with_name("energon")
        told = [energon, *words, "--sample-type", "CrudeWebdataset", self.home]
        subprocess.run(told, check=True, stdout=subprocess.DEVNULL)

    def stream(self) -> int:
        from megatron.energon import Cooker, DefaultTaskEncoder, WorkerConfig, get_loader, get_train_dataset, stateless

        class Encoder(DefaultTaskEncoder):  # type: ignore[misc]
            decoder = None
            cookers = [Cooker(stateless(energon_image))]  # noqa: RUF012

            def batch(self, samples: list[Any]) -> np.ndarray:
                return np.stack([sample.image for sample in samples])

        found = get_train_dataset(
            str(self.home), worker_config=WorkerConfig(rank=0, world_size=1, num_workers=2), batch_size=BATCH,
            shuffle_buffer_size=1000, max_samples_per_sequence=None, task_encoder=Encoder(), repeat=False,
        )  # fmt: skip
        return sum(len(batch) for batch in get_loader(found))


def energon_image(sample: dict[str, Any]) -> Any:
    from megatron.energon import basic_sample_keys
    from megatron.energon.flavors import ImageSample

    return ImageSample(**basic_sample_keys(sample), image=decoded(sample["jpg"]))


class HuggingFace(Peer):
    def stream(self) -> int:
        return in_batches(decoded(sample["jpg"]["bytes"]) for sample in self._samples())

    def workers(self) -> int:
        return in_workers(self._samples(), collate_fn=stacked)

    def _samples(self) -> Any:
        from datasets import Image, load_dataset

        found = load_dataset(
            "webdataset", data_files=self.tars, split="train", streaming=True, cache_dir=str(self.home)
        )
        return found.cast_column("jpg", Image(decode=False)).shuffle(seed=0, buffer_size=1000)


class Files:
    """The data set of a `DataLoader`, at module level so that workers can unpickle it."""

    def __init__(self, files: list[str]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> np.ndarray:
        return decoded(Path(self.files[number]).read_bytes())


class Torch(Peer):
    def stream(self) -> int:
        import torch
        from torch.utils.data import DataLoader, WeightedRandomSampler

        torch.set_num_threads(1)
        sampler = WeightedRandomSampler(np.ones(len(self.files)).tolist(), len(self.files))
        loader = DataLoader(Files(self.files), BATCH, sampler=sampler, num_workers=2)  # type: ignore[arg-type]
        return sum(len(batch) for batch in loader)


PEERS: dict[str, Callable[[Path], Peer]] = {
    "webdataset": WebDataset, "ArrayRecord": ArrayRecord, "grain": Grain, "litdata": LitData,
    "HF datasets": HuggingFace, "torch": Torch, "mosaicml": Mosaic, "wids": Wids, "energon": Energon,
}  # fmt: skip


def spent() -> float:
    """CPU seconds of this process and of its ended children."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


def main() -> None:
    """Answer until standard input ends; a failure is printed on standard error and answered with null."""
    folder = Path(sys.argv[1])
    peers: dict[str, Peer] = {}
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        name, work = line.rstrip("\n").rsplit(" ", 1)
        try:
            answer: dict[str, float] = {}
            if name not in peers:
                peers[name] = PEERS[name](folder)
            if work != "start":
                wall, cpu = time.perf_counter(), spent()
                images = getattr(peers[name], work)()
                answer = {"wall": time.perf_counter() - wall, "cpu": spent() - cpu, "images": images}
            answers.write(json.dumps(answer) + "\n")
        except Exception as error:
            sys.stderr.write(f"{name} {work}: {type(error).__name__}: {error}\n")
            answers.write("null\n")
        answers.flush()


if __name__ == "__main__":
    main()
