"""The plugin of the FiftyOne App: buttons that act on the catalog through the service. FiftyOne loads this file."""

from typing import Any

__all__ = ["register"]


def register(plugin: Any) -> None:
    """Give FiftyOne the operators; what they stand on comes with the extra `browse`, and is imported here alone."""
    from amber.plugin.operators import operators

    for operator in operators():
        plugin.register(operator)
