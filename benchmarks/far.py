"""One reader on one core, for `benchmarks.stream`: `python -m benchmarks.far HOME PACK CORE CACHE`."""

import os
import sys
import time

from benchmarks.loose import SIZE
from samplers.cache import Cache
from samplers.pack import Pack
from samplers.stream import stream


def main() -> None:
    """Stream two epochs' worth of draws on one decode thread."""
    from benchmarks.stream import BATCH, Drawn

    home, hash_, core, cache = sys.argv[1:]
    os.sched_setaffinity(0, {int(core)})
    pack = Pack.open(home, hash_, cache=Cache(bytes=int(cache)))
    plan = Drawn(pack, 2 * pack.images)
    with stream(plan, pack, BATCH, size=SIZE, threads=1, tail="pad") as found:  # type: ignore[arg-type]
        next(found)
        started = time.perf_counter()
        for _ in found:
            pass
        sys.stdout.write(f"{time.perf_counter() - started}\n")


if __name__ == "__main__":
    main()
