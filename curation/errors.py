"""What a user can cause. Every message is one line: the value, the rule, the mend.

AmberError
├── BadInput   a value, a file or a name that breaks a rule            exit 2
├── NotFound   something named that is not there                       exit 2
├── Failed     the machine did not do what it was asked: a full disk   exit 1
├── Busy       another process holds the catalog                       exit 3
└── Damaged    a file that no longer holds what was written into it    exit 4
"""

__all__ = ["AmberError", "BadInput", "Busy", "Damaged", "Failed", "NotFound"]


class AmberError(Exception):
    """Base of every error that a user can cause; `exit_code` is what the command line returns."""

    exit_code = 2


class BadInput(AmberError):
    """A value, a file or a name that breaks a rule."""


class NotFound(AmberError):
    """Something was named that is not there."""


class Failed(AmberError):
    """The machine did not do what it was asked: a full disk, a place without rights."""

    exit_code = 1


class Busy(AmberError):
    """Another process holds the catalog and did not let go in time."""

    exit_code = 3


class Damaged(AmberError):
    """A file no longer holds what was written into it."""

    exit_code = 4
