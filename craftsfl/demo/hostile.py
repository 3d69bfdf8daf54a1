"""What the demo ends with: the coordinator turns hostile, and tries eight things on living agents.

It has all that a coordinator has: its own signing key, the way to every agent, everything that the
run left behind. It opens an honest session first, of one more run, so that what is refused is
refused for what it is, and not because nothing is going on. Nothing here begins an attempt: a
refusal costs no patient anything, and that is looked at too.
"""

# Why: docs/adr/0055-the-demos-page.md

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from craftsfl.demo.asking import AskSite
from craftsfl.demo.hostile_log import HostileLog
from craftsfl.demo.page.facts import AttackTried
from privacy.errors import FederationError
from privacy.identity import Identity
from privacy.secagg.roster import Roster
from privacy.secagg.sealed.label import (
    ChainDigests,
    SealedStudy,
    epoch_of,
    label_of,
    session_digest,
    session_digests,
)
from privacy.secagg.sealed.opening import offered_session, signed_key, signed_step
from privacy.wire.bodies import Body, Hello, Refusal, SignedFacts
from privacy.wire.checks import explain_check
from privacy.wire.envelope import Envelope
from privacy.wire.reasons import guidance_of
from privacy.wire.sealed import OpenedSum, SealedStep, StepForm
from privacy.wire.secagg import SecAggRefusal
from privacy.wire.session import (
    SessionGroup,
    SessionKey,
    SessionKeys,
    SessionOffer,
    SessionOpening,
)

_SESSION_SECONDS: Final = 900
_SLOT_SECONDS: Final = 60.0
_FAR_ATTEMPT: Final = 1000

_Agreed = TypeVar("_Agreed", bound=Body)


@dataclass(frozen=True)
class HostileGround:
    """What a coordinator has after a run. `run` and `session` are numbers that were never used.

    `sites` are ids of the roster; `chain` is where every site's adapter stands before step 1.
    """

    coordinator: Identity
    roster: Roster
    study: SealedStudy
    sites: tuple[int, ...]
    chain: ChainDigests
    run: int
    session: int


class HostileCoordinator:
    """Tries everything at once, when `attacks` is called."""

    def __init__(
        self,
        ground: HostileGround,
        ask: AskSite,
        clock: Callable[[], float] = time.time,
        log: HostileLog | None = None,
    ) -> None:
        """`log`: of sites that have cosigned one, which take no step without it."""
        self._ground, self._log = ground, log
        self._ask = ask
        self._clock = clock
        self._expiry = int(clock()) + _SESSION_SECONDS
        self._session: tuple[SessionOffer, SessionOpening] | None = None

    def attacks(self) -> tuple[AttackTried, ...]:
        """All eight, each with the answer of the agent that it was tried on.

        Raises `FederationError` where not even an honest session can be opened.
        """
        self._open()
        return tuple(
            self._tried(words, site, make)
            for words, (site, make) in {
                "Leaves one hospital out, to read it off the difference of two sums": (
                    self._site(0),
                    lambda: self._step(cohort=self._ground.sites[:2]),
                ),
                "Asks for less noise than the hospitals have agreed on": (
                    self._site(0),
                    lambda: self._offer(terms_digest=bytes(32)),
                ),
                "Serves the same study as one without noise": (
                    self._site(1),
                    lambda: self._offer(study_digest=bytes(32)),
                ),
                "Puts a key of its own in the place of a hospital's, to take off its mask": (
                    self._site(2),
                    self._swapped_key,
                ),
                "Gives one hospital another adapter than the rest, to tell it from the sum": (
                    self._site(1),
                    lambda: self._step(adapter=bytes(32)),
                ),
                "Makes up the sum of a step, to steer what comes next": (
                    self._site(0),
                    self._made_up_sum,
                ),
                f"Asks for attempt {_FAR_ATTEMPT} at a step, to spend more of the budget": (
                    self._site(0),
                    lambda: self._step(attempt=_FAR_ATTEMPT),
                ),
                "Wants the answer at once, to learn from the clock how many patients there are": (
                    self._site(2),
                    lambda: self._step(slot=round(1000 * (self._clock() - 1))),
                ),
            }.items()
        )

    def _site(self, place: int) -> int:
        return self._ground.sites[place]

    def _tried(self, words: str, site: int, make: Callable[[], Body]) -> AttackTried:
        before = self._spent(site)
        body = make()
        step, attempt = (body.step, body.attempt) if isinstance(body, SealedStep) else (0, 0)
        answer = self._ask(site, Envelope(self._ground.run, step, attempt, body))
        after = self._spent(site)
        refused = isinstance(answer, SecAggRefusal | Refusal)
        return AttackTried(words, said_by(answer), charged=after != before, refused=refused)

    def _spent(self, site: int) -> float:
        """What the site says that its patients have spent."""
        ground = self._ground
        hello = Hello(ground.study.study_digest, 0, ground.study.roster_digest)
        answer = self._ask(site, Envelope(ground.run, 0, 0, hello))
        if not isinstance(answer, SignedFacts):
            raise FederationError(
                f"A hospital no longer answers: {said_by(answer)}",
                "The study itself is done; nothing else depends on this.",
            )
        return answer.facts.epsilon_spent

    def _open(self) -> None:
        """An honest session: offer, keys, and the group's secret among the hospitals."""
        ground = self._ground
        offer = offered_session(
            ground.coordinator, ground.study, ground.run, ground.session, ground.sites, self._expiry
        )
        keys = SessionKeys(tuple(self._agreed(site, offer, SessionKey) for site in ground.sites))
        group = self._agreed(self._site(0), keys, SessionGroup)
        self._session = offer, SessionOpening(keys, group)
        if self._log is not None:
            study = ground.study.study_digest
            ledgers = {key.site: key.ledger.ledger for key in keys.entries}
            self._log.meet(self._ask, study, ground.run, ledgers)

    def _agreed(self, site: int, body: Body, kind: type[_Agreed]) -> _Agreed:
        """The answer of `site` in the set-up of the session."""
        answer = self._ask(site, Envelope(self._ground.run, 0, 0, body))
        if not isinstance(answer, kind):
            raise FederationError(
                f"No session could be opened to attack it: {said_by(answer)}",
                "The study itself is done; nothing else depends on this.",
            )
        return answer

    def _offer(self, **changed: bytes) -> Body:
        """The offer of a second session, of a study of the coordinator's making."""
        ground = self._ground
        return offered_session(
            ground.coordinator,
            replace(ground.study, **changed),  # type: ignore[arg-type]
            ground.run,
            ground.session + 1,
            ground.sites,
            self._expiry,
        )

    def _step(self, swapped: SessionOpening | None = None, **changed: object) -> SealedStep:
        """The first step of the session with `changed` fields, its label and signature right."""
        (offer, opening), ground = self._opened(), self._ground
        step = SealedStep(
            session_digest=session_digest(offer),
            step=1,
            attempt=1,
            form=StepForm.DIRECT,
            slot=round(1000 * (self._clock() + _SLOT_SECONDS)),
            adapter=ground.chain.adapter,
            state=ground.chain.state,
            sums=ground.chain.sums,
            cohort=ground.sites,
            label=bytes(32),
            opening=swapped or opening,
        )
        if self._log is not None:
            said = self._log.fields(ground.sites)
            step = replace(
                step, head=said.head, checkpoint=said.checkpoint, cosignature=said.cosignature
            )
        step = replace(step, **changed)  # type: ignore[arg-type]
        epoch, digests = epoch_of(offer, step.step, step.attempt), session_digests(offer, opening)
        label = label_of(ground.study, digests, epoch, ground.chain, step)
        return signed_step(ground.coordinator, replace(step, label=label))

    def _swapped_key(self) -> SealedStep:
        """The list of keys with one whose private half the coordinator has."""
        offer, opening = self._opened()
        first, second, *others = opening.keys.entries
        own = X25519PrivateKey.generate().public_key().public_bytes_raw()
        sd = session_digest(offer)
        false = signed_key(self._ground.coordinator, sd, replace(second, key=own))
        keys = SessionKeys((first, false, *others))
        return self._step(SessionOpening(keys, opening.group))

    def _made_up_sum(self) -> SealedStep:
        """A second step on top of a first one that never was."""
        ground = self._ground
        lanes = np.arange(ground.study.sent, dtype=np.uint64)
        false = OpenedSum(ground.session, 1, 1, bytes(32), ground.sites, lanes)
        return self._step(step=2, opened=(false,))

    def _opened(self) -> tuple[SessionOffer, SessionOpening]:
        if self._session is None:
            raise FederationError("The session was not opened.", "Call attacks.")
        return self._session


def said_by(answer: Body) -> str:
    """An agent's answer in a sentence."""
    match answer:
        case SecAggRefusal():
            words = explain_check(answer.check)
        case Refusal():
            words = guidance_of(answer.reason).happened
        case _:
            return "It took part."
    return words.split(". ")[0].rstrip(".") + "."
