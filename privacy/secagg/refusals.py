"""How the machines of secure aggregation refuse: typed, with the site and the check."""

from __future__ import annotations

from collections.abc import Collection

from privacy.errors import SecAggError
from privacy.wire.checks import Check, explain_check
from privacy.wire.secagg import COORDINATOR, SecAggRefusal


class Refused(SecAggError):
    """A message that a machine does not accept; nothing has changed when it is raised.

    `check` is what failed; `site` the id of the site it failed for, `COORDINATOR` (0) for
    the server.
    """

    def __init__(self, check: Check, site: int = COORDINATOR) -> None:
        who = f"site {site}" if site else "the server"
        super().__init__(f"Refused ({check.name}, {who}): {explain_check(check)}")
        self.check = check
        self.site = site

    def body(self) -> SecAggRefusal:
        """The answer that tells the sender."""
        return SecAggRefusal(self.check, self.site)


class Aborted(SecAggError):
    """The attempt is over without a sum. `stage` names the exchange, `sites` its cause."""

    def __init__(self, stage: str, check: Check, sites: Collection[int]) -> None:
        self.stage = stage
        self.check = check
        self.sites = tuple(sorted(sites))
        names = ", ".join(str(site) for site in self.sites) or "none"
        super().__init__(
            f"The attempt ended at {stage} ({check.name}; sites: {names}); nothing was unmasked.",
            explain_check(check),
        )
