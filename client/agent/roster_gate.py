"""In front of the agent while its roster lacks signatures: they come through the coordinator.

The roster itself never comes by a message: it is the one that this hospital's people have compared
and its policy pins. Guarantees, each with a test:

- While signatures are missing nothing reaches the agent. A greeting for another study or roster is
  refused as ever; one for this roster is answered with this site's own signature of it; everything
  else is answered NOT_READY, and changes nothing.
- Signatures are taken for this very roster, of members alone, and only if every one of them holds.
  The roster is in force when its quorum is there, and is written before the first message passes.
- From then on, and where nothing was missing, every message passes unread.
"""

# Why: docs/adr/0057-first-hour.md

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from client.agent.startup import LoadedSite
from privacy.errors import ConfigError, SecAggError
from privacy.identity import Identity
from privacy.secagg.chain import AgreedRoster, write_rosters
from privacy.wire.bodies import Body, Hello, Refusal
from privacy.wire.envelope import Envelope, open_envelope, refuse, seal
from privacy.wire.reasons import Reason, RefusedMessage, guidance_of
from privacy.wire.signing import SIGNING_BYTES, RosterSignature, RosterSignatures

_log = logging.getLogger("craftsfl.agent")


class RosterGate:
    """Answers for the agent, `inner`, until the roster is in force. Any thread may call it."""

    def __init__(
        self,
        study: bytes,
        roster: AgreedRoster,
        identity: Identity,
        file: Path,
        inner: Callable[[bytes], bytes],
    ) -> None:
        """`study`: its digest; `file`: where the chain of rosters is kept."""
        self._study = study
        self._roster = roster
        self._identity = identity
        self._file = file
        self._inner = inner
        self._lock = threading.Lock()
        self._said: Reason | None = None
        if roster.lacking:
            _log.info(
                "The roster lacks %d signatures; they come through the coordinator as soon as "
                "the others have joined: %s.",
                *(roster.lacking, ", ".join(roster.unsigned)),
            )

    @classmethod
    def of(cls, site: LoadedSite, inner: Callable[[bytes], bytes]) -> RosterGate:
        """In front of the agent of `site`."""
        own = site.settings.identity
        if own is None:  # `load` has refused it
            raise ConfigError("site.toml has no [identity] table.", "Name key and roster there.")
        digest = site.rules.study.digest()
        return cls(digest, site.roster, site.membership.identity, own.roster, inner)

    def handle(self, data: bytes) -> bytes:
        """The answer to a sealed message: the agent's, once the roster is in force."""
        if not self._roster.lacking:
            return self._inner(data)
        try:
            envelope = open_envelope(data, limit=SIGNING_BYTES)
        except RefusedMessage as error:
            return refuse(data, error.reason)
        with self._lock:
            answer = self._answer(envelope.body)
        return seal(Envelope(envelope.run, envelope.round, envelope.attempt, answer))

    def _answer(self, body: Body) -> Body:
        digest = self._roster.roster.digest()
        match body:
            case Hello() if body.study_digest != self._study:
                return self._named(Reason.WRONG_STUDY)
            case Hello() | RosterSignatures() if body.roster_digest != digest:
                return self._named(Reason.WRONG_ROSTER)
            case RosterSignatures():
                self._take(body)
            case Hello():
                pass
            case _:
                return Refusal(Reason.NOT_READY)
        return RosterSignature(digest, self._identity.public, self._identity.sign(digest))

    def _named(self, reason: Reason) -> Refusal:
        """Say at the site's own desk what was refused, once until the reason is another one."""
        if reason is not self._said:
            self._said = reason
            meaning = guidance_of(reason)
            _log.warning("A greeting was refused: %s %s", meaning.happened, meaning.next_step)
        return Refusal(reason)

    def _take(self, body: RosterSignatures) -> None:
        try:
            found = self._roster.with_signatures(body.signatures)
        except SecAggError as error:
            _log.warning("The coordinator sent signatures that do not hold: %s", error.message)
            return
        if found.lacking:
            self._roster = found
            return
        try:
            write_rosters(self._file, found.chain)
        except ConfigError as error:  # in force all the same; the next start asks for them again
            _log.warning("%s", error)
        self._roster = found
        _log.info("The roster is in force: enough of its members have signed it.")
