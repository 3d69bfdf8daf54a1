"""An agent without masks: the coordinator sees its update. In one process only, never at a site.

`StartTraining` begins an attempt and `Collect` asks for its update; what all agents have in common
is `client.agent.site_agent`'s. Nothing else in `client` knows of this file.
"""

from __future__ import annotations

import hashlib
from typing import cast

from client.agent.site_agent import OpenAttempt, SiteAgent, sealed
from client.agent.work import checked
from privacy.ledger import AttemptKey
from privacy.wire.bodies import (
    Body,
    Collect,
    Refusal,
    Running,
    SiteFacts,
    Started,
    StartTraining,
    Update,
)
from privacy.wire.codec import Vector
from privacy.wire.envelope import size_limit
from privacy.wire.reasons import Reason


class PlainAgent(SiteAgent):
    """Gives its noised update to whoever asks, for a plain study."""

    masked = False

    def _limit(self) -> int:
        return size_limit(self._parameters)

    def _vouched(self, run: int, node: int, facts: SiteFacts) -> Body:
        return facts

    def _answer_in_attempt(self, key: AttemptKey, body: Body, data: bytes) -> Body | bytes:
        match body:
            case StartTraining():
                return self._start(key, body, hashlib.sha256(data).digest())
            case Collect():
                return self._collect(key)
        return Refusal(Reason.UNKNOWN_KIND)

    def _start(self, key: AttemptKey, start: StartTraining, request: bytes) -> Body:
        refusal = self._mismatch(start)
        if refusal is not None:
            return refusal
        last = self._attempt
        if last is not None and last.key == key:
            return Started() if last.request == request else Refusal(Reason.CONFLICT)
        found = self._admitted(key)
        if isinstance(found, Refusal):
            return found
        self._intent(key)
        work = self._work(key, start.adapter, checked(self._trainer.train))
        self._begin(OpenAttempt(key, request, found, work, self._next_slot()))
        return Started()

    def _collect(self, key: AttemptKey) -> Body | bytes:
        attempt = self._attempt
        if attempt is None or attempt.key != key:
            return Refusal(Reason.NOT_STARTED)
        if attempt.reply is None:
            if self._clock() < attempt.slot:
                return Running()
            result = self._looked(attempt)
            if result is None:
                return self._without_update(attempt)
            after = attempt.budgets.study.after
            attempt.reply = sealed(key, Update(self._layout, cast(Vector, result), after))
        return attempt.reply
