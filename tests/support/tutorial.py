"""The commands of docs/tutorial.md, read from the page, as one script of bash."""

import re
from pathlib import Path

__all__ = ["PAGE", "SERVE", "script", "steps"]

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
SERVE = "amber serve\n"
"""The last block: it runs until it is stopped."""


def script() -> str:
    """Every block of the page but the last, in order: shell as it is, Python by `python`, and files as they are titled.

    ValueError for a block that is none of these, or where the page does not end with `amber serve`.
    """
    blocks = steps()
    if blocks[-1] != ("bash", "", SERVE):
        raise ValueError(f"{PAGE}: ends with {blocks[-1][2]!r}; must end with {SERVE!r}")
    return "set -e\n" + "".join(_command(*block) for block in blocks[:-1])


def steps() -> list[tuple[str, str, str]]:
    """Language, title and text of each block of the page."""
    return re.findall(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```', PAGE.read_text(), re.MULTILINE | re.DOTALL)


def _command(language: str, title: str, text: str) -> str:
    if language == "bash":
        return text
    if language == "python":
        return f"python - <<'END_OF_BLOCK'\n{text}END_OF_BLOCK\n"
    if not title:
        raise ValueError(f"{PAGE}: a block of {language} without a title; give it the name of its file")
    return f"cat > {title} <<'END_OF_BLOCK'\n{text}END_OF_BLOCK\n"
