"""How notices are sent: `notices/settings.toml`, which the keeper of the workspace writes."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from amber.notices.choices import FOLDER
from curation.errors import BadInput
from curation.files.toml_files import parse, read_toml

__all__ = ["MailServer", "Settings"]

PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}

LINE: Final = r"^[^\x00-\x1f\x7f]*$"


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class MailServer:
    """The `[mail]` part: who carries mail.

    `sender` is the address in From. The connection is encrypted by STARTTLS or from its start (`tls`), and the server's
    certificate is checked; "none" is for a server on this machine. `port` is 587, 465 or 25 where it is 0. With a
    `user`, the password is in the environment variable `password_env` or the file `password_file`.
    """

    host: Annotated[str, Field(min_length=1, pattern=r"^[!-~]+$")]
    sender: Annotated[str, Field(pattern=r"^[^\s@<>,;]+@[^\s@<>,;]+$")]
    port: Annotated[int, Field(ge=0, le=65_535)] = 0
    encryption: Literal["starttls", "tls", "none"] = "starttls"
    user: Annotated[str, Field(pattern=LINE)] = ""
    password_env: str = ""
    password_file: str = ""

    def __post_init__(self) -> None:
        """Refuse a password in clear, and a user without one."""
        if self.user and self.encryption == "none":
            raise ValueError("a user needs encryption, or the password is sent in clear; set starttls or tls")
        if bool(self.user) != bool(self.password_env or self.password_file):
            raise ValueError("user and password_env (or password_file) go together; give both or none")
        if self.password_env and self.password_file:
            raise ValueError("password_env and password_file are both given; keep one")

    @property
    def at(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port or PORTS[self.encryption]

    def password(self) -> str:
        """The password; BadInput where the variable or the file is missing or empty."""
        if self.password_env:
            found, where = os.environ.get(self.password_env, ""), f"the variable {self.password_env}"
        else:
            where = self.password_file
            try:
                found = Path(where).expanduser().read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError):
                found = ""
        if not found:
            raise BadInput(f"mail: {where} holds no password; set it where notices are sent")
        return found


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Settings:
    """What the file says. `name` of the workspace stands in every notice (default: that of its folder); `pages` is the
    address under which people open the pages, so that links lead there; `mail` is needed to send mail."""

    name: Annotated[str, Field(pattern=LINE, max_length=80)] = ""
    pages: Annotated[str, Field(pattern=r"^(https?://[!-~]+)?$")] = ""
    mail: MailServer | None = None

    @classmethod
    def load(cls, home: Path) -> "Settings":
        """The settings of a workspace, the defaults without a file; BadInput for a file that breaks a rule."""
        path = home / FOLDER / "settings.toml"
        found = parse(cls, read_toml(path) if path.exists() else {}, where=str(path))
        return found if found.name else replace(found, name=home.resolve().name)

    def link_to(self, path: str) -> str:
        """The address of a page; "" where nobody said where the pages are."""
        return f"{self.pages.rstrip('/')}/{path}" if self.pages else ""
