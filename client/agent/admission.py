"""What one study has spent at a site, and whether it may begin another attempt.

A coordinator may time every answer, so neither an answer nor the time it takes may depend on what
other studies did here. Guarantees, each with a test:

- What other studies have cost is one number, computed when the agent starts; they spend nothing
  while it runs, since it holds the ledger's lock. No later call looks at their charges.
- BUDGET, with figures, says that the study's own budget is used up: a function of its own rounds.
  Where only the budget of all studies together is used up, the answer is POLICY without figures,
  as for any other bound; the site's log has the full reason.
- A study that cannot end within the budgets is refused before its first attempt, and at every
  greeting: CANNOT_FINISH, with both figures, where its own budget is too small, POLICY where only
  that of all studies together is. Whether it can is computed at the start, once.
- What would have fitted is computed at the start only, for the site's log.
- An attempt is in this account when it is in the ledger, durably, and never before.
- The newest attempt, if it was never charged, is charged when an agent starts: it was under way
  when the previous agent ended. Everyone saw it end, and it may have run out of memory.
"""

# Why: docs/adr/0005-what-is-charged.md

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile

from client.policy import SiteRules
from privacy.accounting.composition import forget
from privacy.budget import (
    Allowance,
    Book,
    Budgets,
    Objection,
    cannot_end,
    cost_of_attempts,
    may_begin,
    whole_figures,
)
from privacy.errors import LedgerError
from privacy.ledger import AttemptKey, Entry, Ledger, State, StepMark
from privacy.wire.bodies import Refusal
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.reasons import Reason

_log = logging.getLogger("craftsfl.agent")


class Account:
    """One study's part of the site's ledger; only the agent of that study writes to it.

    Not thread-safe. Raises `LedgerError` as the ledger does; it then holds what the ledger holds,
    which may include the record nevertheless.
    """

    def __init__(self, rules: SiteRules, ledger: Ledger) -> None:
        """The account of the study of `rules`; every attempt costs the same."""
        self._charges, self._ledger = rules.charges, ledger
        self._charge = self._charges.charge
        _charge_newest(ledger)
        entries = ledger.entries()
        own = self._read(entries)
        book = Book.of(entries)
        # The only time other studies' charges are read: from here on they are one number.
        self._none_charged = replace(book.allowance(rules.limits, self._charge), own=())
        if len(own) < len(entries):
            forget()  # else figures that others share with this study would be ready sooner
        self._schedule = cost_of_attempts(self._charge, self._charges.most)
        allowance = self._allowance()
        self._too_long = self._refusal_of_all(allowance)
        found = allowance.next()  # now: the first request is answered as soon as the next one
        if not found.fit and not self._charge.event.no_privacy:
            fits = allowance.what_would_fit()
            _log.warning("No round of this study is left: %s; %s.", found.figures(), fits)

    def _read(self, entries: Sequence[Entry]) -> list[Entry]:
        """Load the study's own attempts from the ledger, and return them."""
        own = [entry for entry in entries if entry.charge.study_digest == self._charge.study_digest]
        self._charged = {e.key: e.charge for e in own if e.state is State.COMMITTED}
        self._marks = [entry.mark for entry in own if entry.mark is not None]
        self._lost = {entry.key for entry in own} - self._charged.keys()
        return own

    @contextmanager
    def _in_step(self) -> Iterator[None]:
        """Pass on what the ledger raises; a record that it has written still counts."""
        try:
            yield
        except LedgerError:
            self._read(self._ledger.entries())
            raise

    @property
    def spent(self) -> float:
        """Epsilon used of the study's budget."""
        return self._allowance().spent

    def _refusal_of_all(self, allowance: Allowance) -> Refusal | None:
        """The refusal of a study that cannot end within the budgets; logged with all figures."""
        found = cannot_end(self._charges, allowance)
        if found is None:
            return None
        _log.warning(
            "THIS STUDY CANNOT END HERE, and is refused at the first greeting: %s. Ask for a study "
            "that costs less, raise the budget, or set allow_partial = true in policy.toml: the "
            "study then ends where the budget does, and what it has cost by then is gone.",
            whole_figures(self._charges, found),
        )
        if found.study.fits:
            return Refusal(Reason.POLICY)
        over = found.study
        return Refusal(Reason.CANNOT_FINISH, over.spent, over.after, over.budget)

    @property
    def too_long(self) -> Refusal | None:
        """The answer to whoever wants to begin a study that cannot end here; None if it can."""
        return self._too_long

    @property
    def schedule(self) -> float:
        """Epsilon of all attempts that the study may ever charge."""
        return self._schedule

    def knows(self, key: AttemptKey) -> bool:
        """Whether the ledger has a record of `key`."""
        return key in self._lost or key in self._charged

    def intent(self, key: AttemptKey, mark: StepMark | None = None) -> Checkpoint:
        """Record that `key` begins, and for which sealed step; once on disk, the checkpoint."""
        with self._in_step():
            self._ledger.intent(key, self._charge, mark)
        self._lost.add(key)  # until it is charged
        if mark is not None:
            self._marks.append(mark)
        return self._ledger.head().checkpoint

    def begin_session(self, run: int, number: int, digest: bytes) -> Checkpoint:
        """Record a session of sealed steps; returns, once on disk, the ledger's checkpoint."""
        self._ledger.begin_session(self._charge.study_digest, run, number, digest)
        return self._ledger.head().checkpoint

    @property
    def newest_session(self) -> int:
        """The largest number of a session of the study; 0 before the first."""
        return self._ledger.newest_session(self._charge.study_digest)

    @property
    def marks(self) -> Sequence[StepMark]:
        """The sealed steps of the study that were begun here, as they came."""
        return self._marks

    def sent(self, key: AttemptKey, digest: bytes) -> None:
        """Record what is about to leave of a charged `key`; on disk when this returns."""
        with self._in_step():
            self._ledger.sent(key, digest)

    def commit(self, key: AttemptKey) -> None:
        """Charge `key`, permanently; on disk when this returns."""
        with self._in_step():
            self._ledger.commit(key)
        self._lost.discard(key)
        self._charged[key] = self._charge

    def admitted(self, key: AttemptKey) -> Budgets | Refusal:
        """What the budgets will be once the attempt `key` is charged, or why it is refused."""
        lost = len(self._lost)
        found = may_begin(key, self._charges, lost, self._allowance(), self._unsettled(key))
        if self._too_long is not None and found != Objection():  # the request is not at fault
            return self._too_long
        if not isinstance(found, Objection):
            return found
        if found.words:
            _log.warning("Round %d refused: %s.", key.round, found.words)
        if found.over is None:
            return Refusal(Reason.POLICY)
        return Refusal(Reason.BUDGET, found.over.spent, found.over.after, found.over.budget)

    def _unsettled(self, key: AttemptKey) -> int:
        """How many lost attempts may still be charged once `key` begins.

        Where the noise is pooled: those at the same step, as in `_charge_newest`. An older one is
        never asked for again, so a step that was lost before anything left takes nothing away.
        """
        if self._charges.spare is None:
            return len(self._lost)
        return sum(_round_of(one) == _round_of(key) for one in self._lost)

    def _allowance(self) -> Allowance:
        return replace(self._none_charged, own=tuple(self._charged.values()))


def _charge_newest(ledger: Ledger) -> None:
    """Charge what may have been under way when the last agent ended.

    The newest attempt, if it is open, and open earlier ones of the same round: one that was
    superseded occupies the device until its physical batch is done.
    """
    entries = ledger.entries()
    if not entries:
        return
    of = _round_of(entries[-1].key)
    under_way = takewhile(
        lambda e: e.state is State.INTENT and _round_of(e.key) == of, reversed(entries)
    )
    for entry in reversed(list(under_way)):
        ledger.commit(entry.key)
        _log.warning(
            "Round %d was under way when the agent ended; it is charged and lost.",
            entry.key.round,
        )


def _round_of(key: AttemptKey) -> tuple[bytes, int, int]:
    return key.study, key.run, key.round
