"""What the accountant says of a study before it begins; importing this imports scipy."""

from __future__ import annotations

from privacy.accounting.schedule import check_claimable
from privacy.study.manifest import Study
from privacy.study.terms import event_of


def check_schedule(study: Study) -> None:
    """Raise `AccountingError` for a study whose epsilon could not be released at its end.

    Asked when a study is loaded, before anything is spent. See `check_claimable`.
    """
    check_claimable(event_of(study), study.most_attempts, study.privacy.delta)
