"""The OpenAPI document as a page for people: one file, without scripts or external resources."""

import html
from typing import Any

__all__ = ["docs_page"]

STYLE = """
body { font: 16px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em }
th, td { padding: .4em 1.5em .4em 0; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd }
table { border-collapse: collapse; width: 100% }
"""


def docs_page(document: dict[str, Any]) -> str:
    """A table of the routes of an OpenAPI document, as HTML."""
    rows = []
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            cells = f"<td>{method.upper()}<td><code>{_text(path)}</code>"
            inputs = ", ".join(_text(name) for name in _inputs(document, route))
            rows.append(f"<tr>{cells}<td>{_text(route.get('description', ''))}<td><small>{inputs}</small></tr>")
    note = f"{_text(document['info']['description'])} Complete document: <a href=/openapi.json>/openapi.json</a>"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Amber</title><style>{STYLE}</style><h1>Amber</h1>"
        f"<p>{note}</p><table><tr><th>method<th>path<th>what<th>parameters, or the body's fields</tr>"
        f"{''.join(rows)}</table>"
    )


def _inputs(document: dict[str, Any], route: dict[str, Any]) -> list[str]:
    """Names of a route's parameters and of the fields of its body."""
    names = [part["name"] for part in route.get("parameters", [])]
    for content in route.get("requestBody", {}).get("content", {}).values():
        schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
        names += schema["properties"]
    return names


def _text(text: str) -> str:
    return html.escape(text)
