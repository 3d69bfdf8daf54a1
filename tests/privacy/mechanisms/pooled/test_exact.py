"""What is charged against the exact privacy of pooled steps, with errors planted.

In one and two dimensions everything that a step shows can be tabulated. No lemma is used there, and
the centres are those that the sites' own code makes of real sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from privacy.accounting import Observer, epsilon, epsilon_for
from privacy.accounting.gaussian import gaussian_epsilon
from privacy.events import Event
from privacy.mechanisms.pooled import PooledTerms

from .exact import CLIP, Pair, Table, aligned, exact_epsilon, share, step, summed

DELTA = 1e-5
LEFT = DELTA * (1 - 1e-3)  # every figure leaves a thousandth for draws that are too large

# n, n_min, n_c, sigma, s, T, numbers
SETTINGS = [
    (3, 3, 1, 4.65, 8.0, 40, 1),
    (3, 3, 1, 4.65, 8.0, 40, 2),
    (3, 3, 0, 4.65, 8.0, 40, 2),
    (3, 3, 1, 2.0, 4.0, 3, 2),
    (3, 3, 1, 9.0, 4.0, 50, 1),
    (3, 3, 1, 0.9, 16.0, 1, 2),
    (4, 3, 1, 3.0, 8.0, 12, 2),
    (5, 4, 2, 1.2, 16.0, 2, 1),
    (6, 4, 2, 5.0, 8.0, 30, 2),
    (12, 9, 1, 4.0, 8.0, 40, 2),
    (12, 9, 7, 4.0, 8.0, 40, 1),
    (12, 12, 10, 6.0, 8.0, 60, 2),
    (20, 15, 4, 7.0, 4.0, 60, 1),
    (50, 40, 16, 4.24, 8.0, 50, 2),
]
GAPS = {4.0: 0.04, 8.0: 0.01, 16.0: 0.003}  # of epsilon, at the most


def terms_of(setting: tuple[int, int, int, float, float, int, int]) -> PooledTerms:
    n, n_min, n_c, sigma, grid, steps, numbers = setting
    return PooledTerms(n, n_min, n_c, sigma, 1e-3, numbers, steps, 2, 160 * n, grid)


def sums(terms: PooledTerms, seed: int) -> NDArray[np.int64]:
    """What the other patients of each site add up to: anything."""
    rng = np.random.default_rng(seed)
    return rng.integers(-40 * CLIP, 40 * CLIP, (terms.sites, terms.parameters))


def longest(terms: PooledTerms, seed: int = 0, norm: float = 1.0) -> NDArray[np.int64]:
    """A patient whose vector has this norm over C, in some direction, truncated towards zero."""
    direction = np.random.default_rng(seed).normal(size=terms.parameters)
    return (direction / np.linalg.norm(direction) * CLIP * norm).astype(np.int64)


def known_to(observer: Observer, terms: PooledTerms, cohort: int) -> int:
    """How many shares the observer can subtract."""
    known = {
        Observer.SITE: 1,
        Observer.COALITION: terms.noise_colluders,
        Observer.MASKS_BROKEN: cohort - 1,
    }
    return known.get(observer, 0)


def seen(
    terms: PooledTerms,
    observer: Observer = Observer.COALITION,
    *,
    cohort: int | None = None,
    norm: float = 1.0,
    deviations: Sequence[float] | None = None,
    seed: int = 0,
) -> list[Pair]:
    """One step's pairs, as the observer sees it; the largest cohort unless it is given."""
    size = terms.sites if cohort is None else cohort
    known = known_to(observer, terms, size)
    patient = longest(terms, seed, norm)
    return step(terms, size, sums(terms, seed), patient, known=known, deviations=deviations)


def over(pairs: Sequence[Pair], times: int) -> list[tuple[Pair, int]]:
    return [(pair, times) for pair in pairs]


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_is_charged_is_never_below_the_truth_and_close_to_it(
    setting: tuple[int, int, int, float, float, int, int],
) -> None:
    terms = terms_of(setting)
    charged = epsilon_for(Observer.COALITION, [terms.event] * terms.steps, DELTA)
    truth = exact_epsilon(over(seen(terms), terms.steps), LEFT)
    assert truth <= charged <= truth * (1 + GAPS[terms.grid])
    continuous = gaussian_epsilon(math.sqrt(terms.steps) / terms.noise_multiplier, LEFT)
    assert continuous <= charged <= continuous * (1 + GAPS[terms.grid])
    assert truth == pytest.approx(continuous, rel=1e-3)


@pytest.mark.parametrize("observer", Observer)
@pytest.mark.parametrize("setting", SETTINGS[5:8])
def test_it_holds_for_every_observer_cohort_and_patient(
    setting: tuple[int, int, int, float, float, int, int], observer: Observer
) -> None:
    terms = terms_of(setting)
    charged = epsilon_for(observer, [terms.event] * terms.steps, DELTA)
    for cohort in range(terms.smallest_cohort, terms.sites + 1):
        for seed, norm in ((1, 1.0), (2, 0.7)):
            pairs = seen(terms, observer, cohort=cohort, seed=seed, norm=norm)
            assert exact_epsilon(over(pairs, terms.steps), LEFT) <= charged


def test_the_largest_gap_at_the_usual_grid() -> None:
    """Where most parameters meet fewest sites; the table of docs/privacy-accounting.md."""
    terms = PooledTerms(3, 3, 1, 4.24, 1e-3, 400_000, 50, 0, 1500)
    charged = epsilon_for(Observer.COALITION, [terms.event] * 50, DELTA)
    continuous = gaussian_epsilon(math.sqrt(50) / 4.24, LEFT)
    assert continuous < charged <= 1.01 * continuous


def test_a_retry_is_one_more_event_in_whichever_cohort() -> None:
    """The same gradients again with fresh noise, once with one site less."""
    terms = terms_of((5, 3, 1, 3.0, 8.0, 6, 2))
    whole, fewer = seen(terms), seen(terms, cohort=4)
    pairs = [*over(whole, terms.steps - 1), *over(whole, 1), *over(fewer, 1)]
    truth = exact_epsilon(pairs, LEFT)
    assert truth <= epsilon([terms.event] * (terms.steps + 1), DELTA) <= 1.01 * truth
    assert truth > epsilon([terms.event] * terms.steps, DELTA)  # uncharged, it is refuted


PLANTED = terms_of((4, 3, 1, 3.0, 8.0, 12, 2))


def charged_for(terms: PooledTerms = PLANTED) -> float:
    return epsilon([terms.event] * terms.steps, DELTA)


def truth_of(pairs: list[Pair], terms: PooledTerms = PLANTED) -> float:
    return exact_epsilon(over(pairs, terms.steps), LEFT)


@pytest.mark.parametrize("cohort", [3, 4])
def test_without_an_error_nothing_is_refuted(cohort: int) -> None:
    assert truth_of(seen(PLANTED, cohort=cohort)) <= charged_for()


def test_a_clip_that_was_left_out_is_refuted() -> None:
    assert truth_of(seen(PLANTED, norm=1.05)) > 1.03 * charged_for()


def test_a_share_of_the_wrong_cohort_is_refuted() -> None:
    """Three sites are there, and each adds what it would if all four were."""
    wrong = [PLANTED.deviation(4) / 2**16] * 3
    assert truth_of(seen(PLANTED, cohort=3, deviations=wrong)) > 1.15 * charged_for()


def test_a_share_that_was_sized_for_all_sites_is_refuted() -> None:
    """Divided by the root of n where n - n_c is right: colluders then subtract too much."""
    right = PLANTED.deviation(4) / 2**16
    wrong = [right * math.sqrt((4 - 1) / 4)] * 4
    assert truth_of(seen(PLANTED, deviations=wrong)) > 1.1 * charged_for()


def test_one_site_that_counts_on_fewer_colluders_is_refuted() -> None:
    right = PLANTED.deviation(4) / 2**16
    unequal = [right * math.sqrt((4 - 1) / 4), right, right, right]
    assert truth_of(seen(PLANTED, deviations=unequal)) > 1.03 * charged_for()


def test_an_uncounted_step_is_refuted() -> None:
    truth = exact_epsilon(over(seen(PLANTED), PLANTED.steps + 1), LEFT)
    assert truth > 1.03 * charged_for()


def test_telling_whose_number_left_its_field_is_refuted() -> None:
    """A sum's tags are of whole integers (docs/adr/0081): of reduced ones they would show this too.

    A site whose other patients bring one number to the edge of its b bits, in a sum that fits.
    """
    terms = replace(PLANTED, parameters=1536)
    own, edge = terms.deviation(4) / 2**16, 1 << (terms.bits - 1)
    clip = terms.centre_scale / 2**terms.centre_bits
    rest = summed([0.0, -edge], [own, own])  # of the honest others

    def told(centre: float) -> list[Table]:
        site = share(centre, own)
        inside = edge - site.first
        parts = Table(site.first, site.chances[:inside]), Table(edge, site.chances[inside:])
        return [part.plus(rest) for part in parts]

    without, moved = told(edge + clip / 4), told(edge + 5 * clip / 4)
    ways = [aligned(*both) for both in zip(moved, without, strict=True)]
    seen_too = tuple(np.concatenate(row) for row in zip(*ways, strict=True))
    alone = aligned(
        *(summed([c, 0, -edge], [own] * 3) for c in (edge + 5 * clip / 4, edge + clip / 4))
    )
    assert truth_of([alone], terms) <= charged_for(terms)
    assert truth_of([(seen_too[0], seen_too[1])], terms) > 1.2 * charged_for(terms)


# A draw at q < 1, at a site alone.
ALONE = PooledTerms(1, 1, 0, 1.2, 1e-3, 1, 2, 0, 100, 16.0)
RATE = 0.3
DRAWN: Event = replace(ALONE.event, sampling_rate=RATE)


def with_and_without() -> Pair:
    (pair,) = step(ALONE, 1, sums(ALONE, 3), longest(ALONE), known=0)
    return pair


def mixed(after: NDArray[np.float64], before: NDArray[np.float64]) -> NDArray[np.float64]:
    return RATE * after + (1 - RATE) * before


def test_a_fresh_draw_for_each_attempt_is_what_is_charged() -> None:
    after, before = with_and_without()
    truth = exact_epsilon([((mixed(after, before), before), 2)], LEFT)
    assert truth <= epsilon([DRAWN, DRAWN], DELTA) <= 1.01 * truth


def test_a_draw_that_was_kept_for_the_retry_is_refuted() -> None:
    after, before = with_and_without()
    twice = tuple(np.outer(one, one).ravel() for one in (after, before))
    truth = exact_epsilon([((mixed(*twice), twice[1]), 1)], LEFT)
    assert truth > 1.2 * epsilon([DRAWN, DRAWN], DELTA)


def test_the_tables_are_what_the_oracle_says() -> None:
    """An oracle of the oracle: a sum of two shares against their continuous density."""
    table = share(0.3, 4.0).plus(share(-1.7, 3.0))
    places = table.first + np.arange(len(table.chances))
    density = np.exp(-((places + 1.4) ** 2) / 50) / math.sqrt(50 * math.pi)
    near = density > 1e-12
    assert table.chances[near] == pytest.approx(density[near], rel=1e-9)
    assert sum(aligned(table, share(0.0, 2.0))[0]) == pytest.approx(1.0, abs=1e-12)
