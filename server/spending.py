"""What sites have spent, for people to see: a masked update carries no figure beside the vector.

Epsilon is a function of public facts: the study's mechanism, and how often a site has charged: for
each update that came, and for each word that there is none. How often it had charged before this
run follows from what the site said when it joined: it also holds what the server never received,
so that no count of the server's own could stand for it (ADR 24).
"""

from __future__ import annotations

from privacy.ledger import Charge
from privacy.study.manifest import Study
from privacy.study.terms import event_of


class Spending:
    """Counts the charges of each site of one study, as far as the server can know of them."""

    def __init__(self, study: Study) -> None:
        self._charge = Charge(study.digest(), event_of(study), study.privacy.delta)
        self._most = study.most_attempts
        self._since: dict[str, tuple[float, int]] = {}  # spent when it joined; charges since

    def released(self, name: str, joined: float) -> float | None:
        """One more charge of `name`, which had spent `joined` when it joined; its epsilon now.

        None where `joined` is not what this study's rounds add up to.
        """
        from privacy.budget import attempts_behind, cost_of_attempts  # imports scipy: not before

        spent, count = self._since.get(name, (joined, 0))
        count = count + 1 if spent == joined else 1
        self._since[name] = (joined, count)
        before = attempts_behind(joined, self._charge, self._most)
        return None if before is None else cost_of_attempts(self._charge, before + count)
