"""The statistics alone, on samples of known mechanisms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from craftsfl.empirical.audit import AUDITED_MECHANISMS, CANARIES, RELEASES, thresholds_at
from craftsfl.empirical.bounds import (
    chance_of,
    exact_interval,
    judged,
    one_run_bound,
)
from craftsfl.empirical.cohort import Audited
from craftsfl.empirical.releases import AuditedSite
from privacy.events import GaussianSteps, Seen

CLAIM = [Seen((GaussianSteps(1.0, 1.0, 1),))]  # mu = 1
THRESHOLDS = [-1.0, -0.4, 0.2, 0.8, 1.4, 2.0]


@pytest.mark.parametrize(("hits", "tries"), [(0, 10), (3, 10), (10, 10), (170, 400)])
def test_an_end_of_the_interval_is_where_the_binomial_says_so(hits: int, tries: int) -> None:
    low, high = exact_interval(hits, tries, 0.01)
    assert low <= hits / tries <= high
    if low:
        assert binom.sf(hits - 1, tries, low) == pytest.approx(0.01)
    if high < 1:
        assert binom.cdf(hits, tries, high) == pytest.approx(0.01)
    assert (low == 0) == (hits == 0)
    assert (high == 1) == (hits == tries)


def scores(signal: float, deviation: float, seed: int, count: int = 576) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [shift + deviation * random.standard_normal(count) for shift in (signal, 0.0)]


def test_a_correct_mechanism_breaks_no_point_of_its_curve() -> None:
    for seed in range(4):
        there, away = scores(1.0, 1.0, seed)
        assert judged(there, away, CLAIM, THRESHOLDS).broken == 0


@pytest.mark.parametrize(("signal", "deviation"), [(1.0, 0.5), (2.0, 1.0), (1.0, 0.0)])
def test_what_is_twice_as_telling_breaks_it(signal: float, deviation: float) -> None:
    for seed in range(2):
        there, away = scores(signal, deviation, seed)
        assert judged(there, away, CLAIM, THRESHOLDS).broken >= 1


def test_every_threshold_accuses_of_presence_above_and_of_absence_below() -> None:
    points = judged(*scores(1.0, 1.0, 0), CLAIM, THRESHOLDS).points
    for above, below in zip(points[::2], points[1::2], strict=True):
        assert (above.above, below.above) == (True, False)
        assert above.threshold == below.threshold
        assert below.fpr == pytest.approx(1 - above.tpr)
        assert below.tpr == pytest.approx(1 - above.fpr)
        assert above.fpr_most > above.fpr
        assert above.tpr_least < above.tpr


def test_few_samples_accuse_nobody() -> None:
    there, away = scores(1.0, 0.5, 1, count=5)
    assert judged(there, away, CLAIM, THRESHOLDS).broken == 0


def naive_chance(canaries: int, made: int, right: int, epsilon: float, delta: float) -> float:
    """The bound as the paper's appendix D computes it."""
    rate = 1 / (1 + math.exp(-epsilon))
    steepest = total = 0.0
    for i in range(1, right + 1):
        total += binom.pmf(right - i, made, rate)
        steepest = max(steepest, total / i)
    return min(1.0, binom.sf(right - 1, made, rate) + steepest * delta * 2 * canaries)


@pytest.mark.parametrize(("made", "right"), [(10, 9), (100, 80), (100, 100), (50, 10)])
@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-2])
def test_the_chance_is_the_papers(made: int, right: int, delta: float) -> None:
    for epsilon in (0.0, 0.5, 2.0):
        wanted = naive_chance(1000, made, right, epsilon, delta)
        assert chance_of(1000, (made, right), epsilon, delta) == pytest.approx(wanted)


@pytest.mark.parametrize("epsilon", [1.0, 4.0])
def test_the_bound_stays_below_an_exact_randomised_response(epsilon: float) -> None:
    """5 % may exceed it, and the ceiling is never passed."""
    bounds = []
    for seed in range(6):
        random = np.random.default_rng(seed)
        present = random.random(1000) < 0.5
        told = present == (random.random(1000) < 1 / (1 + math.exp(-epsilon)))
        found = one_run_bound(told + 0.001 * random.random(1000), present, 0.0)
        assert found.epsilon <= found.ceiling
        bounds.append(found.epsilon)
    assert sum(bound > epsilon for bound in bounds) <= 1
    assert min(bounds) > 0.4 * epsilon


def test_all_guesses_right_reach_the_ceiling_and_no_more() -> None:
    present = np.arange(1000) % 2 == 0
    found = one_run_bound(present.astype(float), present, 1e-5)
    assert found.epsilon == found.ceiling
    assert 5.0 < found.ceiling < 5.8  # of one number of guesses alone, 5.8
    assert found.right == found.guesses


def test_scores_that_tell_nothing_bound_nothing() -> None:
    random = np.random.default_rng(3)
    found = one_run_bound(random.random(1000), random.random(1000) < 0.5, 1e-5)
    assert found.epsilon == 0


@pytest.mark.slow  # 4 s of a core each
@pytest.mark.parametrize("kind", AUDITED_MECHANISMS)
def test_an_audit_has_enough_releases_to_see_half_the_noise(kind: Audited) -> None:
    """Drawn scores in place of a training's: of 60 audits one may miss, as of 20 of the bench."""
    site = AuditedSite.of(kind, CANARIES, 0)
    rate = site.study.training.sampling_rate if kind == "local" else 1.0
    random = np.random.default_rng(7)

    def sees() -> bool:
        scores = RELEASES[kind] * CANARIES
        present = random.random(scores) < 0.5
        entered = present & (random.random(scores) < rate)
        found = entered + random.normal(0, site.share / 2, scores)
        thresholds = thresholds_at(site.share)
        return judged(found[present], found[~present], [site.claim], thresholds).broken > 0

    assert sum(sees() for _ in range(60)) >= 59
