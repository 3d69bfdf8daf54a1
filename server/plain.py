"""A plain attempt: the server sees every site's update. Only within one process, for tests.

Each site moves through `starting -> training -> finished | dropped` on its own; all transitions
are in this file.
"""

from __future__ import annotations

from collections.abc import Sequence

from privacy.wire.bodies import Collect, Refusal, Running, Started, StartTraining, Update
from privacy.wire.codec import Vector
from privacy.wire.envelope import size_limit
from privacy.wire.reasons import Reason, explain
from server.attendance import Attendance
from server.context import RunContext
from server.messages import SMALL, FlowerFailure, Reply
from server.nodes import Attendee
from server.participants import (
    NO_ANSWER,
    AttemptOutcome,
    Participant,
    Participants,
    TrainingOrder,
)
from server.tables import PartState
from strategies.cohort import weighted_mean, weights


class PlainAttempt:
    """Runs one order until all sites have ended, too few remain, or the deadline passes."""

    def __init__(
        self,
        context: RunContext,
        order: TrainingOrder,
        attendance: Attendance,
        attendees: Sequence[Attendee],
    ) -> None:
        self._context = context
        self._order = order
        self._participants = Participants(context, order, attendance, attendees)
        self._updates: dict[str, Vector] = {}
        self._silence = context.timing.silence + order.seconds
        self._start = order.message(context.study)

    def run(self) -> AttemptOutcome:
        """Ask, collect, and return the outcome."""
        context, participants = self._context, self._participants
        participants.open()
        while self._worth_waiting():
            if participants.elapsed() >= context.study.cohort.round_deadline:
                self._drop_the_late()
                break
            self._send_due()
            for participant, reply in participants.replies():
                self._note(participant, reply)
            context.clock.sleep(context.timing.poll)
        dropped, names = participants.dropped(), tuple(sorted(self._updates))
        if len(names) < context.study.smallest_cohort:
            return AttemptOutcome(None, names, dropped)
        return AttemptOutcome(
            weighted_mean(self._updates, weights(context.study, names)), names, dropped
        )

    def _worth_waiting(self) -> bool:
        active = len(self._participants.active())
        return active > 0 and active + len(self._updates) >= self._context.study.smallest_cohort

    def _send_due(self) -> None:
        now = self._context.clock.monotonic()
        due = [participant for participant in self._participants.active() if participant.due <= now]
        started = [
            (participant, Collect())
            for participant in due
            if participant.state is PartState.TRAINING
        ]
        others = [
            (participant, self._start)
            for participant in due
            if participant.state is PartState.STARTING
        ]
        self._participants.send(started, self._silence, size_limit(self._order.layout.parameters))
        self._participants.send(others, self._silence, SMALL)

    def _note(self, participant: Participant, reply: Reply) -> None:
        asked = reply.request.envelope.body
        if not participant.active:
            return
        match reply.answer:
            case Started() if isinstance(asked, StartTraining):
                self._on_started(participant)
            case Running() if isinstance(asked, Collect):
                self._participants.reached(participant)
                self._participants.ask_in_its_slot(participant)
            case Update() as update if isinstance(asked, Collect):
                self._on_update(participant, update)
            case Refusal() | FlowerFailure() as answer:
                reason = self._participants.trouble(participant, answer)
                if reason:
                    self._participants.drop(participant, reason)
            case _:
                self._participants.drop(participant, NO_ANSWER)

    def _on_started(self, participant: Participant) -> None:
        if participant.state is not PartState.STARTING:
            return  # the answer to a message that was sent twice
        self._participants.move(participant, PartState.TRAINING)
        self._participants.reached(participant)
        self._participants.ask_in_its_slot(participant)

    def _on_update(self, participant: Participant, update: Update) -> None:
        layout = self._order.layout
        fits = update.layout_fingerprint == layout.fingerprint()
        if not fits or update.delta.size != layout.parameters:
            self._participants.drop(participant, explain(Reason.WRONG_LAYOUT))
            return
        self._updates[participant.name] = update.delta
        self._participants.move(participant, PartState.FINISHED, update.epsilon_spent)

    def _drop_the_late(self) -> None:
        seconds = self._context.study.cohort.round_deadline
        for participant in self._participants.active():
            self._participants.drop(
                participant, f"It missed the round's deadline of {seconds:g} s."
            )
