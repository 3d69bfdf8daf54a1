"""The log in the hands of the hostile coordinator, which keeps it as an honest one does.

Without it every step would be refused because nothing is said of the log, and not for what is
forged in it. What the hospitals have written since is added, and they cosign it.
"""

# Why: docs/adr/0055-the-demos-page.md

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from craftsfl.demo.asking import AskSite
from privacy.errors import FederationError
from privacy.identity import Identity
from privacy.secagg.roster import Member, Roster
from privacy.secagg.sealed.log_words import shown_signed
from privacy.wire.envelope import Envelope
from privacy.wire.log import LogAnswer, LogFields, LogShown
from server.log_keeper import LogKeeper

_MEETINGS: Final = 3  # records, a cosignature of them, and one more for who lacked a proof


class HostileLog:
    """The log of `keeper`, shown to the sites of `roster` in the name of `coordinator`."""

    def __init__(self, keeper: LogKeeper, coordinator: Identity, roster: Roster) -> None:
        self._keeper, self._coordinator, self._roster = keeper, coordinator, roster

    def meet(self, ask: AskSite, study: bytes, run: int, ledgers: Mapping[int, bytes]) -> None:
        """Have all sites (id: id of its ledger) cosign the log with all that they have written.

        Raises `FederationError` where they do not.
        """
        for _ in range(_MEETINGS):
            head = self._keeper.checkpoint()
            cosigned, records = [], []
            for site, ledger in ledgers.items():
                member = self._member(site)
                answer = ask(site, Envelope(run, 0, 0, self._shown(member, study, ledger)))
                if not isinstance(answer, LogAnswer):
                    break
                if answer.check == 0:
                    cosigned.append((member, answer.log.cosignature))
                if answer.log.head:
                    records.append((member, answer.log.head))
            self._keeper.take_cosignatures(head, cosigned)
            self._keeper.take_records(records)
            if len(cosigned) == len(ledgers) and not records:
                return
        raise FederationError(
            "The hospitals did not cosign the log, so no step can be attacked.",
            "The study itself is done; nothing else depends on this.",
        )

    def fields(self, sites: tuple[int, ...]) -> LogFields:
        """What an honest step of these sites would say of the log."""
        members = [self._member(site) for site in sites]
        return self._keeper.news(self._keeper.common(members))

    def _shown(self, member: Member, study: bytes, ledger: bytes) -> LogShown:
        keeper = self._keeper
        shown = LogShown(study, keeper.since(ledger), keeper.news(keeper.cosigned(member)))
        return replace(shown, signature=self._coordinator.sign(shown_signed(shown)))

    def _member(self, site: int) -> Member:
        member = self._roster.member(site)
        if member is None:
            raise FederationError(f"The roster has no site {site}.", "Start the demo again.")
        return member
