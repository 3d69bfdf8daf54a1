"""The adapter of a pooled study as this site works it out, and its file for a restart.

The file holds what a step was begun with, so that an agent that was restarted fetches the sums that
it has missed and no others. It is written by this site alone, and read strictly: one that is cut
short, changed, of another study or of another run is left aside, like one that leads to other
digests than a step names. Then everything follows from the sums, as at a site without a file.
"""

# Why: docs/adr/0050-dense-vectors-and-closed-runs.md

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from model.layout import Layout
from privacy.errors import AccountingError, FederationError
from privacy.files import read_private, write_private
from privacy.secagg.refusals import Refused
from privacy.secagg.roster import Roster
from privacy.study.manifest import Study
from privacy.wire.checks import Check
from privacy.wire.sealed import OpenedSum
from strategies.chain import AdapterChain
from strategies.kept_chain import KeptChain, largest_kept
from strategies.pooled import begin_chain, following, rule_of

_OTHER_HISTORY: Final = frozenset({Check.SUMS, Check.ADAPTER, Check.STATE})

_log = logging.getLogger("craftsfl.agent")


class MissingSums(Exception):
    """A step is further on than this site, which holds the sums of `known` steps."""

    def __init__(self, known: int) -> None:
        super().__init__(known)
        self.known = known


class SiteChain:
    """Where the adapter stands at this site, in one run at a time; `file`: None for no file."""

    def __init__(self, study: Study, layout: Layout, roster: Roster, file: Path | None) -> None:
        """Raises `ConfigError` for a study of another layout."""
        self._study = study
        self._roster = roster
        self._file = file
        self._start = begin_chain(study, layout)
        self._run = 0
        self._unproven = False  # as it was read: no step has been begun with it yet
        self.current = self._start

    def take_up(self, run: int) -> None:
        """From now on it is about `run`: from its file, where that is of this run."""
        kept = self._read()
        ours = kept is not None and kept.run == run
        self._run, self._unproven = run, ours
        self.current = kept.chain if kept is not None and ours else self._start

    def before(self, step: int, sums: Sequence[OpenedSum]) -> AdapterChain:
        """The chain before `step`, with those of `sums`, which have been proven; changes nothing.

        Raises `MissingSums`, or `Refused` where this site is further on.
        """
        known = self.current.steps
        # An agent that was restarted without its file: nothing is wrong with what it was sent.
        if known + 1 < min((found.step for found in sums if found.step > known), default=step):
            raise MissingSums(known)
        try:
            chain = following(self.current, sums, self._study, self._roster)
        except (FederationError, AccountingError) as error:
            _log.warning("The opened sums of step %d were refused: %s", step, error.message)
            chain = self.current
        if chain.steps + 1 > step:
            raise Refused(Check.SUMS)
        if chain.steps + 1 < step:
            raise MissingSums(self.current.steps)
        return chain

    def begun(self, chain: AdapterChain) -> None:
        """A step was begun with `chain`. Where its file cannot be written, a restart costs more."""
        changed = chain is not self.current
        self.current, self._unproven = chain, False
        if self._file is None or not changed:
            return
        try:
            write_private(self._file, KeptChain(self._run, chain).encode())
        except OSError as error:
            _log.warning("%s cannot be written: %s.", self._file, error.strerror)

    def doubted(self, check: Check) -> None:
        """A step was refused for `check`: a chain that was only read is not held on to."""
        if self._unproven and check in _OTHER_HISTORY:
            _log.warning("The stored adapter leads elsewhere: it is worked out again.")
            self.current, self._unproven = self._start, False

    def _read(self) -> KeptChain | None:
        if self._file is None:
            return None
        try:
            data = read_private(self._file, largest_kept(self._start.adapter.size))
            kept = KeptChain.decode(data, self._study.digest(), rule_of(self._study))
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("%s cannot be read: %s.", self._file, error.strerror)
            return None
        except FederationError as error:
            _log.warning("%s is left aside: %s", self._file, error.message)
            return None
        return kept if kept.chain.adapter.size == self._start.adapter.size else None
