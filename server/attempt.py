"""One attempt at a round, masked or plain as the study says."""

from __future__ import annotations

from collections.abc import Sequence

from server.attendance import Attendance
from server.context import RunContext
from server.masked import MaskedAttempt
from server.nodes import Attendee
from server.participants import AttemptOutcome, TrainingOrder
from server.plain import PlainAttempt
from server.spending import Spending


def run_attempt(
    context: RunContext,
    order: TrainingOrder,
    attendance: Attendance,
    attendees: Sequence[Attendee],
    spending: Spending,
) -> AttemptOutcome:
    """Ask `attendees` to train; returns their mean update, or why there is none.

    `spending` counts what a masked attempt makes the sites charge.
    """
    if not context.study.masked:
        return PlainAttempt(context, order, attendance, attendees).run()
    return MaskedAttempt(context, order, attendance, attendees, spending).run()
