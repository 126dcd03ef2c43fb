"""Writes the reference of the command line: `python tests/support/manual.py > docs/cli.md`."""

import re
from collections.abc import Iterator
from inspect import cleandoc
from textwrap import dedent, indent

import click

from amber.cli import cli

__all__ = ["leaves", "manual"]

HEAD = """# The command line

<!-- Written by `python tests/support/manual.py > docs/cli.md`; a test compares it with the commands. -->

| every verb has | default | meaning |
|---|---|---|
| `--home TEXT` | `AMBER_HOME`, else `./amber-home` | Workspace folder. |
| `--json` | | Print JSON on standard output, and nothing else. |
| `--help` | | Show what the verb does. |

A verb that commits also takes `--author TEXT` (or `AMBER_AUTHOR`): every commit has an author.

Results go to standard output; progress, and errors of one line, to standard error. Exit codes:

| code | meaning |
|---|---|
| 0 | Done. |
| 1 | The machine failed: a full disk, a path without permission. |
| 2 | Bad input, or images and labels that were quarantined while the rest went in. |
| 3 | Another process holds the workspace. |
| 4 | A file is damaged: its content differs from what was written. |
| 10 | `amber gate`, `amber release`: blocked, because a drop is shown. `amber replay`: a figure differs. |
| 11 | `amber gate`, `amber release`: not enough data to decide. `amber replay`: no label can tell. |
| 130 | Interrupted; run the command again. |
"""
EVERYWHERE = {"home", "as_json", "author"}


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every verb with its path, sorted, including groups that run without a subcommand."""
    for name, command in sorted(group.commands.items()):
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield (*path, name), command
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))


def manual() -> str:
    """The text of docs/cli.md."""
    return HEAD + "".join(_section(words, command) for words, command in leaves(cli))


def _section(words: tuple[str, ...], command: click.Command) -> str:
    arguments = [str(part.metavar or part.name).upper() for part in command.params if isinstance(part, click.Argument)]
    rows = [_row(part) for part in command.params if isinstance(part, click.Option) and part.name not in EVERYWHERE]
    table = "\n| option | default | meaning |\n|---|---|---|\n" + "".join(rows) if rows else ""
    title = re.sub(r"([][])", r"\\\1", " ".join([*words, *arguments]))  # else Markdown reads [RUN] as a link
    return f"\n## amber {title}\n\n{_prose(command.help or '')}\n{table}"


def _prose(text: str) -> str:
    """The help of a verb as Markdown: examples, which click marks with a backspace, become blocks of code."""
    parts = cleandoc(text).replace("\b\n", "\b").split("\n\n")
    return "\n\n".join(indent(dedent(part[1:]), " " * 4) if part[0] == "\b" else _escaped(part) for part in parts)


def _escaped(text: str) -> str:
    """Text with the signs escaped that Markdown would read, outside of code."""
    return "`".join(
        re.sub(r"([*|])", r"\\\1", part) if at % 2 == 0 else part for at, part in enumerate(text.split("`"))
    )


def _row(option: click.Option) -> str:
    context = click.Context(click.Command("amber"))
    kind = "" if option.is_flag else f" {option.make_metavar(context)}".removesuffix(" RANGE").replace("|", "\\|")
    default = option.to_info_dict()["default"]
    default = "" if option.is_flag or default in (None, "") else f"`{default}`"
    return f"| `{option.opts[-1]}{kind}` | {default} | {_escaped(option.help or '')} |\n"


if __name__ == "__main__":
    print(manual(), end="")  # noqa: T201
