"""What each site has cosigned at each step: the log that the step's request showed, and no other.

Two sources, each held against the log in the bundle: the cosignature that came with a site's masked
vector, and those of the step before that the coordinator passed on to everybody.
"""

# Why: docs/adr/0065-promotions-and-witnesses.md

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from privacy.audit.evidence import Evidence
from privacy.audit.faults import AuditFailure, Flaw, failure
from privacy.errors import LogError
from privacy.log.checkpoints import Cosignature, TreeHead
from privacy.log.news import LogProofs
from privacy.secagg.roster import Member, Roster
from privacy.study.manifest import Study
from privacy.wire.sealed import Sealed


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
        for head in dict.fromkeys(self.heads.values()):
            if self.is_cosigned(data, head, public):
                return f"The site has cosigned {head}, which it was not shown at this step."
        return "The site's cosignature of the log is of nothing that a request showed."


def log_quorum(study: Study) -> int:
    """How many sites have to have cosigned: more than may lie."""
    return 1 + max(study.secure_aggregation.colluders, study.privacy.noise_colluders)


def check_passed_on(evidence: Evidence, shown: ShownLog) -> Iterator[AuditFailure]:
    """The cosignatures that a request passed on are good, and of a beginning of this log."""
    rosters = [signed.roster for signed in evidence.rosters]
    for number, run in evidence.runs.items():
        for request in run.requests:
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
                members = _members(rosters, site)
                data = cosignature.encode()
                if not any(shown.is_cosigned(data, head, one.public_key) for one in members):
                    name = members[0].name if members else str(site)
                    words = f"What was passed on as its cosignature is not of {head}."
                    yield failure(Flaw.LOG_COSIGNATURES, words, name, *where)


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


def _members(rosters: list[Roster], site: int) -> list[Member]:
    """Whoever had this id, the newest first: keys may have been rotated."""
    found = (roster.member(site) for roster in reversed(rosters))
    return [member for member in found if member is not None]
