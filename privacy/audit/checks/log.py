"""The consortium's log: every entry follows, its checkpoint is of them, enough sites cosigned it.

And what the bundle says besides is what the log says: rosters, manifest, ledgers, opened sums.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

from privacy.audit.checks.log_facts import check_facts, names_by_id, sums_taken_back
from privacy.audit.checks.membership import identity_of_site
from privacy.audit.checks.witnesses import (
    ShownLog,
    check_passed_on,
    check_trained_under,
    log_quorum,
)
from privacy.audit.evidence import Evidence
from privacy.audit.faults import AuditFailure, Flaw, failure
from privacy.audit.packs import unpacked_rows
from privacy.errors import CraftsflError, LedgerError, LogError
from privacy.ledger import State
from privacy.ledger.anchors import INHERITED_RUN
from privacy.ledger.attempts import charged
from privacy.ledger.chain import Chain
from privacy.log.checkpoints import TreeHead, cosignatures_of, open_checkpoint
from privacy.log.lines import LedgerLine
from privacy.log.merkle import leaf_hash, node_hash, root_over
from privacy.log.news import LogProofs
from privacy.log.notes import SignedNote
from privacy.log.replay import LogReplay
from privacy.wire.sealed import SealedStep

ENTRIES_FILE: Final = "log/entries.bin"
CHECKPOINT_FILE: Final = "log/checkpoint.txt"  # of all entries, signed by the coordinator
COSIGNED_FILE: Final = "log/cosigned.txt"  # the newest that has its quorum
MOST_LOG_ENTRIES: Final = 2_000_000


@dataclass
class LogReport:
    """The log (None: the bundle has none, or an unusable one), what does not hold of it, and what
    the requests showed of it.
    """

    replay: LogReplay | None = None
    failures: list[AuditFailure] = field(default_factory=list)
    shown: ShownLog = field(default_factory=ShownLog)


def check_log(evidence: Evidence) -> LogReport:
    """The log of a bundle, from its first entry."""
    files, pooled = evidence.files, evidence.study.pooled
    parts = (ENTRIES_FILE, CHECKPOINT_FILE, COSIGNED_FILE)
    present = [name for name in parts if name in files]
    if not present:
        return LogReport(failures=list(_left_out(evidence)))
    if len(present) < len(parts) or pooled is None:
        words = f"There is {present[0]}, and not all of the log."
        return LogReport(failures=[failure(Flaw.LOG_CHECKPOINT, words)])
    coordinator = bytes.fromhex(pooled.coordinator_key)
    try:
        entries = unpacked_rows(files[ENTRIES_FILE], MOST_LOG_ENTRIES)
        replay = LogReplay(coordinator)
        for entry in entries:
            replay.take(entry)
    except CraftsflError as error:
        return LogReport(failures=[failure(Flaw.LOG_ENTRY, error.message)])
    failures = list(_checkpoint(evidence, replay, entries, coordinator))
    failures += _cosigned(evidence, replay, entries, coordinator)
    failures += _rosters_and_study(evidence, replay)
    failures += _ledgers(evidence, replay)
    failures += _logged_charges(evidence, replay)
    failures += _taken_over(evidence, replay)
    failures += check_facts(evidence, replay)
    shown = ShownLog(replay.origin)
    failures += _shown(evidence, shown, entries, coordinator)
    failures += check_passed_on(evidence, shown)
    failures += check_trained_under(evidence, replay, shown)
    return LogReport(replay, failures, shown)


def _checkpoint(
    evidence: Evidence, replay: LogReplay, entries: list[bytes], coordinator: bytes
) -> Iterator[AuditFailure]:
    try:
        note = SignedNote.decode(evidence.files[CHECKPOINT_FILE])
        head = open_checkpoint(note, replay.origin, coordinator)
    except CraftsflError as error:
        yield failure(Flaw.LOG_CHECKPOINT, error.message)
        return
    if len(note.lines) != 1:
        words = f"It has {len(note.lines)} signatures, and not the coordinator's alone."
        yield failure(Flaw.LOG_CHECKPOINT, words)
    if head != TreeHead(replay.origin, len(entries), root_over(map(leaf_hash, entries))):
        words = f"It is of {head.size} entries with another root than these {len(entries)} have."
        yield failure(Flaw.LOG_CHECKPOINT, words)


def _cosigned(
    evidence: Evidence, replay: LogReplay, entries: list[bytes], coordinator: bytes
) -> Iterator[AuditFailure]:
    """The newest checkpoint with a quorum is of the beginning of these entries."""
    try:
        note = SignedNote.decode(evidence.files[COSIGNED_FILE])
        head = open_checkpoint(note, replay.origin, coordinator)
        found = cosignatures_of(note, replay.consortium)
    except CraftsflError as error:
        yield failure(Flaw.LOG_COSIGNATURES, error.message)
        return
    if roots_at(entries, {head.size}).get(head.size) != head.root:
        words = f"The sites have cosigned {head}, which is not a beginning of this log."
        yield failure(Flaw.LOG_CHECKPOINT, words)
    if len(note.lines) != 1 + len(found):
        words = "It has more signatures than the coordinator's and one of each site."
        yield failure(Flaw.LOG_COSIGNATURES, words)
    wanted = log_quorum(evidence.study)
    if len(found) < wanted:
        words = f"{len(found)} sites have cosigned the log; it takes {wanted}."
        yield failure(Flaw.LOG_COSIGNATURES, words)


def log_notes(evidence: Evidence, replay: LogReplay) -> Iterator[str]:
    """What the log does not vouch for yet, in words: the newest entries, the newest records."""
    try:
        head = TreeHead.of_text(SignedNote.decode(evidence.files[COSIGNED_FILE]).text)
    except CraftsflError:
        return
    if head.size < replay.size:
        yield (
            f"The newest {replay.size - head.size} of {replay.size} entries of the log were not "
            "cosigned yet: the coordinator alone vouches for them."
        )
    yield from sums_taken_back(evidence, replay)
    for name, chain in sorted(evidence.ledgers.items()):
        identity = identity_of_site(evidence, name)
        line = None if identity is None else replay.line_of(identity)
        ahead = len(chain) - (0 if line is None else len(line))
        if ahead > 0:
            yield f"The newest {ahead} records of {name} are not in the log yet. They are counted."


def _left_out(evidence: Evidence) -> Iterator[AuditFailure]:
    """Where sites were shown a log, a bundle without it hides something."""
    for number, run in evidence.runs.items():
        for request in run.requests:
            if request.log.checkpoint:
                words = "The sites were shown a log, and it is not in the bundle."
                where = ("", number, request.step, request.attempt)
                yield failure(Flaw.LOG_CHECKPOINT, words, *where)
                return


def _shown(
    evidence: Evidence, shown: ShownLog, entries: list[bytes], coordinator: bytes
) -> Iterator[AuditFailure]:
    """Every log that a step was under is a beginning of this one: nobody was shown another."""
    heads: list[tuple[TreeHead, int, SealedStep]] = []
    for number, run in evidence.runs.items():
        for request in run.requests:
            if not request.log.checkpoint:
                continue
            where = ("", number, request.step, request.attempt)
            try:
                note = SignedNote.decode(request.log.checkpoint)
                heads.append((open_checkpoint(note, shown.origin, coordinator), number, request))
            except CraftsflError as error:
                yield failure(Flaw.LOG_CHECKPOINT, error.message, *where)
    passed_on = {_old_size(request) for _, _, request in heads}
    shown.roots = roots_at(entries, {head.size for head, _, _ in heads} | passed_on)
    for head, number, request in heads:
        shown.heads[request.label] = head
        if shown.roots.get(head.size) != head.root:
            shown.strange.add(request.label)
            words = f"Its sites were shown {head}, which is not a beginning of this log."
            where = ("", number, request.step, request.attempt)
            yield failure(Flaw.LOG_CHECKPOINT, words, *where)


def _old_size(request: SealedStep) -> int:
    try:
        return LogProofs.decode(request.cosignature).old
    except LogError:
        return 0  # said where the proofs are read


def roots_at(entries: list[bytes], sizes: Collection[int]) -> dict[int, bytes]:
    """The roots of the first so many entries, for all `sizes` that there are."""
    edge: list[tuple[int, bytes]] = []  # (level, hash) of complete subtrees, the largest first
    found = {}
    for size, entry in enumerate(entries, start=1):
        edge.append((0, leaf_hash(entry)))
        while len(edge) > 1 and edge[-1][0] == edge[-2][0]:
            (level, left), (_, right) = edge[-2:]
            edge[-2:] = [(level + 1, node_hash(left, right))]
        if size in sizes:
            root = edge[-1][1]
            for _, left in reversed(edge[:-1]):
                root = node_hash(left, root)
            found[size] = root
    return found


def _rosters_and_study(evidence: Evidence, replay: LogReplay) -> Iterator[AuditFailure]:
    here = [signed.roster.digest() for signed in evidence.rosters]
    if here != [signed.roster.digest() for signed in replay.rosters]:
        yield failure(Flaw.LOG_RECORD, "The log has other rosters than the bundle.")
    if evidence.study.digest() not in replay.studies:
        yield failure(Flaw.LOG_RECORD, "The manifest is not in the log.")


def _ledgers(evidence: Evidence, replay: LogReplay) -> Iterator[AuditFailure]:
    for name, chain in sorted(evidence.ledgers.items()):
        identity = identity_of_site(evidence, name)
        line = None if identity is None else replay.line_of(identity)
        if line is None or line.head is None:
            yield failure(Flaw.LOG_LEDGER, "No record of this site is in the log.", name)
            continue
        if not _goes_through(chain, line):
            words = f"The log has its record {line.head.sequence}, and the ledger has another."
            yield failure(Flaw.LOG_LEDGER, words, name)


def _logged_charges(evidence: Evidence, replay: LogReplay) -> Iterator[AuditFailure]:
    """Of every step that the log says was opened, it has its sites' charges too."""
    study = evidence.study.digest()
    lines = {
        site.name: replay.line_of(identity)
        for site in evidence.study.sites
        if (identity := identity_of_site(evidence, site.name)) is not None
    }
    charged = {
        name: {
            entry.mark.label
            for entry in (() if line is None else line.entries)
            if entry.mark is not None
            and entry.state is State.COMMITTED
            and entry.key.study == study
        }
        for name, line in lines.items()
    }
    names = names_by_id(evidence)
    for number, run in evidence.runs.items():
        for one in run.sums:
            for site in one.cohort:
                name = names.get(site, "")
                if one.label not in charged.get(name, set()):
                    words = "The log has this step's sum, and not the site's charge for it."
                    where = (name, number, one.step, one.attempt)
                    yield failure(Flaw.LOG_LEDGER, words, *where)


def _taken_over(evidence: Evidence, replay: LogReplay) -> Iterator[AuditFailure]:
    """A ledger that stands for a lost one has all charges of the study that the log has of that."""
    study = evidence.study.digest()
    for name, chain in sorted(evidence.ledgers.items()):
        own = sum(e.key.run == INHERITED_RUN and e.key.study == study for e in chain.entries)
        for bound in chain.bindings:
            line = replay.lines.get(bound.replaced.ledger)
            lost = () if line is None else charged(line.entries)
            spent = sum(charge.study_digest == study for charge in lost)
            if own < spent:
                words = (
                    f"It takes over {own} charges of the study from the ledger that it stands for, "
                    f"and the log has {spent}."
                )
                yield failure(Flaw.LOG_LEDGER, words, name)


def _goes_through(chain: Chain, line: LedgerLine) -> bool:
    """Whether the ledger holds the newest record that the log has of it."""
    if line.head is None or line.ledger != chain.ledger:
        return False
    try:
        return chain.hash_at(line.head.sequence) == line.head.hash
    except LedgerError:
        return False
