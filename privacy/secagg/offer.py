"""What a site accepts: its policy, and the check of an Offer against it.

The threshold is t = floor(2n/3) + 1 for a cohort of n. With n_c sites that collude with the server
2t > n + n_c has to hold, because then two survivor sets cannot both gather t signatures: each would
need t - n_c honest ones, an honest site signs once, and 2 (t - n_c) > n - n_c. The n here is the
cohort's, not that of the sites that advertised, so the argument also covers a server that shows
different advertisements to two halves.

At least two honest survivors have to be left as well: colluders know what they sent themselves, and
would read a single honest site's update off the sum. So of three sites one may collude, never two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from privacy.errors import SecAggError
from privacy.secagg import transcript
from privacy.secagg.encoding import Encoding
from privacy.secagg.refusals import Refused
from privacy.secagg.roster import Roster
from privacy.wire.checks import Check
from privacy.wire.offer import VERSION, MechanismNumber, Offer, Terms

SMALLEST_COHORT: Final = 3  # of two, each would read the other's vector off the sum
LONGEST_OFFER: Final = 24 * 3600  # seconds


def threshold(sites: int) -> int:
    """t = floor(2n/3) + 1: this many sites can unmask; n - t may drop out."""
    return 2 * sites // 3 + 1


def most_colluders(sites: int) -> int:
    """The largest n_c that a cohort of `sites` withstands: min(2t - n - 1, t - 2)."""
    t = threshold(sites)
    return min(2 * t - sites - 1, t - 2)


def withstood(smallest: int, sites: int) -> int:
    """How many colluders every cohort of `smallest` to `sites` sites withstands."""
    return min(most_colluders(cohort) for cohort in range(smallest, sites + 1))


def most_absent(sites: int) -> int:
    """How many of a study's sites a sum may lack if the policy does not say: few.

    None of three; of more, one in ten, at least one. Up to 19 sites, a coordinator then has n + 1
    cohorts to choose from.
    """
    return 0 if sites <= SMALLEST_COHORT else max(1, sites // 10)


def encoding_of(offer: Offer) -> Encoding:
    """How the updates of the offered attempt are encoded; `SecAggError` if they cannot be."""
    terms, od = offer.terms, transcript.offer_digest(offer)
    return Encoding(terms.dimension, len(offer.cohort), terms.bits, terms.bound, od)


@dataclass(frozen=True, slots=True)
class SecAggPolicy:
    """A site's own rules; nothing in them comes from the server.

    `n_min` is the smallest cohort and the fewest survivors, `n_c` how many sites may collude with
    the server, `longest_offer` for how many seconds an offer may be valid. `difference`: without
    noise, a survivor set that differs from an earlier one by fewer sites is refused, since the
    two sums would reveal theirs (So et al. 2021, Multi-RoundSecAgg, arXiv 2106.03328); with noise
    composition covers that. Raises `SecAggError` for rules under which no round is safe.
    """

    roster_digest: bytes
    terms: Terms
    n_min: int = SMALLEST_COHORT
    n_c: int = 0
    longest_offer: int = LONGEST_OFFER
    difference: int = 2

    def __post_init__(self) -> None:
        if self.n_min < SMALLEST_COHORT or self.n_c < 0:
            raise SecAggError(
                f"n_min = {self.n_min} or n_c = {self.n_c} is too small.",
                f"The smallest cohort is {SMALLEST_COHORT}; n_c is 0 or more.",
            )

    def floor(self, sites: int) -> int:
        """F = max(t, n_min): the fewest survivors of a cohort of `sites`."""
        return max(threshold(sites), self.n_min)


@dataclass(frozen=True, slots=True)
class Expected:
    """The attempt that the site itself has journalled, and what it trains from.

    `newest` is the newest (run, round, attempt) of the study that was journalled before this one.
    """

    run: int
    round: int
    attempt: int
    model_digest: bytes
    newest: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything an offer is compared with: the site's id, roster, policy and attempt."""

    site: int
    roster: Roster
    policy: SecAggPolicy
    expected: Expected

    def check(self, offer: Offer, now: float) -> None:
        """Raise `Refused` with the first check that `offer` fails at `now` (Unix seconds)."""
        self._check_attempt(offer)
        self._check_terms(offer.terms)
        self._check_cohort(offer)
        if not now < offer.expiry <= now + self.policy.longest_offer:
            raise Refused(Check.EXPIRED)

    def _check_attempt(self, offer: Offer) -> None:
        expected = self.expected
        if offer.version != VERSION:
            raise Refused(Check.VERSION)
        attempt = (offer.run, offer.round, offer.attempt)
        if attempt != (expected.run, expected.round, expected.attempt):
            raise Refused(Check.RUN)
        if expected.newest is not None and attempt <= expected.newest:
            raise Refused(Check.NOT_NEWER)
        if offer.roster_digest != self.policy.roster_digest:
            raise Refused(Check.ROSTER)
        if offer.model_digest != expected.model_digest:
            raise Refused(Check.MODEL)

    def _check_terms(self, offered: Terms) -> None:
        own = self.policy.terms
        if offered.recipe_digest != own.recipe_digest:
            raise Refused(Check.RECIPE)
        encoding = (offered.dimension, offered.bits, offered.bound)
        if encoding != (own.dimension, own.bits, own.bound):
            raise Refused(Check.ENCODING)
        if offered != own:
            raise Refused(Check.PRIVACY)

    def _check_cohort(self, offer: Offer) -> None:
        cohort, policy = offer.cohort, self.policy
        strangers = set(cohort) - set(self.roster.sites)
        if strangers:
            raise Refused(Check.COHORT, min(strangers))
        if self.site not in cohort:
            raise Refused(Check.COHORT, self.site)
        if len(cohort) < policy.n_min:
            raise Refused(Check.COHORT_SIZE)
        if offer.threshold != threshold(len(cohort)):
            raise Refused(Check.THRESHOLD)
        if policy.n_c > most_colluders(len(cohort)):
            raise Refused(Check.COLLUDERS)


def survivors_differ_too_little(
    policy: SecAggPolicy, survivors: frozenset[int], earlier: tuple[frozenset[int], ...]
) -> bool:
    """Whether, without noise, two rounds' sums would tell of fewer than `difference` sites.

    Identical sets reveal nothing new.
    """
    if policy.terms.mechanism is not MechanismNumber.PLAIN:
        return False
    return any(0 < len(survivors ^ before) < policy.difference for before in earlier)
