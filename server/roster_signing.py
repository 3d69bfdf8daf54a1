"""The signatures of a roster that is still being signed, as the sites bring them.

A convenience for people, who would otherwise carry a file around: each site signs what its own
people have compared, and verifies every signature that it is given (`client.agent.roster_gate`).
"""

# Why: docs/adr/0057-first-hour.md

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from privacy.errors import ConfigError, SecAggError
from privacy.secagg.chain import AgreedRoster, write_rosters
from privacy.wire.signing import RosterSignature, RosterSignatures


class RosterSigning:
    """Collects signatures of the newest roster of `agreed`, and keeps them in `file`."""

    def __init__(self, agreed: AgreedRoster, file: Path) -> None:
        self._agreed = agreed
        self._file = file

    @property
    def lacking(self) -> int:
        """How many signatures it takes until it is in force."""
        return self._agreed.lacking

    def take(self, given: RosterSignature) -> str:
        """Keep a site's signature; what is wrong with it, "" if nothing is.

        Whose signature is not asked for, because only its predecessor's members sign a successor,
        waits for the others' like everybody. What cannot be written is kept in memory: the next
        ServerApp asks for it again.
        """
        if given.roster_digest != self._agreed.roster.digest():
            return "It has confirmed another roster: compare the fingerprints by phone."
        if not self._agreed.may_sign(given.public_key) or self._agreed.signed_by(given.public_key):
            return ""
        try:
            found = self._agreed.with_signatures([(given.public_key, given.signature)])
        except SecAggError as error:
            return error.message
        self._agreed = found
        with suppress(ConfigError):
            write_rosters(self._file, found.chain)
        return ""

    def signatures(self) -> RosterSignatures | None:
        """What the sites are sent once the roster is in force; None before."""
        if self.lacking:
            return None
        newest = self._agreed.newest
        return RosterSignatures(newest.roster.digest(), newest.signatures)

    def missing(self, name: str) -> str:
        """Why the site `name` waits, "" once the roster is in force."""
        if not self.lacking:
            return ""
        if name in self._agreed.unsigned:
            return (
                "It has not signed the roster yet: there, craftsfl site join INVITATION, then "
                "craftsfl site serve."
            )
        return f"It waits for others to sign the roster, which lacks {self.lacking} more."
