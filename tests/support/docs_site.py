"""A hook of mkdocs, for `make docs`: the notebook becomes a page, with what its cells print when it is run."""

import re
from pathlib import Path
from typing import Any

import nbclient
import nbformat
from jupyter_client.manager import KernelManager
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

__all__ = ["NOTEBOOK", "notebook_page", "on_files", "on_page_markdown", "run_notebook"]

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"
SECONDS = 300
OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]*\)")
"""A link to a file outside of the docs."""
CODE = re.compile(r"`[^`]*`")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page of the notebook beside its file."""
    files.append(File.generated(config, "notebook.md", content=notebook_page(run_notebook())))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links to the notebook lead to its page, take those to files outside of the docs away, and free code in tables
    of the backslashes before bars, which a code host needs."""
    lines = OUTSIDE.sub(r"\1", markdown.replace("](notebook.ipynb)", "](notebook.md)")).split("\n")
    return "\n".join(CODE.sub(_bare, line) if line.startswith("|") else line for line in lines)


def run_notebook() -> Any:
    """The notebook with the outputs of a fresh run; an error in a cell is raised."""
    notebook = nbformat.read(NOTEBOOK, nbformat.NO_CONVERT)
    kernels = KernelManager(kernel_name="python3", transport="ipc")
    return nbclient.NotebookClient(notebook, km=kernels, timeout=SECONDS).execute(cleanup_kc=True)


def notebook_page(notebook: Any) -> str:
    """The cells and their outputs as Markdown."""
    parts = []
    for cell in notebook.cells:
        parts.append(cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```")
        parts += [_output(part) for part in cell.get("outputs", [])]
    return "\n\n".join(parts) + "\n"


def _output(part: Any) -> str:
    """One output: HTML as it is, all else as text."""
    data = part.get("data", {})
    if "text/html" in data:
        return f'<div class="amber-output">{data["text/html"].strip()}</div>'
    text = part.get("text") or data.get("text/plain", "")
    return f"```text\n{text.strip()}\n```" if part.get("name") != "stderr" else ""


def _bare(code: re.Match[str]) -> str:
    return code[0].replace(r"\|", "|")
