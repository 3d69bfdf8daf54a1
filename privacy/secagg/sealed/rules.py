"""What a site accepts of a session and of a step: its own rules, none of them from the server."""

from __future__ import annotations

from dataclasses import dataclass

from privacy.errors import SecAggError
from privacy.secagg.offer import LONGEST_OFFER, SMALLEST_COHORT
from privacy.secagg.refusals import Refused
from privacy.secagg.sealed.journal import SealedPast
from privacy.secagg.sealed.label import ChainDigests, SealedStudy
from privacy.wire.checks import Check
from privacy.wire.sealed import SealedStep
from privacy.wire.session import SessionOffer


@dataclass(frozen=True, slots=True)
class SealedPolicy:
    """A site's own rules for the sealed steps of one run.

    `n_c` is how many sites may side with the coordinator without learning more than a sum, at most
    k - 2 of k; `n_min` the smallest cohort; `longest` for how many seconds a session may be valid.
    """

    run: int
    n_min: int = SMALLEST_COHORT
    n_c: int = 0
    longest: int = LONGEST_OFFER // 2

    def __post_init__(self) -> None:
        if self.n_min < SMALLEST_COHORT or self.n_c < 0:
            raise SecAggError(
                f"n_min = {self.n_min} or n_c = {self.n_c} is too small.",
                f"The smallest cohort is {SMALLEST_COHORT}; n_c is 0 or more.",
            )

    def check_session(self, offer: SessionOffer, site: int, past: SealedPast, now: float) -> None:
        """Raise `Refused` for a session that the site does not open at `now` (Unix seconds)."""
        if offer.run != self.run:
            raise Refused(Check.RUN)
        self._check_size(offer.members, site)
        if not now < offer.expiry <= now + self.longest:
            raise Refused(Check.EXPIRED)
        if offer.session <= past.session:
            raise Refused(Check.OLD_SESSION)
        # Numbers come from the clock: one from the future would shut all others out until then.
        if offer.session > offer.expiry:
            raise Refused(Check.FAR_SESSION)

    def check_cohort(
        self, step: SealedStep, site: int, listed: tuple[int, ...], study: SealedStudy
    ) -> None:
        """Raise `Refused` for a K that is not of the session's sites, or too small."""
        strangers = set(step.cohort) - set(listed)
        if strangers:
            raise Refused(Check.NOT_IN_COHORT, min(strangers))
        if len(step.cohort) < study.n_min:
            raise Refused(Check.COHORT_SIZE)
        self._check_size(step.cohort, site)

    def _check_size(self, cohort: tuple[int, ...], site: int) -> None:
        if site not in cohort:
            raise Refused(Check.COHORT, site)
        if len(cohort) < self.n_min:
            raise Refused(Check.COHORT_SIZE)
        # Two honest members have to be left: one alone would be read off the sum by the others.
        if self.n_c > len(cohort) - 2:
            raise Refused(Check.COLLUDERS)


def check_newer(step: SealedStep, run: int, past: SealedPast) -> None:
    """Raise `Refused` unless (run, step, attempt) is above all that were ever journalled."""
    if past.newest is not None and (run, step.step, step.attempt) <= past.newest:
        raise Refused(Check.NOT_NEWER)


def changes_with(step: SealedStep, run: int, past: SealedPast, study: SealedStudy) -> int:
    """How often the cohort has changed, with this attempt's; `Refused` where it may not be.

    Within a step K only shrinks, over all its attempts and sessions. From step to step it may also
    grow again, but every change counts, and the study has `most_changes`.
    """
    if past.newest is None or not past.cohort:
        return 0
    grown = set(step.cohort) - set(past.cohort)
    if past.newest[:2] == (run, step.step) and grown:
        raise Refused(Check.COHORT_GREW, min(grown))
    changes = past.changes + (step.cohort != past.cohort)
    if changes > study.most_changes:
        raise Refused(Check.COHORT_CHANGES)
    return changes


def check_slot(step: SealedStep, offer: SessionOffer, now: float) -> None:
    """Raise `Refused` for a slot that is over, or that the session does not live to see."""
    if not 1000 * now < step.slot < 1000 * offer.expiry:
        raise Refused(Check.SLOT)


def check_chain(step: SealedStep, own: ChainDigests) -> None:
    """Raise `Refused` where the coordinator's history or adapter is not the site's own."""
    if step.sums != own.sums:
        raise Refused(Check.SUMS)
    if step.adapter != own.adapter:
        raise Refused(Check.ADAPTER)
    if step.state != own.state:
        raise Refused(Check.STATE)
