"""What a site remembers of its own attempts, so that it can tell an opened sum from a false one."""

from __future__ import annotations

from privacy.secagg.refusals import Refused
from privacy.secagg.sealed.journal import SealedIntent
from privacy.secagg.sealed.label import SealedStudy
from privacy.secagg.sealed.mac import mac_key, proves
from privacy.wire.checks import Check
from privacy.wire.sealed import OpenedSum


class SumMemory:
    """The labels that this process has taken part under, and the secrets of its groups.

    A sum of a session before this process's first cannot be proven here: the chain's digest in the
    label is then all that binds it. Any other sum that names this site has to be one of an attempt
    that it was in, under the label that it had; a coordinator cannot have it taken for an older
    one.
    """

    def __init__(self, site: int) -> None:
        self._site = site
        self._first = 0
        self._secrets: dict[int, bytes] = {}
        self._labels: dict[tuple[int, int, int], bytes] = {}

    def opened(self, session: int) -> None:
        """This process has opened a session."""
        self._first = self._first or session

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
        lived = opened.session >= self._first
        if lived and self._site in opened.cohort and own != opened.label:
            raise Refused(Check.FALSE_SUM)
        key = self.key_of(opened)
        if key is not None and not proves(opened, study.bits, key):
            raise Refused(Check.FALSE_SUM)
