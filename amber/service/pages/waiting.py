"""What waits for the sign-off of owners, as the pages of plans and of releases show it."""

import secrets
from collections.abc import Sequence
from typing import Any

from amber.service.facts.plans import may_sign
from amber.service.models.plans import WaitingRow
from amber.service.pages.accounts import Account

__all__ = ["waiting_view"]


def waiting_view(rows: Sequence[WaitingRow], account: Account) -> dict[str, Any]:
    """The values of the template `waiting.html`: all owners of one proposal together, and for whom the account may
    sign."""
    groups: dict[tuple[str, str], list[WaitingRow]] = {}
    for row in rows:
        groups.setdefault((row.subject, row.before), []).append(row)
    may = {(row.owner, row.subject) for row in rows if account.may("owner") and may_sign(row, account.identity)}
    return {"waits": [{"rows": each} for each in groups.values()], "may": may, "once": secrets.token_urlsafe(16)}
