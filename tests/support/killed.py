"""What processes leave that are killed while they write."""

import subprocess
import sys
from pathlib import Path

CODE = """
import os, signal, sys
from pathlib import Path
from curation.files.atomic import whole
with whole(Path(sys.argv[1])) as part:
    part.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def leave_half(path: Path) -> Path:
    """The half of a file that a process had begun to write at `path`."""
    assert subprocess.run([sys.executable, "-c", CODE, path], check=False).returncode == -9
    (left,) = path.parent.glob(f"{path.name}.*.part")
    return left
