"""Files that a process leaves when it is killed while it writes."""

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
    """The half-written file of a process that was killed while it wrote `path`."""
    assert subprocess.run([sys.executable, "-c", CODE, path], check=False).returncode == -9
    (left,) = path.parent.glob(f"{path.name}.*.part")
    return left
