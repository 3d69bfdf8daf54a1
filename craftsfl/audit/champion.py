"""The adapter that somebody was given as the champion: are its numbers what its run came to?

That it was promoted is `privacy.audit.checks.promotions`' to say. Here its numbers are worked out
again, as those of the adapter in the bundle: from the start that the study fixes and the opened
sums of its run, by the study's optimiser. What cannot be shown is said in words.
"""

# Why: docs/adr/0078-a-failure-or-a-notice.md

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from craftsfl.audit.released import adapter_in, check_own_words
from craftsfl.audit.replay import Replay
from model.layout import Layout
from privacy.audit.evidence import ADAPTER_FILE, Evidence
from privacy.audit.faults import AuditFailure, Flaw, failure
from privacy.audit.promotions import LoggedPromotion
from privacy.errors import AuditError


@dataclass(frozen=True, slots=True)
class GivenChampion:
    """SHA-256 (hex) of the file, and its bytes; None where only the digest was told."""

    digest: str
    data: bytes | None = None

    @classmethod
    def of_file(cls, data: bytes) -> GivenChampion:
        """The champion that was given as a file."""
        return cls(hashlib.sha256(data).hexdigest(), data)


@dataclass(frozen=True, slots=True)
class CheckedChampion:
    """What became of it. `run`: whose numbers it has to hold, 0 where that is not known."""

    digest: str
    run: int
    recomputed: bool
    words: str

    def values(self) -> dict[str, object]:
        """For JSON."""
        return {
            "digest": self.digest,
            "run": self.run or None,
            "recomputed": self.recomputed,
            "words": self.words,
        }


def check_champion(
    evidence: Evidence,
    given: GivenChampion,
    promoted: Sequence[LoggedPromotion],
    layout: Layout | None,
    replays: Mapping[int, Replay],
) -> tuple[CheckedChampion, list[AuditFailure]]:
    """Whether the file holds what the run came to that its newest promotion names."""
    own = [one.run for one in promoted if one.digest == given.digest]
    run = own[-1] if own else 0
    data = evidence.files.get(ADAPTER_FILE, b"") if given.data is None else given.data
    why = _not_shown(evidence, given, run, layout, data, replays)
    if why or layout is None:
        return CheckedChampion(given.digest, run, False, why), []
    try:
        numbers = adapter_in(data, layout).tobytes()
        check_own_words(data, layout, evidence.study, run)
    except AuditError as error:
        return _failed(given, run, error.message)
    chain = replays[run].chain
    if chain is None or numbers != chain.published.astype("<f4", copy=False).tobytes():
        return _failed(given, run, f"It holds other numbers than run {run} came to.")
    words = (
        f"It holds what run {run} came to: the start of the study and {chain.steps} opened sums, "
        f"by {evidence.study.aggregation.strategy}."
    )
    return CheckedChampion(given.digest, run, True, words), []


def _not_shown(
    evidence: Evidence,
    given: GivenChampion,
    run: int,
    layout: Layout | None,
    data: bytes,
    replays: Mapping[int, Replay],
) -> str:
    """Why its numbers cannot be worked out; "" where they can."""
    if not run:
        return "It was never promoted, so that no run is named whose numbers it would hold."
    if given.data is None and hashlib.sha256(data).hexdigest() != given.digest:
        return "Only its digest was told, and it is not in the bundle. Give the file."
    if not evidence.study.pools_noise:
        return "In a study of updates the coordinator keeps no sums from which it would follow."
    if layout is None or run not in replays:
        return f"What its numbers mean, or run {run}, is not in the bundle."
    if replays[run].steps < evidence.study.rounds:
        return f"{replays[run].steps} of the {evidence.study.rounds} steps of run {run} follow."
    return ""


def _failed(
    given: GivenChampion, run: int, words: str
) -> tuple[CheckedChampion, list[AuditFailure]]:
    told = failure(Flaw.ADAPTER, f"The champion that you were given: {words}", run=run)
    return CheckedChampion(given.digest, run, False, words), [told]
