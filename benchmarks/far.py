"""One reader on one core, for `benchmarks.stream`: `python -m benchmarks.far PLAN HOME CORE CACHE`."""

import os
import sys
import time
from pathlib import Path

from benchmarks.loose import SIZE
from samplers.pack.pack import Pack
from samplers.plan.plan import Plan
from samplers.shards.prefetcher import Cache
from samplers.streaming.stream import stream


def main() -> None:
    """Stream a plan on one decode thread from a local or remote pack."""
    folder, home, core, cache = sys.argv[1:]
    os.sched_setaffinity(0, {int(core)})
    plan = Plan(Path(folder))
    pack = Pack.open(home, plan.pack_hash, cache=Cache(bytes=int(cache)))
    with stream(plan, pack, 64, size=SIZE, threads=1, tail="pad") as found:
        next(found)
        started = time.perf_counter()
        for _ in found:
            pass
        sys.stdout.write(f"{time.perf_counter() - started}\n")


if __name__ == "__main__":
    main()
