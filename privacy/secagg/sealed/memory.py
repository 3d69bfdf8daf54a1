"""What a site remembers of its own attempts, so that it can tell an opened sum from a false one."""

from __future__ import annotations

from privacy.secagg.refusals import Refused
from privacy.secagg.sealed.journal import SealedIntent, SealedPast
from privacy.secagg.sealed.label import SealedStudy
from privacy.secagg.sealed.mac import mac_key, proves
from privacy.wire.checks import Check
from privacy.wire.sealed import OpenedSum


class SumMemory:
    """The labels that this process has taken part under, and the secrets of its groups.

    A sum that names this site has to be of an attempt that it was in, under the label that it had.
    Only attempts up to the newest one in the journal when this process began may be unknown here:
    their sums, and those of sessions that this site was not a member of, cannot be proven here, and
    the chain's digest in the label is all that binds them.
    """

    def __init__(self, site: int) -> None:
        self._site = site
        self._before: tuple[int, int] | None = None
        self._secrets: dict[int, bytes] = {}
        self._labels: dict[tuple[int, int, int], bytes] = {}

    def opened(self, run: int, past: SealedPast) -> None:
        """This process has opened a session of `run`; `past` was the journal before it."""
        if self._before is None:
            newest = past.newest or (0, 0, 0)
            self._before = newest[1:] if newest[0] == run else (0, 0)

    def begun(self, intent: SealedIntent, secret: bytes) -> None:
        """This process is in an attempt; `secret` is its group's."""
        self._secrets[intent.session] = secret
        self._labels[intent.session, intent.step, intent.attempt] = intent.label

    def key_of(self, opened: OpenedSum) -> bytes | None:
        """mk of an opened sum; None where the group's secret is not known here."""
        secret = self._secrets.get(opened.session)
        if secret is None:
            return None
        when = (opened.session, opened.step, opened.attempt)
        return mac_key(secret, opened.label, when, opened.cohort)

    def check(self, opened: OpenedSum, study: SealedStudy, session: int) -> None:
        """Raise `Refused` for a sum that its cohort has not sent, as far as one can tell."""
        if len(opened.lanes) != study.sent or opened.session > session:
            raise Refused(Check.FALSE_SUM)
        own = self._labels.get((opened.session, opened.step, opened.attempt))
        if self._site in opened.cohort and own != opened.label:
            # Never by the session's number: the coordinator would name an old one.
            when = (opened.step, opened.attempt)
            if own is not None or self._before is None or when > self._before:
                raise Refused(Check.FALSE_SUM)
        key = self.key_of(opened)
        if key is not None and not proves(opened, study.bits, key):
            raise Refused(Check.FALSE_SUM)
