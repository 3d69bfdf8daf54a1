"""What the accountant says of a study before it begins; importing this imports scipy."""

from __future__ import annotations

from privacy.accounting.schedule import check_claimable
from privacy.study.manifest import Study
from privacy.study.pooling import grid_of
from privacy.study.terms import event_of


def check_schedule(study: Study) -> None:
    """Raise `AccountingError` for a study whose epsilon could not be released at its end.

    Asked when a study is loaded, before anything is spent. See `check_claimable`. So is whether
    the lanes of a pooled study hold its sums, of the smallest cohort too.
    """
    if study.pools_noise:
        for cohort in (study.smallest_cohort, len(study.sites)):
            grid_of(study, cohort)
    check_claimable(event_of(study), study.most_attempts, study.privacy.delta)
