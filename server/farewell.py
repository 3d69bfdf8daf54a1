"""What the sites are told when the operator has stopped a run: nothing more will come of it.

Until a site knows that, it takes no other run of the study while an attempt is open: all it can go
by is the offer's own end, minutes away (`RUN_OPEN`). Whoever is not reached goes by that. The run
is over in any case: no failure of this matters.
"""

# Why: docs/adr/0035-whose-run-it-is.md

from __future__ import annotations

from contextlib import suppress
from typing import Final

from privacy.errors import CraftsflError
from privacy.wire.bodies import RunOver
from privacy.wire.envelope import Envelope
from server.attendance import Attendance
from server.context import RunContext
from server.messages import Request

FAREWELL_SECONDS: Final = 5.0  # for gateways to fetch it: with the run, Flower forgets its messages


def say_run_over(context: RunContext, attendance: Attendance) -> None:
    """Tell every site that is there, and wait a moment for the answers. Raises nothing of ours."""
    with suppress(CraftsflError):
        _say(context, attendance)


def _say(context: RunContext, attendance: Attendance) -> None:
    over = Envelope(context.run, 0, 0, RunOver())
    waiting = {attendee.node for attendee in attendance.present()}
    context.exchange.send([Request(node, over) for node in waiting])
    end = context.clock.monotonic() + FAREWELL_SECONDS
    while waiting and context.clock.monotonic() < end:
        for reply in context.exchange.receive():
            if reply.request.envelope is over:
                waiting.discard(reply.request.node)
        if waiting:
            context.clock.sleep(context.timing.poll)
