"""The verb `amber completion`."""

import click
from click.shell_completion import get_completion_class

from amber.completion import SHELLS
from amber.terminal import show
from amber.verbs.options import workspace

__all__ = ["completion_command"]


@click.command("completion")
@click.argument("shell", type=click.Choice(list(SHELLS)))
@workspace
def completion_command(shell: str, home: str, as_json: bool) -> None:
    """Print the script with which SHELL completes verbs, options, and names of runs, plans, tasks and slices.

    One line installs it:

    \b
        echo 'eval "$(amber completion bash)"' >> ~/.bashrc
        echo 'eval "$(amber completion zsh)"' >> ~/.zshrc
        amber completion fish > ~/.config/fish/completions/amber.fish
    """
    from amber.cli import cli

    complete = get_completion_class(shell)
    assert complete is not None
    script = complete(cli, {}, "amber", "_AMBER_COMPLETE").source()
    show({"shell": shell, "install": SHELLS[shell], "script": script}, as_json, lambda: script)
