"""The plugin's environment: variables with which FiftyOne finds the plugin, and the plugin its service."""

import os
from pathlib import Path

__all__ = ["offer_plugin"]


def offer_plugin(home: Path, *, service: str, token: str = "", plan: str = "") -> None:
    """Offer the plugin to the App of the workspace `home`, beside the user's own plugins; call it before FiftyOne is
    imported."""
    folder = home / "browse" / "plugins"
    folder.mkdir(parents=True, exist_ok=True)
    known = os.environ.get("FIFTYONE_PLUGINS_DIR", "")
    _link(folder / "amber", Path(__file__).parent)
    if known and Path(known) != folder:
        _link(folder / "own", Path(known).resolve())
    ours = {"FIFTYONE_PLUGINS_DIR": str(folder), "AMBER_SERVICE": service, "AMBER_TOKEN": token, "AMBER_PLAN": plan}
    os.environ.update(ours)


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() != target:
        link.unlink()
    if not link.is_symlink():
        link.symlink_to(target, target_is_directory=True)
