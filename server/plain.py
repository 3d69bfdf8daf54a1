"""A plain attempt: the server sees every site's update. In one process only, for tests.

Each site goes its own way through `starting -> training -> finished | dropped`; all transitions
are in this file.
"""

from __future__ import annotations

from collections.abc import Sequence

from privacy.wire.bodies import Collect, Refusal, Running, Started, StartTraining, Update
from privacy.wire.envelope import size_limit
from privacy.wire.reasons import Reason, explain
from server.messages import SMALL, Failure, Reply
from server.parts import NO_ANSWER, Order, Outcome, Part, Parts, Post, Vector
from server.roster import Member
from server.tables import PartState
from strategies.cohort import weighted_mean, weights


class PlainAttempt:
    """Runs one order: to the deadline, until all sites have ended, or until too few remain."""

    def __init__(self, post: Post, order: Order, members: Sequence[Member]) -> None:
        self._post = post
        self._parts = Parts(post, order, members)
        self._updates: dict[str, Vector] = {}
        self._silence = post.timing.silence + order.seconds
        self._start = StartTraining(post.study.digest(), post.layout.fingerprint(), order.adapter)

    def run(self) -> Outcome:
        """Ask, collect, and say what came of it."""
        post, parts = self._post, self._parts
        parts.open()
        while self._worth_waiting():
            if parts.elapsed() >= post.study.cohort.round_deadline:
                self._drop_the_late()
                break
            self._send_due()
            for part, reply in parts.replies():
                self._note(part, reply)
            post.clock.sleep(post.timing.poll)
        dropped, names = parts.dropped(), tuple(sorted(self._updates))
        if len(names) < post.study.smallest_cohort:
            return Outcome(None, names, dropped)
        return Outcome(weighted_mean(self._updates, weights(post.study, names)), names, dropped)

    def _worth_waiting(self) -> bool:
        active = len(self._parts.active())
        return active > 0 and active + len(self._updates) >= self._post.study.smallest_cohort

    def _send_due(self) -> None:
        now = self._post.clock.monotonic()
        due = [part for part in self._parts.active() if part.due <= now]
        started = [(part, Collect()) for part in due if part.state is PartState.TRAINING]
        others = [(part, self._start) for part in due if part.state is PartState.STARTING]
        self._parts.send(started, self._silence, size_limit(self._post.layout.parameters))
        self._parts.send(others, self._silence, SMALL)

    def _note(self, part: Part, reply: Reply) -> None:
        asked = reply.request.envelope.body
        if not part.active:
            return
        match reply.answer:
            case Started() if isinstance(asked, StartTraining):
                self._on_started(part)
            case Running() if isinstance(asked, Collect):
                self._parts.reached(part)
                self._parts.ask_in_its_slot(part)
            case Update() as update if isinstance(asked, Collect):
                self._on_update(part, update)
            case Refusal() | Failure() as answer:
                reason = self._parts.trouble(part, answer)
                if reason:
                    self._parts.drop(part, reason)
            case _:
                self._parts.drop(part, NO_ANSWER)

    def _on_started(self, part: Part) -> None:
        if part.state is not PartState.STARTING:
            return  # the answer to a message that was sent twice
        self._parts.move(part, PartState.TRAINING)
        self._parts.reached(part)
        self._parts.ask_in_its_slot(part)

    def _on_update(self, part: Part, update: Update) -> None:
        layout = self._post.layout
        fits = update.layout_fingerprint == layout.fingerprint()
        if not fits or update.delta.size != layout.parameters:
            self._parts.drop(part, explain(Reason.WRONG_LAYOUT))
            return
        self._updates[part.name] = update.delta
        self._parts.move(part, PartState.FINISHED, update.epsilon_spent)

    def _drop_the_late(self) -> None:
        seconds = self._post.study.cohort.round_deadline
        for part in self._parts.active():
            self._parts.drop(part, f"It missed the round's deadline of {seconds:g} s.")
