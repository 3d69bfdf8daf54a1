"""Which of the sites present take part in a round, and whether there are enough of them."""

from __future__ import annotations

from collections.abc import Mapping

from privacy.error_ids import ErrorId
from privacy.errors import FederationError
from server.attendance import Attendance, Attendee
from server.context import RunContext
from server.events import SiteLeftOut


def check_quorum(context: RunContext, attendance: Attendance) -> None:
    """Record who is missing. Raises `FederationError` if too few sites take part."""
    attendance.report_missing()
    present, needed = len(attendance.attendees()), context.study.smallest_cohort
    if present < needed:
        raise FederationError(
            too_few(present, needed, attendance.absentees()),
            "Fix these sites, then start a new run: craftsfl rounds start",
            id=ErrorId.TOO_FEW_SITES,
        )


def choose_cohort(context: RunContext, attendance: Attendance, round: int) -> list[Attendee]:
    """Who is asked to train; a masked attempt waits until its smallest cohort is present.

    The masked cohorts of a round may only shrink, so that nobody can choose by whom two sums
    differ: a site that was left out once stays out of the round, and the others would refuse it.
    """
    if not context.study.masked:
        return attendance.attendees()
    allowed = context.store.cohort(context.study, round)
    _wait_for_cohort(context, attendance, allowed)
    attendees = attendance.attendees()
    chosen = _within(attendees, allowed)
    for attendee in attendees:
        if attendee not in chosen:
            reason = f"It was not in the first cohort of round {round}, which may only shrink."
            context.emit(SiteLeftOut(attendee.name, round, reason))
    return chosen


def too_few(have: int, needed: int, without: Mapping[str, str]) -> str:
    """Says that `have` sites are fewer than `needed`, and why each site of `without` is out."""
    reasons = " ".join(f"{name}: {reason}" for name, reason in sorted(without.items()))
    return f"{have} site(s) of the {needed} that are needed. {reasons}".strip()


def _wait_for_cohort(
    context: RunContext, attendance: Attendance, allowed: frozenset[str] | None
) -> None:
    """Greet nodes until enough sites are connected, or patience runs out."""
    clock, timing = context.clock, context.timing
    end = clock.monotonic() + timing.patience
    while (
        len(_within(attendance.present(), allowed)) < context.study.smallest_cohort
        and clock.monotonic() < end
    ):
        attendance.greet_newcomers()
        for reply in context.exchange.receive():
            attendance.note(reply)
        clock.sleep(timing.poll)


def _within(attendees: list[Attendee], allowed: frozenset[str] | None) -> list[Attendee]:
    """Those of `attendees` whose names are `allowed`; all of them while there is no list yet."""
    return [attendee for attendee in attendees if allowed is None or attendee.name in allowed]
