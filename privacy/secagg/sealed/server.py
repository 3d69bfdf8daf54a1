"""The coordinator's side of sealed steps, sans I/O: every transition is in this file.

One machine serves one session, and one attempt at a time:

    stage     sends            to            takes            of whom      then
    KEYS      SessionOffer     members       SessionKey       members      GROUP    `close_keys`
    GROUP     SessionKeys      the dealer    SessionGroup     the dealer   IDLE
    IDLE      -                -             -                             STEP     `begin`
    STEP      SealedStep       K             Running          K            STEP
    STEP      SealedStep       K             Sealed           K            OPENED   form DIRECT
    STEP      SealedStep       K             SealedReady      K            COLLECT  form READY
    COLLECT   SealedCollect    K             Sealed           K            OPENED
    OPENED    -                -             -                             STEP     `begin`

`begin` is allowed in STEP and COLLECT too: the attempt under way is then lost. `result` is the
opened sum, or `Aborted` with the sites whose masks do not fit together. A member of K that is
dropped ends the attempt: without it there is no sum.

Guarantees, each with a test: what is not in the table or fails a check raises `Refused` with the
site and changes nothing; an answer that comes twice counts once; after `stored` and `restored` the
requests have the same signed bytes, and so the same answers. This side needs no secret but the key
that signs its requests, and is trusted with nothing.
"""

# Why: docs/adr/0040-sealed-steps.md

from __future__ import annotations

from dataclasses import replace
from enum import Enum

from privacy.errors import SecAggError
from privacy.identity import Identity
from privacy.secagg.refusals import Aborted, Refused
from privacy.secagg.roster import Roster
from privacy.secagg.sealed.collector import StepCollector
from privacy.secagg.sealed.label import (
    ChainDigests,
    SealedStudy,
    epoch_of,
    keys_digest,
    label_of,
    session_digest,
    session_digests,
)
from privacy.secagg.sealed.opening import (
    check_group,
    check_key,
    check_key_list,
    check_offer,
    check_step_signature,
    shown_ledger,
    signed_step,
)
from privacy.secagg.sealed.stored import StoredMachine
from privacy.secagg.witness import MemoryWitness, Witness
from privacy.wire.bodies import Body, Running
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.checks import Check
from privacy.wire.log import NO_LOG, LogFields
from privacy.wire.sealed import OpenedSum, Sealed, SealedReady, SealedStep, StepForm
from privacy.wire.secagg import SecAggRefusal
from privacy.wire.session import (
    SessionGroup,
    SessionKey,
    SessionKeys,
    SessionOffer,
    SessionOpening,
)

_NO_DIGEST = bytes(32)


class SealedStage(Enum):
    """What the machine waits for."""

    KEYS = "session keys"
    GROUP = "group secret"
    IDLE = "next step"
    STEP = "vectors"
    COLLECT = "committed vectors"
    OPENED = "step after the sum"


class SealedServer:
    """One session. Not thread-safe."""

    def __init__(
        self,
        coordinator: Identity,
        roster: Roster,
        study: SealedStudy,
        offer: SessionOffer,
        witness: Witness | None = None,
    ) -> None:
        """`offer`: from `offered_session`; `witness`: of the sites' ledgers.

        Raises `Refused` for an offer that no site would take, `SecAggError` for another key than
        the study's.
        """
        if coordinator.public != study.coordinator:
            raise SecAggError(
                "The coordinator's key is not the one that the study names.",
                "Start the coordinator with that key, or agree on a study with this one.",
            )
        check_offer(offer, study, roster)
        self._coordinator = coordinator
        self._roster = roster
        self._study = study
        self._witness = witness or MemoryWitness()
        self.offer = offer
        self._sd = session_digest(offer)
        self._keys: dict[int, SessionKey] = {}
        self._listed: SessionKeys | None = None
        self._group: SessionGroup | None = None
        self._failed: set[int] = set()
        self._in_session: set[int] = set()  # sites that have answered a step of it
        self._told: dict[int, tuple[OpenedSum, ...]] = {}
        self._step: SealedStep | None = None
        self._collector: StepCollector | None = None

    @property
    def stage(self) -> SealedStage:
        """What the machine waits for."""
        if self._listed is None:
            return SealedStage.KEYS
        if self._group is None:
            return SealedStage.GROUP
        if self._collector is None:
            return SealedStage.IDLE
        if self._collector.is_complete:
            return SealedStage.OPENED
        return SealedStage.COLLECT if self._collector.is_committed else SealedStage.STEP

    @property
    def members(self) -> tuple[int, ...]:
        """The sites whose keys the session has, ascending; K is of these."""
        return () if self._listed is None else self._listed.sites

    @property
    def dealer(self) -> int:
        """The site that is asked to deal; 0 before the keys are closed."""
        return next((site for site in self.members if site not in self._failed), 0)

    def ledger_of(self, site: int) -> Checkpoint | None:
        """Which ledger a member has shown with its key, and how far it was."""
        entry = self._keys.get(site)
        return None if entry is None else entry.ledger

    @property
    def current(self) -> SealedStep | None:
        """The step that was begun last, without what rides on it."""
        return self._step

    @property
    def acknowledged(self) -> frozenset[int]:
        """The members of K that have taken up the attempt."""
        return frozenset() if self._collector is None else self._collector.acknowledged

    @property
    def committing(self) -> bool:
        """Whether the step under way is in the form READY, and not all of K have committed."""
        ready = self._step is not None and self._step.form is StepForm.READY
        return ready and not self.has_commitments

    @property
    def has_commitments(self) -> bool:
        """Whether all of K have committed to their vectors, in the form READY."""
        return self._collector is not None and self._collector.is_committed

    @property
    def waiting(self) -> frozenset[int]:
        """The sites whose answer is still to come; none once a member of K was dropped."""
        if self.stage is SealedStage.KEYS:
            return frozenset(self.offer.members) - set(self._keys) - self._failed
        if self.stage is SealedStage.GROUP:
            return frozenset({self.dealer} - {0})
        return frozenset() if self._collector is None else self._collector.waiting

    def requests(self) -> dict[int, Body]:
        """The message for each site of `waiting`; the same ones however often they are sent."""
        return {site: self._request(site) for site in sorted(self.waiting)}

    def drop(self, site: int) -> None:
        """Stop waiting for a site: it is gone, or it has refused. The next dealer is asked."""
        if self._collector is None:
            self._failed.add(site)
        else:
            self._collector.drop(site)

    def tell(self, site: int, sums: tuple[OpenedSum, ...]) -> None:
        """What rides on the next steps to `site`: the opened sums that it may not know."""
        self._told[site] = sums

    @property
    def keyed(self) -> tuple[int, ...]:
        """The sites whose keys have come."""
        return tuple(sorted(self._keys))

    def exclude(self, site: int) -> None:
        """Take a key that came out again: the session goes on without that site."""
        if self._listed is not None:
            raise SecAggError("The session's keys are closed.", "Open another session.")
        self._keys.pop(site, None)
        self._failed.add(site)

    def close_keys(self) -> None:
        """Go on with the keys that came; `Aborted` if they are fewer than n_min."""
        if self._listed is not None:
            raise SecAggError("The session's keys are closed.", "Open another session.")
        missing = sorted(set(self.offer.members) - set(self._keys))
        if len(self._keys) < self._study.n_min:
            raise Aborted(SealedStage.KEYS.value, Check.TOO_FEW, missing)
        listed = SessionKeys(tuple(self._keys[site] for site in sorted(self._keys)))
        check_key_list(listed, self.offer, self._sd, self._roster)
        self._listed = listed
        self._failed.clear()

    def begin(
        self,
        chain: ChainDigests,
        step: int,
        attempt: int,
        slot: int,
        cohort: tuple[int, ...],
        form: StepForm = StepForm.DIRECT,
        log: LogFields = NO_LOG,
    ) -> SealedStep:
        """Begin an attempt, due at `slot` (Unix ms); `SecAggError` where no site would take it.

        `log`: what it says of the consortium's log, to all sites alike.
        """
        opening = self._opening()
        epoch = epoch_of(self.offer, step, attempt)
        outside = set(cohort) - set(opening.keys.sites)
        if not epoch or outside or len(cohort) < self._study.n_min:
            raise SecAggError(
                f"Step {step}, attempt {attempt} with {len(cohort)} sites is not of this session.",
                "Open a new session, or wait for more sites.",
            )
        asked = SealedStep(
            *(self._sd, step, attempt, form, slot, chain.adapter, chain.state, chain.sums),
            cohort=cohort,
            label=_NO_DIGEST,
            head=log.head,
            checkpoint=log.checkpoint,
            cosignature=log.cosignature,
        )
        digests = session_digests(self.offer, opening)
        label = label_of(self._study, digests, epoch, chain, asked)
        return self._began(signed_step(self._coordinator, replace(asked, label=label)))

    def receive(self, site: int, body: Body) -> None:
        """Take the answer of `site`, as the transport names it; `Refused` if it is not allowed."""
        if isinstance(body, SecAggRefusal):
            self.drop(site)
            return
        match (self.stage, body):
            case (SealedStage.KEYS, SessionKey()):
                self._take_key(site, body)
            case (SealedStage.GROUP, SessionGroup()):
                self._take_group(site, body)
            case (SealedStage.IDLE, _) | (SealedStage.KEYS, _) | (SealedStage.GROUP, _):
                raise Refused(Check.OUT_OF_ORDER, site)
            case (_, Running() | Sealed() | SealedReady()) if self._collector is not None:
                self._collector.receive(site, body)
                self._in_session.add(site)
            case _:
                raise Refused(Check.OUT_OF_ORDER, site)

    def result(self) -> OpenedSum:
        """The opened sum; `Aborted` where masks do not cancel or a site is gone."""
        if self._collector is None:
            raise SecAggError("No step has begun.", "Call begin.")
        return self._collector.result()

    def stored(self) -> bytes:
        """All that `restored` needs: signed bytes of the sites and of this side, no secret."""
        keys = self._listed or SessionKeys(tuple(self._keys[one] for one in sorted(self._keys)))
        return StoredMachine(
            self.offer,
            keys,
            self._listed is not None,
            self._group,
            self._step,
            tuple(sorted(self._in_session)),
            () if self._collector is None else self._collector.commitments,
        ).encode()

    @classmethod
    def restored(
        cls,
        coordinator: Identity,
        roster: Roster,
        study: SealedStudy,
        data: bytes,
        witness: Witness | None = None,
    ) -> SealedServer:
        """The machine that `data` is of, after a restart: the same requests.

        Of the answers it has the commitments, once all are there; others are asked for again, or
        handed to `receive` again where they were kept. Raises `RefusedMessage` or `Refused` for
        bytes that are not of this study's session.
        """
        stored = StoredMachine.decode(data)
        server = cls(coordinator, roster, study, stored.offer, witness)
        for entry in stored.keys.entries:
            server._take_key(entry.site, entry)
        if stored.closed:
            server.close_keys()
        if stored.group is not None:
            server._take_group(stored.group.dealer, stored.group)
        server._in_session.update(stored.in_session)
        if stored.step is not None:
            check_step_signature(stored.step, study)
            server._began(stored.step)
            for site, ready in stored.ready(stored.step.label):
                server.receive(site, ready)
        return server

    def _request(self, site: int) -> Body:
        if self.stage is SealedStage.KEYS:
            return self.offer
        if self._listed is not None and self._group is None:
            return self._listed
        collector, step = self._collector, self._step
        if collector is None or step is None:
            raise SecAggError("There is nothing to ask.", "Call begin.")
        if collector.is_committed:
            return collector.collect()
        opening = None if site in self._in_session else self._opening()
        return replace(step, opening=opening, opened=self._told.get(site, ()))

    def _began(self, step: SealedStep) -> SealedStep:
        self._collector = StepCollector(step, self.offer.session, self._study, self._roster)
        self._step = step
        return step

    def _take_key(self, site: int, entry: SessionKey) -> None:
        if entry.site != site or site not in self.offer.members:
            raise Refused(Check.SENDER, site)
        check_key(entry, self.offer, self._sd, self._roster)
        if self._keys.get(site, entry) != entry:
            raise Refused(Check.ANSWERED, site)
        self._witness.see([shown_ledger(entry, self._roster)])
        self._keys[site] = entry

    def _take_group(self, site: int, group: SessionGroup) -> None:
        if self._listed is None or group.dealer != site:
            raise Refused(Check.SENDER, site)
        kd = keys_digest(self._sd, self._listed)
        check_group(group, self._listed, self._sd, kd, self._roster)
        self._group = group

    def _opening(self) -> SessionOpening:
        if self._listed is None or self._group is None:
            raise SecAggError("The session is not open yet.", "Wait for its keys and its group.")
        return SessionOpening(self._listed, self._group)
