"""May this attempt be made? What a study's schedule and a site's budgets say to it."""

from __future__ import annotations

from dataclasses import dataclass

from privacy.budget.allowance import Allowance, Budgets, Outlook
from privacy.ledger import AttemptKey, Charge


@dataclass(frozen=True, slots=True)
class StudyCharges:
    """What a study may charge at a site: its schedule is frozen, and so is the cost of an attempt.

    `most_lost`: how many attempts may have been begun and never charged, over all runs.
    `spare`: where the noise is pooled, attempts are counted over the whole study: each round is one
    step, and so many attempts may be charged beyond one for each.
    """

    charge: Charge
    rounds: int
    attempts: int  # of each round
    most_lost: int
    spare: int | None = None

    @property
    def most(self) -> int:
        """All attempts that the study has, over all runs."""
        return self.rounds * self.attempts if self.spare is None else self.rounds + self.spare

    @property
    def schedule(self) -> str:
        """`most` in words."""
        if self.spare is None:
            return f"{self.rounds} rounds x {self.attempts} attempts"
        plural = "" if self.spare == 1 else "s"
        return f"{self.rounds} steps and {self.spare} spare attempt{plural}"


@dataclass(frozen=True, slots=True)
class Objection:
    """Why an attempt may not be made.

    `words` are for the site's log alone; "" where the request itself is at fault. `over` has the
    figures that may leave the site, where the study's own budget is what is used up.
    """

    words: str = ""
    over: Outlook | None = None


def to_its_end(study: StudyCharges, allowance: Allowance) -> Budgets:
    """What `study` makes of both budgets if every attempt of its schedule is charged.

    That is the most it may ever cost, whatever its coordinator does, and for a study that was not
    begun it is the epsilon of its whole schedule. Attempts that were lost count as if they were
    still to come: of the newest one nobody knows yet.
    """
    return allowance.after(max(0, study.most - len(allowance.own)))


def cannot_end(study: StudyCharges, allowance: Allowance) -> Budgets | None:
    """The budgets at the end of a study that does not fit into them; None if it may begin.

    It may also where the policy allows a part of a study, or one without noise.
    """
    limits = allowance.limits
    if limits.allow_partial or study.charge.event.no_privacy:
        return None
    found = to_its_end(study, allowance)
    return None if found.fit else found


def whole_figures(study: StudyCharges, at_its_end: Budgets) -> str:
    """What the whole of `study` costs against the budget that it exceeds, for the site's own eyes.

    Against the lifetime budget it tells of other studies, and must not leave the site.
    """
    over = at_its_end.lifetime if at_its_end.study.fits else at_its_end.study
    whose = (
        "epsilon, of all studies together"
        if over is at_its_end.lifetime
        else "study_epsilon, of this study"
    )
    return (
        f"{study.schedule}, each charged, would make epsilon "
        f"{over.after:.2f}, and {whose}, is {over.budget:.2f} in policy.toml, of which "
        f"{over.spent:.2f} is used"
    )


def may_begin(
    key: AttemptKey,
    study: StudyCharges,
    lost: int,
    allowance: Allowance,
    unsettled: int | None = None,
) -> Budgets | Objection:
    """What the budgets will be once the attempt `key` of `study` is charged, or an objection.

    `lost` attempts of the study were begun and not charged, of which so many are `unsettled`: they
    may still be charged (None: all of them). In this order: the schedule, over all
    runs, so that a coordinator that starts a study again under new run numbers gains nothing by
    it; noise; the budgets.
    """
    if not (1 <= key.round <= study.rounds and 1 <= key.attempt <= study.attempts):
        return Objection()
    too_many = _too_many(study, len(allowance.own), lost, lost if unsettled is None else unsettled)
    if too_many:
        return Objection(too_many)
    found = allowance.next()
    if study.charge.event.no_privacy:
        return found if allowance.limits.allow_no_privacy else Objection()
    if found.fit:
        return found
    return Objection(found.figures(), None if found.study.fits else found.study)


def _too_many(study: StudyCharges, charged: int, lost: int, unsettled: int) -> str:
    """Why there may be no further attempt, whatever it costs; "" if there may."""
    if charged + unsettled >= study.most:
        return f"the study has had all of its {study.schedule}, over all runs"
    if lost >= study.most_lost:
        return (
            f"{lost} attempts of this study were begun and superseded; "
            f"max_lost_attempts in policy.toml allows {study.most_lost}"
        )
    return ""
