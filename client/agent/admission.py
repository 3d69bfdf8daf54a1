"""What one study has spent at a site, and whether it may begin another attempt.

A coordinator may time every answer, so none may depend on what other studies did here, nor may
the time that it takes. Guarantees, each with a test:

- What other studies have cost is one number, worked out when the agent starts; they spend nothing
  while it runs, for it holds the ledger's lock. No later call looks at their charges.
- BUDGET, with figures, says that the study's own budget is used up: a function of its own rounds.
  Where only the budget of all studies together is, the answer is POLICY without figures, as for
  any other bound; the whole truth stands in the site's log.
- What would have fitted is looked for at the start only, and told to the site's log.
- An attempt is in this account when it is in the ledger, durably, and never before.
- The newest attempt, if it was never charged, is charged when an agent starts: it was under way
  when the one before it ended. Everybody saw that end, and it may have been for want of memory.
"""

# Why: docs/adr/0005-what-is-charged.md

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile

from client.agent.budget import (
    Budgets,
    budgets,
    charged,
    cost_of_others,
    study_epsilon,
    what_fits,
    why_refused,
)
from client.policy import SiteRules
from privacy.accounting.composition import forget
from privacy.errors import LedgerError
from privacy.ledger import AttemptKey, Charge, Entry, Ledger, State
from privacy.wire.bodies import Refusal
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.reasons import Reason

_log = logging.getLogger("craftsfl.agent")


class Account:
    """The line of one study in the site's ledger; only the agent of that study writes to it.

    Not thread-safe. Raises `LedgerError` as the ledger does; then it holds what the ledger holds,
    in which the record may stand all the same.
    """

    def __init__(self, rules: SiteRules, ledger: Ledger, charge: Charge) -> None:
        """`charge` is what every attempt of the study costs."""
        self._rules, self._ledger, self._charge = rules, ledger, charge
        _charge_newest(ledger)
        entries = ledger.entries()
        own = self._read(entries)
        self._others = cost_of_others(rules.policy, charged(entries), charge.study_digest)
        if len(own) < len(entries):
            forget()  # else figures that others have in common with this study would come sooner
        found = self._look()  # now, so that the first request is answered as soon as the next one
        if not found.fit and not charge.event.no_privacy:
            fits = what_fits(rules.policy, found, charged(entries), charge)
            _log.warning("No round of this study is left: %s; %s.", why_refused(found), fits)

    def _read(self, entries: Sequence[Entry]) -> list[Entry]:
        """Take the study's own attempts from the ledger, and return them."""
        own = [entry for entry in entries if entry.charge.study_digest == self._charge.study_digest]
        self._charged = {e.key: e.charge for e in own if e.state is State.COMMITTED}
        self._lost = {entry.key for entry in own} - self._charged.keys()
        return own

    @contextmanager
    def _in_step(self) -> Iterator[None]:
        """What the ledger raises goes on; a record that it has written counts nevertheless."""
        try:
            yield
        except LedgerError:
            self._read(self._ledger.entries())
            raise

    @property
    def spent(self) -> float:
        """Epsilon used of the study's budget."""
        charges = self._charged.values()
        return study_epsilon(charges, self._charge.study_digest)

    def knows(self, key: AttemptKey) -> bool:
        """Whether the ledger has a record of `key`."""
        return key in self._lost or key in self._charged

    def intent(self, key: AttemptKey) -> Checkpoint:
        """Write down that `key` begins; on disk when this returns where the ledger stands then."""
        with self._in_step():
            self._ledger.intent(key, self._charge)
        self._lost.add(key)  # until it is charged
        return self._ledger.head().checkpoint

    def commit(self, key: AttemptKey) -> None:
        """Charge `key`; on disk when this returns, and for ever."""
        with self._in_step():
            self._ledger.commit(key)
        self._lost.discard(key)
        self._charged[key] = self._charge

    def admitted(self, key: AttemptKey) -> Budgets | Refusal:
        """What the budgets will be once the attempt `key` is charged, or why there may be none."""
        study, policy = self._rules.study, self._rules.policy
        if not 1 <= key.round <= study.rounds or not 1 <= key.attempt <= study.privacy.attempts:
            return Refusal(Reason.POLICY)
        too_many = self._too_many()
        if too_many:
            _log.warning("Round %d refused: %s.", key.round, too_many)
            return Refusal(Reason.POLICY)
        found = self._look()
        if self._charge.event.no_privacy:
            return found if policy.allow_no_privacy else Refusal(Reason.POLICY)
        return found if found.fit else self._refused(key, found)

    def _look(self) -> Budgets:
        own = list(self._charged.values())
        return budgets(self._rules.policy, self._others, own, self._charge)

    def _refused(self, key: AttemptKey, found: Budgets) -> Refusal:
        _log.warning("Round %d refused: %s.", key.round, why_refused(found))
        line = found.study
        if line.fits:
            return Refusal(Reason.POLICY)
        return Refusal(Reason.BUDGET, line.spent, line.after, line.budget)

    def _too_many(self) -> str:
        """Why there may be no further attempt, whatever it costs; "" if there may.

        A coordinator that begins a study anew, with new run numbers, gains nothing by it.
        """
        study, most = self._rules.study, self._rules.max_lost_attempts
        if len(self._charged) + len(self._lost) >= study.rounds * study.privacy.attempts:
            return (
                f"the study has had all of its {study.rounds} rounds x "
                f"{study.privacy.attempts} attempts, over all runs"
            )
        if len(self._lost) >= most:
            return (
                f"{len(self._lost)} attempts of this study were begun and superseded; "
                f"max_lost_attempts in policy.toml allows {most}"
            )
        return ""


def _charge_newest(ledger: Ledger) -> None:
    """Charge what may have been under way when the last agent ended.

    The newest attempt, if it is open; and the open ones before it of the same round: one that was
    superseded holds the device until its physical batch is through.
    """
    entries = ledger.entries()
    if not entries:
        return
    of = (entries[-1].key.run, entries[-1].key.round)
    under_way = takewhile(
        lambda e: e.state is State.INTENT and (e.key.run, e.key.round) == of, reversed(entries)
    )
    for entry in reversed(list(under_way)):
        ledger.commit(entry.key)
        _log.warning(
            "Round %d was under way when the agent ended; it is charged and lost.",
            entry.key.round,
        )
