"""Who makes a plan on the command line, and for which owner it is only signed off."""

from dataclasses import dataclass

import click

from amber.verbs.identities import identity, token_option
from amber.verbs.options import grouped
from curation.catalog.catalog import Catalog
from curation.errors import BadInput
from samplers.plan.plan import Plan
from samplers.plan.sign_off import save_signed
from samplers.policy.policy import Policy

__all__ = ["Acting", "signing"]


@dataclass(frozen=True, kw_only=True)
class Acting:
    """Who makes a plan, and for which owner it is only signed off ("" for none)."""

    token: str
    sign: str

    def save(self, catalog: Catalog, plan: Plan, before: Plan | None, policy: Policy) -> Plan:
        """Write the draft `plan`; with `sign` its sign-off is recorded instead. BadInput where sign-offs are
        missing."""
        by = identity(catalog.home, self.token)
        if not self.sign:
            return save_signed(catalog, plan, before, policy, by=by)
        if before is None:
            raise BadInput(f"--sign {self.sign}: there is no plan yet to compare with; leave it out")
        with catalog.commit(author=by.name, message=f"sign off plan {plan.hash[:12]} for {self.sign}") as change:
            owners = {task.owner for task in change.now.tasks().values()}
            if self.sign not in owners:
                raise BadInput(f"--sign {self.sign}: owns no task; owners are {', '.join(sorted(owners))}")
            change.sign_off(self.sign, plan=plan.hash, before=before.hash, policy=policy.sha256, by=by)
        return plan


signing = grouped(
    "acting", Acting, token_option,
    click.option("--sign", default="", metavar="OWNER", help="Sign the plan off for OWNER, and write no plan."),
)  # fmt: skip
