"""The plugin of the FiftyOne App: buttons that act on the catalog through the service. FiftyOne loads this file."""

from typing import Any

__all__ = ["register"]


def register(plugin: Any) -> None:
    """Register the operators with FiftyOne; only this function imports packages of the extra `browse`."""
    from amber.plugin.operators import operators

    for operator in operators():
        plugin.register(operator)
