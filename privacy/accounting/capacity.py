"""How many patients a step has room for, and what it costs that a draw may be larger.

The memory and shapes of a step must not reveal how many patients were drawn. So a step has a fixed
capacity K, from public numbers alone, and a larger draw loses patients by a rule that does not
look at data: those who come last in a secret random order of the drawn, fresh for each step.

Lemma. Let x be a person with m records (1 if the site knows the person under one id) among the
at most N that a site holds, q the sampling rate, and A the event that in no step K - m + 1 or
more of the records of others are drawn. A step adds to the noise the clipped gradients of those
who were drawn and not dropped.

1. x zeroed out, its records kept in the draw: the same records are drawn and dropped with x's
   data and without, for neither draw nor order looks at data. The sums differ by x's own
   contribution, and nothing has to be added to delta, however many records there are.
2. x absent: the adjacent run draws the others as before. A depends on the draws of others alone,
   so it is independent of whether x is drawn, of all data and of all that was seen before; and
   within A nobody is dropped with x or without. Given A and given who else is drawn, a step is
   therefore the very Poisson-subsampled Gaussian that is accounted for (x enters with q and
   shifts the sum by at most C), and so is their composition. With (epsilon, d) for that, for
   every set E of outputs,

       P[M in E] <= P[A] (e^epsilon P[M' in E | A] + d) + P[not A]
                 <= e^epsilon P[M' in E] + d + P[not A],

   and likewise with M and M' exchanged. So P[not A] is added to delta, once, and no factor of
   e^epsilon with it. By the union bound P[not A] <= steps P[Binomial(N - m, q) >= K - m + 1].
   (That a draw as a whole exceeds K is a little rarer: P[Binomial(N, q) > K]. It would not do:
   with K others drawn it is x who pushes somebody out.)
3. x absent, and more than N records at the site, against what was declared: whoever x pushes out
   depends on draw and order alone, so that given these the sum shifts by at most 2 C, with
   probability at most q. The claim is then that of half the noise multiplier, at the same delta.

`reserved` is the share of a study's delta that every epsilon leaves for P[not A];
`public_capacity` is the least capacity that needs no more. Direction of the error: probabilities
are never understated.
"""

# Why: docs/adr/0017-what-epsilon-covers.md

from __future__ import annotations

import math
import sys
from typing import Final

from privacy.accounting.bounds import check_probability
from privacy.errors import AccountingError
from privacy.events import MIN_SAMPLING_RATE

# Share of a study's delta that is kept for overflows; it raises epsilon by 1e-4 or so.
OVERFLOW_SHARE: Final = 1e-3
# A site may hold up to this many times its declared patients; it draws from those it has.
DECLARED_FACTOR: Final = 2
# Records of one person at one site that the reserve covers: the most that are explained.
MOST_RECORDS: Final = 3


def reserved(delta: float) -> float:
    """The part of `delta` kept for steps that draw more patients than they have room for."""
    return OVERFLOW_SHARE * delta


def public_capacity(declared_patients: int, sampling_rate: float, steps: int, delta: float) -> int:
    """Patients that a step at a site with `declared_patients` has room for.

    From public numbers: the study's rate, its `steps` over all rounds and attempts, its delta,
    and twice the declared number of patients, which is what a site may hold. The probability that
    more are drawn at any time during the study is at most `reserved(delta)`, for anybody with up
    to three ids. Raises `AccountingError` for a delta outside [1e-12, 1).
    """
    check_probability(delta)
    return capacity_for(
        DECLARED_FACTOR * declared_patients,
        sampling_rate,
        steps,
        reserved(delta),
        records=MOST_RECORDS,
    )


def overflow_probability(
    patients: int, sampling_rate: float, capacity: int, steps: int, *, records: int = 1
) -> float:
    """Bound on P[not A] of the lemma: what a step's `capacity` adds to delta over `steps` steps.

    Among `patients`, each drawn with `sampling_rate`; for a person with `records` of them.
    Direction of the error: upwards. Exactly 0.0 only if it cannot happen. Raises
    `AccountingError` for figures that make no draw.
    """
    _check(patients, sampling_rate, steps, records)
    if type(capacity) is not int or capacity < 1:
        raise AccountingError(f"The capacity is {capacity!r}; it must be 1 or more.")
    log = _log_overflow(patients, sampling_rate, capacity, steps, records)
    # exp underflows long before the probability is nothing
    return 0.0 if log == -math.inf else min(1.0, max(math.exp(log), sys.float_info.min))


def capacity_for(
    patients: int, sampling_rate: float, steps: int, probability: float, *, records: int = 1
) -> int:
    """The least capacity, at most `patients`, with an overflow probability up to `probability`.

    With room for everybody nothing overflows, so there is always one: `patients` itself for a rate
    of 1 or a probability of 0. Raises `AccountingError` as `overflow_probability`.
    """
    _check(patients, sampling_rate, steps, records)
    if not (isinstance(probability, (int, float)) and 0 <= probability < 1):
        raise AccountingError(f"The overflow probability is {probability!r}; use 0 to below 1.")
    allowed = math.log(probability) if probability else -math.inf
    too_small, enough = 0, patients
    while enough - too_small > 1:
        middle = (too_small + enough) // 2
        if _log_overflow(patients, sampling_rate, middle, steps, records) <= allowed:
            enough = middle
        else:
            too_small = middle
    return enough


def _log_overflow(patients: int, rate: float, capacity: int, steps: int, records: int) -> float:
    # The lemma's event: among the N - m others, K - m + 1 or more are drawn in some step.
    own = min(records, patients)
    tail = _log_tail(patients - own, rate, capacity - own + 1)
    return min(0.0, tail + math.log(steps))


def _log_tail(trials: int, rate: float, least: int) -> float:
    """Upper bound of ln P[Binomial(trials, rate) >= least], in logarithms: nothing underflows.

    Beyond the mean each term is smaller than the one before by at least the ratio of the first
    two, so the terms sum to at most those of a geometric series.
    """
    if least > trials:
        return -math.inf
    if least <= trials * rate or rate == 1:
        return 0.0
    rest = trials - least
    parts = (
        math.lgamma(trials + 1),
        -math.lgamma(least + 1),
        -math.lgamma(rest + 1),
        least * math.log(rate),
        rest * math.log1p(-rate),
    )
    # lgamma is right to a few last places of its value; the differences of large ones are not.
    rounding = 16 * sys.float_info.epsilon * math.fsum(map(abs, parts))
    # P[k + 1] / P[k] at k = least; the ratio falls with k, so 1 / (1 - ratio) bounds the series.
    ratio = rest * rate / ((least + 1) * (1 - rate))
    if ratio >= 1 - 1e-9:
        return 0.0
    return min(0.0, math.fsum(parts) + rounding - math.log1p(-ratio) + 1e-9)


def _check(patients: int, rate: float, steps: int, records: int) -> None:
    for name, value in (("patients", patients), ("steps", steps), ("records", records)):
        if type(value) is not int or value < 1:
            raise AccountingError(f"{name} is {value!r}; it must be a whole number from 1.")
    real = isinstance(rate, (int, float)) and not isinstance(rate, bool)
    if not (real and MIN_SAMPLING_RATE <= rate <= 1):
        raise AccountingError(f"The sampling rate is {rate!r}; use {MIN_SAMPLING_RATE:g} to 1.")
