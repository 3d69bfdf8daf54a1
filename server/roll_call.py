"""Which sites are there, right now: asked before every attempt, so that none is wasted.

An attempt that begins with a site that is away fails at once, and may cost the others; a roll call
costs nothing. Nodes that are not connected are not waited for. One that is has `Timing.roll_call`
seconds to answer; if it lets that pass, the next roll calls wait for it only while too few sites
are there.
"""

from __future__ import annotations

from collections.abc import Callable

from server.attendance import Attendance
from server.context import RunContext
from server.nodes import Attendee, Node, clock_words


class RollCall:
    """Calls the sites of a run, and remembers since when each has been away."""

    def __init__(self, context: RunContext, attendance: Attendance) -> None:
        self._context = context
        self._attendance = attendance
        self._since: dict[str, float] = {}  # away since (Unix time), by name

    def call(self, enough: Callable[[list[Attendee]], bool]) -> list[Attendee]:
        """The sites that answer now; who was late before is waited for until there are `enough`."""
        clock, timing, attendance = self._context.clock, self._context.timing, self._attendance
        begin = clock.monotonic()
        since, end = begin - timing.fresh, begin + timing.roll_call
        while True:
            attendance.greet(since)
            attendance.listen()
            present = self._present(since)
            if not self._waited_for(since, enough(present)) or clock.monotonic() >= end:
                break
            clock.sleep(timing.poll)
        here = {attendee.node for attendee in present}
        for attendee in present:
            self._since.pop(attendee.name, None)
        for node, entry in attendance.known().items():
            entry.missed = node not in here
        return present

    def absent(self, present: list[Attendee]) -> dict[str, str]:
        """Why each other site of the study is not there, by name; "east: its gateway is ..."."""
        here = {attendee.name for attendee in present}
        reasons, now = self._reasons(), self._context.clock.time()
        names = [site.name for site in self._context.study.sites]
        self._since = {name: self._since.get(name, now) for name in names if name not in here}
        return {
            name: f"{reasons[name]} (since {clock_words(self._since[name])})"
            for name in names
            if name not in here
        }

    def _present(self, since: float) -> list[Attendee]:
        online = set(self._context.exchange.nodes())
        nodes = self._attendance.accepted()
        here = {n for n, entry in nodes.items() if n in online and _heard(entry, since)}
        return [attendee for attendee in self._attendance.attendees() if attendee.node in here]

    def _waited_for(self, since: float, enough: bool) -> bool:
        """Whether somebody who is connected may still answer."""
        online = set(self._context.exchange.nodes())
        for node, entry in self._attendance.known().items():
            answered = _heard(entry, since) or (entry.settled and not entry.accepted)
            if node in online and not answered and not (enough and entry.missed):
                return True
        return False

    def _reasons(self) -> dict[str, str]:
        """What is known of each site of the study, should it not be there."""
        online = set(self._context.exchange.nodes())
        reasons = dict(self._attendance.absentees())
        for node, entry in self._attendance.accepted().items():
            name = entry.facts.name if entry.facts is not None else ""
            if node not in online:
                reasons[name] = "its gateway is not connected"
            else:
                reasons[name] = entry.away.rstrip(".") or "it does not answer"
        return reasons


def _heard(entry: Node, since: float) -> bool:
    return entry.heard >= since and not entry.away
