"""What sites have spent, for people to see: a masked update carries no figure beside the vector.

Epsilon is a function of public facts: the study's mechanism, and how often a site has charged: for
each update that came, and for each word that there is none. How often it had charged before this
run follows from what the site said when it joined. The site's own ledger is the evidence; it also
holds what the server never received.
"""

from __future__ import annotations

import math
from bisect import bisect_left

from privacy.study.manifest import Study
from privacy.study.terms import event_of

_TOLERANCE = 1e-6


class Spending:
    """Counts the charges of each site of one study, as far as the server can know of them."""

    def __init__(self, study: Study) -> None:
        self._event = event_of(study)
        self._delta = study.privacy.delta
        self._most = study.rounds * study.privacy.attempts
        self._since: dict[str, tuple[float, int]] = {}  # spent when it joined; charges since

    def released(self, name: str, joined: float) -> float | None:
        """One more charge of `name`, which had spent `joined` when it joined; its epsilon now.

        None where `joined` is not what this study's rounds add up to.
        """
        spent, count = self._since.get(name, (joined, 0))
        count = count + 1 if spent == joined else 1
        self._since[name] = (joined, count)
        before = self._charges_of(joined)
        return None if before is None else self._epsilon(before + count)

    def _charges_of(self, spent: float) -> int | None:
        """How many charges cost `spent`."""
        least = spent * (1 - _TOLERANCE)
        count = bisect_left(range(self._most + 1), least, key=self._epsilon)
        close = math.isclose(self._epsilon(count), spent, rel_tol=_TOLERANCE)
        return count if close else None

    def _epsilon(self, count: int) -> float:
        from privacy.accounting import epsilon  # it imports scipy: not before it is needed

        if count and self._event.no_privacy:
            return math.inf
        return epsilon([self._event] * count, self._delta)
