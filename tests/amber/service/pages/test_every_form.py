"""Everything that somebody does with a form of the pages is done by a click in a real browser."""

import ast
from pathlib import Path

from support.pages import ACTIONS

FILES = [*sorted(Path(__file__).parent.glob("test_*.py")), Path(__file__).parents[3] / "support" / "pages.py"]


def sent_by(path: Path) -> set[str]:
    """What the calls of `send_form` in a file send: each of them asserts that the browser sent just that."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "send_form"]
    return {str(ast.literal_eval(call.args[1])) for call in named}


def test_every_form_is_sent_by_a_click() -> None:
    sent = set().union(*map(sent_by, FILES))
    assert sent == set(ACTIONS)
