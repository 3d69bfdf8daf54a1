"""A site as a witness of the consortium's log, and what it asks of the log before it trains.

The site cosigns a checkpoint only where all of this holds, and then it is on disk before:

- the coordinator that the study names has signed it, and it continues what this site cosigned last;
- the log has of this site's own ledger what the ledger has, and nothing else or newer: what a state
  folder that was put back, or is one of two, shows;
- no other site's ledger goes back in it, or is another one that no person here has accepted.

It trains at a step only where it could cosign, where its newest record is in the log, since this
process's session is under a checkpoint that it has cosigned, and, if the policy requires it, where
n_c + 1 others have cosigned that one too: one of them, at least, is honest. Without any log it
trains only if the policy does not require one and the site has never cosigned this coordinator's.
What it then sends has its cosignature with it, and the records that the log lacks.
"""

# Why: docs/adr/0059-a-log-that-every-site-witnesses.md

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from client.policy import SiteRules
from privacy.errors import LogError
from privacy.identity import Identity, verify
from privacy.ledger import Ledger
from privacy.log.batches import batch_of
from privacy.log.checkpoints import TreeHead, cosign, cosigned_by, log_origin, names_without
from privacy.log.memory import CosignedLog, LogMemory
from privacy.log.news import (
    LogNews,
    check_continues,
    check_own_row,
    newer_rows,
    read_news,
)
from privacy.secagg.refusals import Refused
from privacy.secagg.roster import Roster
from privacy.secagg.sealed.log_words import answer_signed, shown_signed
from privacy.secagg.witness import Witness
from privacy.study.pooling import pooled_settings
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.checks import Check, explain_check
from privacy.wire.log import MAX_LOG_BYTES, NO_LOG, LogAnswer, LogFields, LogShown
from privacy.wire.sealed import SealedStep

_log = logging.getLogger("craftsfl.agent")
_NONE = (0, bytes(32))
_NO_NEWER_COPY = (
    "The log holds %d records of this site's ledger, and the ledger here has %d. Only if no newer "
    "copy of it is left: craftsfl site recover-ledger site.toml --no-copy-of-the-ledger-is-left "
    "--others-have-seen %d (docs/hospital.md, Backups)."
)


@dataclass(frozen=True, slots=True)
class LogRules:
    """Which log it is, and what this site asks of it.

    `quorum`: how many others have to have cosigned; `required`: whether the policy asks for a log
    at all.
    """

    study: bytes
    coordinator: bytes
    origin: str
    quorum: int
    required: bool

    @classmethod
    def of(cls, rules: SiteRules, roster: Roster) -> LogRules:
        """For the study of `rules`, whose sites are in `roster`."""
        study = rules.study
        key = bytes.fromhex(pooled_settings(study).coordinator_key)
        masks = study.secure_aggregation.colluders
        colluders = max(masks, study.privacy.noise_colluders, rules.policy.max_colluders)
        return cls(
            study=study.digest(),
            coordinator=key,
            origin=log_origin(roster.consortium, key),
            quorum=colluders + 1,
            required=rules.policy.log == "required",
        )


@dataclass(frozen=True, slots=True)
class _Seen:
    """A checkpoint that this site can cosign, and what it learns from it."""

    cosigned: CosignedLog
    newer: dict[bytes, Checkpoint]
    own: int  # records of this site's ledger in it


class SiteLog:
    """The log of one study at one site. Not thread-safe; the caller holds a lock."""

    def __init__(
        self,
        rules: LogRules,
        identity: Identity,
        roster: Roster,
        ledger: Ledger,
        witness: Witness,
        memory: LogMemory,
        clock: Callable[[], float],
    ) -> None:
        self._rules = rules
        self._identity, self._roster = identity, roster
        self._own = roster.site_of(identity.public) or 0
        self._ledger, self._witness, self._memory = ledger, witness, memory
        self._clock = clock
        self._held = 0  # records of the own ledger in the log that was shown last
        self._covered = 0  # records of the own ledger under what this process has cosigned
        self._session = 0  # how long the ledger was when the session's number was in it
        self._head: TreeHead | None = None  # of the step under way
        self._said: Check | None = None

    def session_begun(self, ledger: Checkpoint) -> None:
        """A session's key is about to leave, and the ledger holds its number."""
        self._session = ledger.length

    def see(self, step: SealedStep) -> Callable[[], None]:
        """See `SealedJournal.see_log`."""
        self._head = None
        if not step.log:
            # A coordinator that had a log has one: else it would leave out what it cannot show.
            if self._rules.required or self._memory.last(self._rules.origin) is not None:
                raise self._named(Refused(Check.LOG_MISSING))
            return _nothing
        try:
            news = read_news(step.log, self._rules.origin, self._rules.coordinator)
            seen = self._seen(news)
            self._check_complete(seen)
            self._check_quorum(news, step.cohort)
        except Refused as refused:
            raise self._named(refused) from refused

        def take() -> None:
            self._take(seen)
            self._head = news.head

        return take

    def fields(self) -> LogFields:
        """What goes up with a vector: the records that the log lacks, and the cosignature."""
        if self._head is None:
            return NO_LOG
        return LogFields(head=self._lacking(self._covered), cosignature=self._cosigned(self._head))

    def answer(self, shown: LogShown) -> LogAnswer:
        """To the log as it is shown outside of a step: records, and a cosignature if it can be."""
        rules = self._rules
        signed = verify(rules.coordinator, shown.signature, shown_signed(shown))
        if shown.study_digest != rules.study or not signed:
            raise Refused(Check.SIGNATURE)
        fields, check = NO_LOG, 0
        try:
            news = read_news(shown.log, rules.origin, rules.coordinator)
            seen = self._seen(news)
            self._take(seen)
            fields = LogFields(cosignature=self._cosigned(news.head))
        except Refused as refused:
            check = refused.check
            if refused.check is not Check.LOG_BEHIND:  # that is how the coordinator asks
                self._named(refused)
        if check in (0, Check.LOG_BEHIND):
            fields = LogFields(self._lacking(shown.since), b"", fields.cosignature)
        last = self._memory.last(rules.origin)
        size, root = _NONE if last is None else (last.head.size, last.head.root)
        answer = LogAnswer(size, root, check, fields)
        signature = self._identity.sign(answer_signed(answer, shown, self._identity.public))
        return LogAnswer(size, root, check, fields, signature)

    def _seen(self, news: LogNews) -> _Seen:
        """What follows from `news`; `Refused` where this site cannot cosign it."""
        last, chain = self._memory.last(self._rules.origin), self._ledger.chain()
        row = news.table.rows.get(self._identity.public)
        self._held = 0 if row is None else row.length
        own = check_own_row(row, chain, self._own)
        check_continues(news, None if last is None else last.head)
        before = type(news.table)() if last is None else last.table
        newer = newer_rows(
            news.table, before, self._witness.known(), self._identity.public, self._roster
        )
        return _Seen(CosignedLog(news.head, news.table), newer, own)

    def _check_complete(self, seen: _Seen) -> None:
        """Raise `Refused` unless all of the own ledger is in the log, and the session cosigned."""
        chain = self._ledger.chain()
        if chain.bound is None:  # a ledger that is nobody's has no row; only simulations have one
            if self._rules.required:
                raise Refused(Check.LOG_ABSENT, self._own)
            return
        if seen.own != len(chain) or self._covered < self._session:
            raise Refused(Check.LOG_ABSENT, self._own)

    def _check_quorum(self, news: LogNews, cohort: tuple[int, ...]) -> None:
        """Raise `Refused` unless enough others have cosigned what this site has cosigned last."""
        last, rules = self._memory.last(self._rules.origin), self._rules
        if last is None or last.head.size != news.proofs.old:
            raise Refused(Check.LOG_BEHIND)
        cosigned = cosigned_by(last.head, news.proofs.cosignatures, self._roster)
        if len(cosigned - {self._own}) >= rules.quorum:
            return
        missing = names_without(self._roster, set(cohort) - {self._own}, cosigned)
        _log.warning(
            "The log (%s) is cosigned by %d others, and %d are asked for. Of this step's sites, "
            "these have not: %s.",
            *(last.head, len(cosigned - {self._own}), rules.quorum, missing),
        )
        if rules.required:
            raise Refused(Check.LOG_QUORUM)

    def _take(self, seen: _Seen) -> None:
        """Remember it, on disk, before anybody can have the cosignature."""
        if seen.newer:
            self._witness.keep(seen.newer)
        last = self._memory.last(self._rules.origin)
        if last is None or last != seen.cosigned:
            self._memory.keep(seen.cosigned)
        self._covered = seen.own
        self._said = None

    def _cosigned(self, head: TreeHead) -> bytes:
        return cosign(head, self._identity, int(self._clock())).encode()

    def _lacking(self, since: int) -> bytes:
        """The records from `since` on, as many as a message takes."""
        if self._ledger.chain().bound is None:
            return b""
        try:
            batch = batch_of(self._ledger, since, self._rules.study, MAX_LOG_BYTES)
        except LogError as error:
            _log.error("Records cannot be shown to the log: %s", error)
            return b""
        return b"" if batch is None else batch.encode()

    def _named(self, refused: Refused) -> Refused:
        """Say at the site's own desk what is wrong, once until it is something else."""
        if refused.check is not self._said:
            self._said = refused.check
            _log.error("The consortium's log: %s", explain_check(refused.check))
            if refused.check is Check.LOG_OWN_OLDER:
                _log.error(_NO_NEWER_COPY, self._held, len(self._ledger.chain()), self._held)
        return refused


def _nothing() -> None:
    """Nothing to remember."""
