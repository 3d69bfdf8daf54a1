"""The agent of a hospital: its updates leave in masked sums only.

`TrainMasked` begins a masked attempt, and the exchanges follow; their transitions are
`privacy.secagg.client`'s, what all agents have in common is `client.agent.site_agent`'s.
"""

from __future__ import annotations

import hashlib
from typing import cast

from client.agent.masking import Masking
from client.agent.site_agent import AgentParts, OpenAttempt, SiteAgent
from privacy.ledger import AttemptKey
from privacy.secagg.client import SecAggClient
from privacy.wire.bodies import Body, Refusal, Running, SiteFacts
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.offer import Offer, TrainMasked
from privacy.wire.reasons import Reason
from privacy.wire.secagg import (
    Advertisements,
    Consistency,
    Deliver,
    Lanes,
    Survivors,
    UnmaskRequest,
    masked_size_limit,
)


class MaskedAgent(SiteAgent):
    """Masks its updates with `masking`; an update in clear cannot be asked for."""

    def __init__(self, parts: AgentParts, masking: Masking) -> None:
        """Raises `LedgerError`."""
        self._masking = masking
        super().__init__(parts)

    def _roster_digest(self) -> bytes:
        return self._masking.policy.roster_digest

    def _limit(self) -> int:
        return masked_size_limit(len(self._rules.study.sites), 0, self._parameters)

    def _vouched(self, run: int, node: int, facts: SiteFacts) -> Body:
        return self._masking.membership.signed(run, node, facts)

    def _answer_in_attempt(self, key: AttemptKey, body: Body, data: bytes) -> Body | bytes:
        match body:
            case TrainMasked():
                return self._train_masked(key, body, hashlib.sha256(data).digest())
            case Advertisements() | Deliver() | Survivors() | UnmaskRequest():
                return self._exchange(key, body)
        return Refusal(Reason.UNKNOWN_KIND)

    def _train_masked(self, key: AttemptKey, body: TrainMasked, request: bytes) -> Body:
        refusal = self._mismatch(body.start)
        if refusal is not None:
            return refusal
        last = self._attempt
        if last is not None and last.key == key and last.client is not None:
            if last.request != request and body.offer == last.client.offer:
                return Refusal(Reason.CONFLICT)
            return last.client.receive(body.offer)  # a repetition, or a second offer: refused
        found = self._admitted(key)
        if isinstance(found, Refusal):
            return found
        masking = self._masking
        client = masking.client(
            key, body.start, self._runs.newest_attempt, lambda: self._journalled(key, body.offer)
        )
        masking.check_cohort(body.offer)
        advertise = client.receive(body.offer)
        training = masking.training(self._trainer, client.encoding)
        work = self._work(key, body.start.adapter, training)
        self._begin(OpenAttempt(key, request, found, work, self._next_slot(), client))
        return advertise

    def _journalled(self, key: AttemptKey, offer: Offer) -> Checkpoint:
        """Where the ledger stands when the attempt's cohort and its intent are on disk."""
        self._masking.note_offer(offer)
        return self._intent(key)

    def _exchange(self, key: AttemptKey, body: Body) -> Body | bytes:
        """An exchange of a masked attempt; the update can be collected only from its slot on."""
        attempt = self._attempt
        if attempt is None or attempt.key != key or attempt.client is None:
            return Refusal(Reason.NOT_STARTED)
        if attempt.reply is not None:
            return attempt.reply  # there was no update, so there is nothing to unmask
        answer = attempt.client.receive(body)
        if isinstance(answer, Running) and self._clock() >= attempt.slot:
            return self._masked(attempt, attempt.client, body)
        if isinstance(answer, Consistency):
            self._masking.note_signed(key.round, attempt.client)
        return answer

    def _masked(self, attempt: OpenAttempt, client: SecAggClient, deliver: Body) -> Body | bytes:
        """The masked update, or the answer "no update"; charged before either leaves."""
        result = self._looked(attempt)
        if result is None:
            return self._without_update(attempt)
        client.provide(cast(Lanes, result))
        return client.receive(deliver)
