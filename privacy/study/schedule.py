"""What the accountant says of a study before it begins; importing this imports scipy."""

from __future__ import annotations

from privacy.accounting.capacity import public_capacity
from privacy.accounting.schedule import check_claimable
from privacy.study.manifest import Study
from privacy.study.terms import event_of


def check_schedule(study: Study) -> None:
    """Raise `AccountingError` for a study whose epsilon could not be released at its end.

    Asked when a study is loaded, before anything is spent. See `check_claimable`.
    """
    check_claimable(event_of(study), study.rounds * study.privacy.attempts, study.privacy.delta)


def capacity_of(study: Study, declared_patients: int) -> int:
    """Patients that a step at a site with `declared_patients` has room for.

    From the manifest's public numbers. Raises `AccountingError` for a delta outside [1e-12, 1).
    """
    training = study.training
    steps = training.steps * study.rounds * study.privacy.attempts
    return public_capacity(declared_patients, training.sampling_rate, steps, study.privacy.delta)
