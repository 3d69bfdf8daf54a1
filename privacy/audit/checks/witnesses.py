"""What each site has cosigned at each step: the log that the step's request showed, and no other.

Two sources, each held against the log in the bundle: the cosignature that came with a site's masked
vector, and those of the step before that the coordinator passed on to everybody.
"""

# Why: docs/adr/0065-promotions-and-witnesses.md

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from privacy.audit.evidence import Evidence
from privacy.audit.faults import AuditFailure, Flaw, failure
from privacy.errors import LogError
from privacy.ledger import State
from privacy.log.checkpoints import Cosignature, TreeHead
from privacy.log.news import LogProofs
from privacy.log.replay import LogReplay
from privacy.secagg.roster import Member
from privacy.study.manifest import Study
from privacy.wire.sealed import Sealed

_MOST_SEARCHES: Final = 20  # for what else was signed: each of them verifies many signatures


@dataclass
class ShownLog:
    """What requests showed of the log. `heads`: by their labels; `strange`: the labels of those
    that are no beginning of the log in the bundle; `origin`, `roots`: of that log, by size.
    """

    origin: str = ""
    roots: Mapping[int, bytes] = field(default_factory=dict)
    heads: dict[bytes, TreeHead] = field(default_factory=dict)
    strange: set[bytes] = field(default_factory=set)
    _good: set[tuple[bytes, bytes, str]] = field(default_factory=set)  # what was verified before
    _searches: int = 0

    def check_vector(
        self, sealed: Sealed, member: Member, where: tuple[str, int, int, int]
    ) -> AuditFailure | None:
        """Whether the site has cosigned what its step was under; why not."""
        head = self.heads.get(sealed.label)
        if head is None:
            return None
        if not sealed.cosignature:
            words = "The site was shown the log at this step, and has not cosigned it."
        elif not self.is_cosigned(sealed.cosignature, head, member.public_key):
            words = self._what_else(sealed.cosignature, member.public_key)
        elif sealed.label in self.strange:
            words = f"The site has cosigned two logs: {head} is no beginning of the one here."
        else:
            return None
        return failure(Flaw.LOG_COSIGNATURES, words, *where)

    def is_cosigned(self, data: bytes, head: TreeHead, public: bytes) -> bool:
        """Whether `data` is a cosignature of `head` by the holder of `public`."""
        known = (public, data, head.text)
        if known not in self._good:
            try:
                if not Cosignature.decode(data).is_of(head, public):
                    return False
            except LogError:
                return False
            self._good.add(known)
        return True

    def _what_else(self, data: bytes, public: bytes) -> str:
        self._searches += 1
        heads = dict.fromkeys(self.heads.values()) if self._searches <= _MOST_SEARCHES else ()
        for head in heads:
            if self.is_cosigned(data, head, public):
                return f"The site has cosigned {head}, which it was not shown at this step."
        return "The site's cosignature of the log is of nothing that a request showed."


def log_quorum(study: Study) -> int:
    """How many sites have to have cosigned: more than may lie."""
    return 1 + max(study.secure_aggregation.colluders, study.privacy.noise_colluders)


def check_passed_on(evidence: Evidence, shown: ShownLog) -> Iterator[AuditFailure]:
    """The cosignatures that a request passed on are good, and of a beginning of this log."""
    holders, wrong = _holders(evidence), 0
    for number, run in evidence.runs.items():
        for request in run.requests:
            if wrong >= _MOST_SEARCHES:
                return  # enough is said, and each of them costs a search
            if request.label not in shown.heads:
                continue
            where = (number, request.step, request.attempt)
            try:
                proofs = LogProofs.decode(request.cosignature)
            except LogError as error:
                yield failure(Flaw.LOG_COSIGNATURES, error.message, "", *where)
                continue
            head = TreeHead(shown.origin, proofs.old, shown.roots.get(proofs.old, b""))
            for site, cosignature in proofs.cosignatures.items():
                name, keys = holders.get(site, (str(site), ()))
                data = cosignature.encode()
                if not any(shown.is_cosigned(data, head, key) for key in keys):
                    wrong += 1
                    words = f"What was passed on as its cosignature is not of {head}."
                    yield failure(Flaw.LOG_COSIGNATURES, words, name, *where)


def check_trained_under(
    evidence: Evidence, replay: LogReplay, shown: ShownLog
) -> Iterator[AuditFailure]:
    """A site trains only under a log that has its charges so far, and never under an older one.

    In the order of its own ledger: no clock is asked.
    """
    study = evidence.study.digest()
    for name, chain in sorted(evidence.ledgers.items()):
        largest, before = 0, -1  # entries of a log; the record of the charge before
        for entry in chain.entries:
            if entry.mark is None or entry.key.study != study or entry.state is not State.COMMITTED:
                continue
            head = shown.heads.get(entry.mark.label)
            where = (name, entry.key.run, entry.key.round, entry.key.attempt)
            if head is not None and head.size < largest:
                words = f"It trained under a log of {head.size} entries, after one of {largest}."
                yield failure(Flaw.LOG_COSIGNATURES, words, *where)
            elif head is not None and replay.records_at(chain.ledger, head.size) <= before:
                words = "It trained under a log that lacked its charge of the step before."
                yield failure(Flaw.LOG_COSIGNATURES, words, *where)
            largest = max(largest, 0 if head is None else head.size)
            before = entry.sequence


def few_witnesses(evidence: Evidence, shown: ShownLog) -> Iterator[str]:
    """Runs with steps that began under a log which too few had cosigned, in words."""
    wanted = log_quorum(evidence.study)
    for number, run in evidence.runs.items():
        few = []
        for request in run.requests:
            if request.label in shown.heads:
                try:
                    found = len(LogProofs.decode(request.cosignature).cosignatures)
                except LogError:
                    continue
                few += [request.step] if found < wanted else []
        if few:
            yield (
                f"Run {number}: {len(few)} requests, the first of step {few[0]}, began under a log "
                f"that fewer than {wanted} sites were shown to have cosigned. Policies with "
                '`log = "when-present"` allow that.'
            )


def _holders(evidence: Evidence) -> dict[int, tuple[str, tuple[bytes, ...]]]:
    """The name and all keys of each site by its id, the newest first: keys may be rotated."""
    found: dict[int, tuple[str, tuple[bytes, ...]]] = {}
    keys: dict[int, dict[bytes, None]] = {}
    for signed in reversed(evidence.rosters):
        for member in signed.roster.members:
            own = keys.setdefault(member.site, {})
            if member.public_key not in own:
                own[member.public_key] = None
                found[member.site] = (found.get(member.site, (member.name,))[0], tuple(own))
    return found
