"""Terms of pooled noise in integers, their event, and the least noise for a budget."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.accounting import Observer, epsilon, epsilon_for, worst_of
from privacy.discrete_gaussian.tables import threshold_table
from privacy.errors import AccountingError
from privacy.events import ALWAYS_CHARGED, Event, Seen
from privacy.ledger import Charge
from privacy.mechanisms.base import PublicTerms
from privacy.mechanisms.pooled import PooledGaussian, PooledTerms
from privacy.mechanisms.pooled.calibration import calibrated
from privacy.mechanisms.pooled.grid import PooledGrid
from privacy.mechanisms.pooled.hadamard import unturned
from privacy.mechanisms.pooled.lemma import (
    NoiseTerms,
    deviation_of_mass,
    nearby_step,
    rounding_width,
    shares_factor,
)
from privacy.mechanisms.pooled.mechanism import PooledNoise
from privacy.mechanisms.pooled.share import centres_of
from privacy.mechanisms.registry import event_from_json, mechanism_named
from tests.privacy.discrete_gaussian.exact import cells, row

TERMS = PooledTerms(3, 3, 1, 4.65, 0.0005, 1536, 40, 2, 480)
TEXT = (
    '{"clipping_norm":0.0005,"cohort":3,"event":"pooled-gaussian","grid":8.0,'
    '"neighbouring":"zero-out","noise_colluders":1,"noise_multiplier":4.65,"parameters":1536,'
    '"sampling_rate":1.0,"smallest_cohort":3,"steps":1,"unit":"patient","version":1}'
)


def test_json_is_canonical_and_pinned() -> None:
    assert TERMS.event.to_json() == TEXT
    assert event_from_json(TEXT) == TERMS.event
    Charge(bytes(32), TERMS.event, 1e-5)  # a ledger takes it


def test_known_integers() -> None:
    """What every site and the coordinator have to find alike, on any processor."""
    assert (TERMS.centre_bits, TERMS.centre_scale, TERMS.deviation(3)) == (16, 159452, 524286)
    large = PooledTerms(12, 9, 2, 3.9, 0.0005, 400_000, 60, 3, 2400)
    assert (large.centre_bits, large.centre_scale) == (24, 108829159)
    assert [large.deviation(k) for k in (9, 12)] == [626645, 524288]


TERM_SETS = st.builds(
    lambda n, missing, known, sigma, parameters, grid: PooledTerms(
        n,
        max(3, n - missing),
        min(known, max(3, n - missing) - 2),
        sigma,
        1e-3,
        parameters,
        40,
        2,
        100 * n,
        grid,
    ),
    st.integers(3, 60),
    st.integers(0, 5),
    st.integers(0, 20),
    st.floats(0.5, 50.0),
    st.integers(1, 10**6),
    st.floats(4.0, 32.0),
)


@settings(max_examples=60, deadline=None)
@given(TERM_SETS)
def test_a_coalition_never_faces_less_than_sigma(terms: PooledTerms) -> None:
    clip = Fraction(terms.centre_scale, 2**terms.centre_bits)
    wanted = (Fraction(terms.noise_multiplier) * clip) ** 2
    for cohort in range(terms.smallest_cohort, terms.sites + 1):
        own, hidden = terms.deviation(cohort), cohort - terms.noise_colluders
        assert Fraction(own**2 * hidden, 2**32) >= wanted
        assert Fraction((own - 1) ** 2 * hidden, 2**32) < wanted  # and no more than it takes
    assert terms.deviation(terms.sites) / 2**16 <= terms.grid + 2**-16
    rounded = math.sqrt(2 * terms.parameters) / 2**terms.centre_bits
    assert rounded <= 1e-3 * float(clip) or terms.centre_bits == 24


@settings(max_examples=60, deadline=None)
@given(TERM_SETS)
def test_who_knows_more_of_the_noise_is_charged_more(terms: PooledTerms) -> None:
    seen = {observer: terms.event.seen_by(observer).charged[0] for observer in Observer}
    noise = {observer: step.noise_multiplier for observer, step in seen.items()}
    assert noise[Observer.MASKS_BROKEN] <= min(noise[o] for o in ALWAYS_CHARGED)
    assert noise[Observer.COALITION] <= terms.noise_multiplier
    assert noise[Observer.SERVER] == noise[Observer.PUBLIC] >= noise[Observer.SITE]
    worst = min(seen[o] for o in ALWAYS_CHARGED)
    assert terms.event.charged == (worst,)
    for step in seen.values():  # one share alone, and sums of shares
        assert 0 < step.factor < 1.2e-6
        assert (step.distance > 0) != (step.beyond > 0)


def test_every_term_of_k() -> None:
    s = 0.6  # so small that all of them show
    t = 2 * sum(math.exp(-2 * math.pi**2 * s * s * j * j) for j in range(1, 20))
    assert t <= deviation_of_mass(s) <= t * (1 + 1e-6)

    def ell(width: float) -> float:
        return -math.log1p(-deviation_of_mass(width))

    wanted = ell(s * math.sqrt(1 / 2)) + ell(s * math.sqrt(2 / 3)) + 3 * ell(s)
    assert shares_factor(s, 3) == pytest.approx(wanted, rel=1e-12)
    many = math.fsum(ell(s * math.sqrt(j / (j + 1))) for j in range(1, 200)) + 200 * ell(s)
    assert many <= shares_factor(s, 200) <= 1.02 * many
    # The event's own: rounding, the shares', and two factors for each share's lower look-up.
    step = nearby_step(NoiseTerms(4.65, 8.0, 1536, 3, 3, 1), Observer.COALITION)
    numbers, own = 2 * 1536, TERMS.deviation(3) / 2**16
    low = ell(1.5) + ell(1.5 * own / math.hypot(own, 1.5 / 256))
    parts = ell(rounding_width(numbers)) + shares_factor(own, 2) + 2 * low
    assert step.factor == pytest.approx(numbers * parts, rel=1e-8)
    assert step.distance == numbers * 2 * 2 * 2.0**-100
    variance = 2 * own**2 - rounding_width(numbers) ** 2
    clip = (TERMS.centre_scale + 1.001 * math.sqrt(numbers)) / 2**16
    assert step.noise_multiplier == pytest.approx(math.sqrt(variance) / clip, rel=1e-8)


def test_what_a_single_share_is_charged_for_its_tables() -> None:
    """Every entry within reach is as near to the true probability as is said, and no more lies
    beyond: of the table itself, in rational numbers.
    """
    deviation, s, reach = 8 * 65536, 8.0, 9
    table = threshold_table(deviation)
    smallest = Fraction(math.exp(-((reach + 0.1 / s) ** 2) / 2) / (2.6 * s))
    most = Fraction(0)
    for centre in (0, 77, 255):
        true = row(deviation, centre)
        total, beyond = sum(true.values()), Fraction(0)
        made = dict(cells(table.thresholds[centre], table.first))
        for z, weight in true.items():
            if abs(z - centre / 256) > reach * s:
                beyond += Fraction(made.get(z, 0), 1 << 128)
                continue
            off = abs(Fraction(made[z], 1 << 128) / Fraction(weight, total) - 1)
            assert off <= 2 * Fraction(2) ** -128 / smallest
        most = max(most, beyond)
    # Of integers more may lie there than of a continuous Gaussian.
    continuous, bound = (math.erfc(a / math.sqrt(2)) for a in (reach, reach - 0.5 / s))
    assert continuous < most <= bound


def test_who_sees_one_share_has_a_figure_however_large() -> None:
    """Design figures of masks broken: 12.3 (3 sites), 38 (12), about 117 (50)."""
    for sites, figure in ((3, 12.3), (12, 38.6), (50, 118.7)):
        terms = replace(TERMS, sites=sites, smallest_cohort=sites, patients=160 * sites)
        whole = [calibrated(terms, 8.0, 1e-5).event] * 42
        assert epsilon_for(Observer.MASKS_BROKEN, whole, 1e-5) == pytest.approx(figure, rel=0.01)


def test_more_parameters_cost_a_little_more() -> None:
    figures = [
        epsilon([replace(TERMS, parameters=size).event] * 40, 1e-5)
        for size in (1, 1536, 10**5, 10**7)
    ]
    assert figures == sorted(figures)
    assert figures[-1] < 1.01 * figures[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sampling_rate", 0.5),
        ("noise_multiplier", 0.001),
        ("noise_multiplier", math.nan),
        ("clipping_norm", 0.0),
        ("steps", 0),
        ("parameters", 0),
        ("parameters", True),
        ("grid", 3.9),
        ("grid", 5000.0),
        ("grid", math.inf),
        ("cohort", 0),
        ("cohort", 3.0),
        ("smallest_cohort", 1),
        ("smallest_cohort", 4),
        ("noise_colluders", 2),
        ("noise_colluders", -1),
        ("unit", "tile"),
        ("neighbouring", "add-or-remove"),
    ],
)
def test_bad_figures_are_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(AccountingError, match=key):
        PooledGaussian(**{**{k: getattr(TERMS.event, k) for k in GOOD}, key: value})


GOOD = [key for key in json.loads(TEXT) if key not in ("event", "version")]


@pytest.mark.parametrize("change", [{"version": 2}, {"extra": 1}, {"grid": "8"}, {"cohort": 3.0}])
def test_unknown_records_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(AccountingError):
        event_from_json(json.dumps({**json.loads(TEXT), **change}))


def test_a_cohort_outside_the_terms_is_refused() -> None:
    for cohort in (2, 4, 3.0):
        with pytest.raises(AccountingError, match="3 to 3"):
            TERMS.deviation(cohort)  # type: ignore[arg-type]


def test_terms_that_make_no_mechanism_are_refused() -> None:
    for wrong in ({"parameters": 0}, {"noise_colluders": 2}, {"patients": 0}):
        with pytest.raises(AccountingError):
            replace(TERMS, **wrong)
    with pytest.raises(AccountingError, match="spare_attempts"):
        replace(TERMS, spare_attempts=-1)


def test_a_sum_that_would_leave_64_bits_is_refused() -> None:
    """10^7 patients of one mind would wrap around at 2^20 parameters, and move a centre anyhow."""
    with pytest.raises(AccountingError, match="64 bits"):
        replace(TERMS, parameters=1 << 20, patients=10**7)
    most = replace(TERMS, parameters=1 << 20, patients=2**22 - 1)
    grid, each = PooledGrid.of(most, most.sites, bytes(32)), 1 << 20  # 2^20 of them: norm 2^30
    aligned = unturned(np.eye(1, 1 << 20, dtype=np.int64)[0], 1 << 20, grid.seed)
    total = each * most.patients * aligned
    reached = int(np.abs(centres_of(total, grid)).max())
    assert 0 <= most.patients * most.centre_scale - reached <= most.patients


def test_a_site_alone_draws_some_of_its_patients_and_a_pool_does_not() -> None:
    alone = replace(TERMS, sites=1, smallest_cohort=1, noise_colluders=0).event
    assert not alone.sums_over_sites
    assert len({alone.seen_by(observer) for observer in Observer}) == 1
    rare = replace(alone, sampling_rate=0.25)
    assert 0 < epsilon([rare] * 40, 1e-5) < epsilon([alone] * 40, 1e-5)
    assert rare.rarer(5) == replace(alone, sampling_rate=0.05)
    assert TERMS.event.rarer(2) is None


def test_without_noise_there_is_no_privacy() -> None:
    bare = replace(TERMS.event, noise_multiplier=0.0)
    assert bare.no_privacy
    assert bare.seen_by(Observer.SERVER).no_privacy


def test_a_view_of_an_event_is_composed_and_never_written() -> None:
    view = TERMS.event.seen_by(Observer.SITE)
    assert isinstance(view, Event)
    assert epsilon([view.times(3)], 1e-5) == epsilon([view] * 3, 1e-5)
    assert view.seen_by(Observer.SERVER) is view
    assert view.rarer(2) is None
    assert not view.sums_over_sites
    with pytest.raises(AccountingError, match="not a record"):
        view.to_json()
    with pytest.raises(AccountingError, match="not a record"):
        Seen.of_json({})
    with pytest.raises(AccountingError, match="cannot be accounted for"):
        Charge(bytes(32), view, 1e-5)


@pytest.mark.parametrize(("n", "n_min", "n_c"), [(3, 3, 1), (3, 3, 0), (12, 9, 4)])
@pytest.mark.parametrize("target", [1.0, 8.0])
def test_the_least_noise_for_a_budget(n: int, n_min: int, n_c: int, target: float) -> None:
    terms = replace(TERMS, sites=n, smallest_cohort=n_min, noise_colluders=n_c)
    found = calibrated(terms, target, 1e-5)
    whole = [found.event] * found.most_charges
    assert worst_of(whole, 1e-5)[1] <= target < 1.0001 * worst_of(whole, 1e-5)[1]
    less = replace(found, noise_multiplier=0.9999 * found.noise_multiplier)
    assert worst_of([less.event] * 42, 1e-5)[1] > target


def test_masks_broken_can_be_what_the_noise_is_sized_for() -> None:
    usual = calibrated(TERMS, 8.0, 1e-5)
    safe = calibrated(TERMS, 8.0, 1e-5, (Observer.MASKS_BROKEN,))
    ratio = safe.noise_multiplier / usual.noise_multiplier
    assert ratio == pytest.approx(math.sqrt(2), rel=0.01)  # n - n_c shares for one


def test_the_mechanism_is_what_its_terms_say() -> None:
    mechanism = mechanism_named("pooled").of(
        PublicTerms(1.0, 4.65, 0.0005, 1, 42, 1e-5, 3, 1, TERMS)
    )
    assert isinstance(mechanism, PooledNoise)
    assert mechanism.event == TERMS.event
    assert mechanism.capacity(160) == 160
    assert mechanism.noise_share(3) == pytest.approx(4.65 / math.sqrt(2), rel=1e-5)
    release = mechanism.constants(160)
    assert (release.clipping_norm, release.denominator) == (0.0005, 160.0)
    assert release.noise_multiplier == mechanism.noise_share(3)
    with pytest.raises(AccountingError, match="no private step"):
        mechanism.at_site(160)


@pytest.mark.parametrize("change", [{"pooled": None}, {"sampling_rate": 0.5}, {"steps": 2}])
def test_terms_of_another_kind_make_no_pooled_mechanism(change: dict[str, object]) -> None:
    terms = PublicTerms(1.0, 4.65, 0.0005, 1, 42, 1e-5, 3, 1, TERMS)
    with pytest.raises(AccountingError):
        PooledNoise.of(replace(terms, **change))
