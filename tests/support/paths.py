"""Folders of the repository, and an environment in which another Python finds them."""

import os
from pathlib import Path

__all__ = ["ROOT", "python_environment"]

ROOT = Path(__file__).parents[2]


def python_environment(*folders: Path) -> dict[str, str]:
    """This process's environment for a Python that imports our packages, `support`, and the modules of `folders`."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*folders, ROOT, ROOT / "tests")))}
