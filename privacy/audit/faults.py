"""What can be wrong with a study's evidence: a name for each kind, and where it was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

from privacy.visible import visible

MOST_WORDS: Final = 300  # characters of a failure's text
_MOST_NAMES: Final = 5


class Flaw(StrEnum):
    """All kinds of failure. A name never changes its meaning."""

    # The file.
    NOT_A_BUNDLE = "not-a-bundle"
    NEWER_VERSION = "newer-version"
    FILE_DIGEST = "file-digest"  # a file is not the one that the index names
    FILE_MISSING = "file-missing"
    FILE_UNEXPECTED = "file-unexpected"
    MALFORMED = "malformed"  # a file's contents are not what its name says
    TOO_LARGE = "too-large"
    EMPTY_STUDY = "empty-study"  # nothing in it that could be checked
    # Who takes part, and in what.
    OTHER_CONSORTIUM = "other-consortium"
    ROSTER_SIGNATURES = "roster-signatures"
    ROSTER_PIN = "roster-pin"  # the manifest pins a roster that is not in the history
    MEMBERSHIP = "membership"
    STUDY = "study"
    # A site's ledger.
    LEDGER_MISSING = "ledger-missing"
    LEDGER_DAMAGED = "ledger-damaged"
    LEDGER_IDENTITY = "ledger-identity"  # not bound to the identity that the roster lists
    LEDGER_OLDER = "ledger-older"  # others have seen a state that it does not hold
    GENERATOR = "generator"  # trained although its generator of noise had failed its trial
    STATEMENT = "statement"  # the site's word on its budget is missing, or not signed by it
    # What it cost.
    EVENT = "event"  # charged as something that is not the study's mechanism
    SCHEDULE = "schedule"  # more attempts than the manifest allows
    EPSILON = "epsilon"  # claimed below what the events give
    BUDGET = "budget"  # beyond what the site allows
    # Steps.
    REQUEST = "request"  # a step's request is not the coordinator's, or not of this study
    SESSION = "session"
    LABEL = "label"  # a step's label does not follow from what it is about
    NOT_CHARGED = "not-charged"  # a site is in a sum for which its ledger has no charge
    NOT_ASKED = "not-asked"  # a ledger has a charge that no request of the coordinator explains
    VECTOR_MISSING = "vector-missing"
    VECTOR_SIGNATURE = "vector-signature"
    VECTOR_OTHER = "vector-other"  # not the one whose digest is in the site's ledger
    SUM = "sum"  # not the sum of the vectors
    QUORUM = "quorum"
    # The adapter.
    STEP_MISSING = "step-missing"
    CHAIN = "chain"  # a step began from another adapter than the sums before it give
    ADAPTER = "adapter"  # what was released does not follow
    CLOSING = "closing"  # the coordinator's last word, or a site's to it, does not hold
    RECORD = "record"  # the round records contradict the evidence
    # The log.
    LOG_ENTRY = "log-entry"
    LOG_CHECKPOINT = "log-checkpoint"
    LOG_COSIGNATURES = "log-cosignatures"
    LOG_LEDGER = "log-ledger"  # a site's ledger is not in the log as it is here
    LOG_RECORD = "log-record"
    # After the study.
    PROMOTION = "promotion"  # an adapter was made champion otherwise than the log says
    SIGNOFF = "signoff"  # on fewer auditors' signatures than the manifest asks for, or forged ones
    READERS = "readers"  # on other readers' results than the manifest demands, or forged ones


@dataclass(frozen=True, slots=True)
class AuditFailure:
    """One thing that does not hold. 0 and "" where it is of no run, step or site."""

    fault: Flaw
    words: str
    site: str = ""
    run: int = 0
    step: int = 0
    attempt: int = 0

    def __str__(self) -> str:
        place = [self.site] if self.site else []
        place += [f"run {self.run}"] if self.run else []
        place += [f"step {self.step}"] if self.step else []
        place += [f"attempt {self.attempt}"] if self.attempt else []
        where = f" ({', '.join(place)})" if place else ""
        return f"{self.fault}{where}: {self.words}"

    def values(self) -> dict[str, object]:
        """For JSON."""
        return {**asdict(self), "fault": self.fault.value}


def failure(
    fault: Flaw, words: str, site: str = "", run: int = 0, step: int = 0, attempt: int = 0
) -> AuditFailure:
    """A failure whose words and names are safe to print, however a hostile bundle chose them."""
    shown = visible(words, most=MOST_WORDS), visible(site, most=40)
    return AuditFailure(fault, *shown, run, step, attempt)


def listed_names(names: Sequence[str]) -> str:
    """Names for people: the first few, and how many more there are."""
    shown = ", ".join(visible(name, most=40) for name in names[:_MOST_NAMES])
    more = len(names) - _MOST_NAMES
    return f"{shown} and {more} more" if more > 0 else shown
