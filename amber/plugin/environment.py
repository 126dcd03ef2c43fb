"""Where FiftyOne finds the plugin, and what the plugin is told: by the environment, before FiftyOne is imported."""

import os
from pathlib import Path

__all__ = ["offer_plugin"]


def offer_plugin(home: Path, *, service: str, token: str = "", plan: str = "") -> None:
    """Let the App of the workspace `home` find the plugin, beside the plugins that the user has already."""
    folder = home / "browse" / "plugins"
    folder.mkdir(parents=True, exist_ok=True)
    known = os.environ.get("FIFTYONE_PLUGINS_DIR", "")
    _link(folder / "amber", Path(__file__).parent)
    if known and Path(known) != folder:
        _link(folder / "own", Path(known).resolve())
    told = {"FIFTYONE_PLUGINS_DIR": str(folder), "AMBER_SERVICE": service, "AMBER_TOKEN": token, "AMBER_PLAN": plan}
    os.environ.update(told)


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() != target:
        link.unlink()
    if not link.is_symlink():
        link.symlink_to(target, target_is_directory=True)
