"""Errors that a user can cause. Every message is one line: the value, the rule, the fix.

AmberError
├── BadInput   a value, a file or a name that breaks a rule            exit 2
├── NotFound   a name that does not exist                              exit 2
├── Failed     the machine could not do it: a full disk, no network    exit 1
├── Busy       another process holds what is needed                    exit 3
└── Damaged    a file that differs from what was written into it       exit 4
"""

__all__ = ["AmberError", "BadInput", "Busy", "Damaged", "Failed", "NotFound", "not_installed"]


class AmberError(Exception):
    """Base of every error that a user can cause; `exit_code` is what the command line returns."""

    exit_code = 2


class BadInput(AmberError):
    """A value, a file or a name that breaks a rule."""


class NotFound(AmberError):
    """A name that does not exist."""


class Failed(AmberError):
    """The machine could not do it: a full disk, a missing permission, a network that is down."""

    exit_code = 1


class Busy(AmberError):
    """Another process holds the catalog, or another lock, and did not release it in time."""

    exit_code = 3


class Damaged(AmberError):
    """A file differs from what was written into it."""

    exit_code = 4


def not_installed(module: str, extra: str) -> NotFound:
    """The error for a module of an extra that is missing, with the command that installs it.

    >>> print(not_installed("ray", "ray"))
    ray: is not installed; run pip install 'amber-curation[ray]', or pip install -e '.[ray]' in a checkout
    """
    wheel, checkout = f"pip install 'amber-curation[{extra}]'", f"pip install -e '.[{extra}]'"
    return NotFound(f"{module}: is not installed; run {wheel}, or {checkout} in a checkout")
