"""The optimisers of pooled studies: what they promise, and against one number at a time."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import ConfigError, FederationError
from strategies.descent import Descent
from strategies.rule import UpdateRule
from tests.strategies.scalars import Scalars, float32

P = 7
RULES = {
    "momentum": UpdateRule("momentum", 0.5, beta1=0.8),
    "plain": UpdateRule("momentum", 0.5, beta1=0.0),
    "adam": UpdateRule("adam", 0.01, beta1=0.9, beta2=0.95, averaging=2.0),
}
GRADIENTS = st.lists(st.lists(st.floats(-1, 1), min_size=P, max_size=P), min_size=1, max_size=12)


def zeros() -> np.ndarray:
    return np.zeros(P, np.float32)


def run(rule: UpdateRule, gradients: list[list[float]], variance: float = 0.01) -> Descent:
    descent = Descent.begin(rule, zeros())
    for gradient in gradients:
        descent = descent.after(np.array(gradient), variance)
    return descent


@pytest.mark.parametrize("name", sorted(RULES))
@given(GRADIENTS, st.one_of(st.just(0.0), st.floats(1e-9, 10)))
@settings(max_examples=40)
def test_every_step_is_the_formula(
    name: str, gradients: list[list[float]], variance: float
) -> None:
    got = run(RULES[name], gradients, variance)
    for i in range(P):
        wanted = Scalars(RULES[name], 0.0)
        for gradient in gradients:
            wanted.move(gradient[i], variance)
        assert got.adapter[i] == wanted.x
        assert got.published[i] == wanted.published
        assert got.steps == len(gradients)


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_mean_of_zero_moves_nothing_with_and_without_noise(name: str) -> None:
    start = np.linspace(-1, 1, P, dtype=np.float32)
    for variance in (0.0, 0.3):
        descent = Descent.begin(RULES[name], start).after(np.zeros(P), variance)
        np.testing.assert_array_equal(descent.adapter, start)
        np.testing.assert_array_equal(descent.published, start)


def test_both_moments_are_corrected_for_their_start() -> None:
    """With one and the same gradient and no noise, every step is the rate in its direction."""
    gradient = [3e-3, -2e-4, 1.0, -1.0, 0.5, 1e-6, 0.0]
    got = run(UpdateRule("adam", 0.01), [gradient] * 5, 0.0).adapter
    np.testing.assert_allclose(got, -0.05 * np.sign(gradient), rtol=1e-6)


def test_the_noises_share_is_taken_off_the_second_moment() -> None:
    """Tang et al. 2024, section 3: what is left estimates g^2, and coordinates differ by signal."""
    random, sd, count = np.random.default_rng(5), 1.0, 4000
    signal = np.repeat([0.0, 2.0, 4.0], count)
    descent = Descent.begin(UpdateRule("adam", 0.01, beta2=0.99), np.zeros(3 * count, np.float32))
    for _ in range(60):
        descent = descent.after(signal + sd * random.normal(size=signal.size), sd**2)
    corrected = 1 - 0.99**60
    left = (descent.second / corrected - descent.noise / corrected).reshape(3, count).mean(axis=1)
    np.testing.assert_allclose(left, [0.0, 4.0, 16.0], atol=0.05)


def test_the_variance_of_each_cohort_is_weighted_like_its_squares() -> None:
    descent = Descent.begin(UpdateRule("adam", 0.01, beta2=0.5), zeros())
    for variance in (1.0, 1.0, 4.0):
        descent = descent.after(np.full(P, math.sqrt(variance)), variance)
    # Squares that equal the variance leave nothing: the floor alone is divided by.
    np.testing.assert_allclose(descent.second, descent.noise, rtol=1e-15)
    assert descent.noise == 0.5 * (0.5 * 0.5 + 0.5) + 0.5 * 4.0


@pytest.mark.parametrize("floor", [0.1, 1.0])
def test_no_coordinate_is_divided_by_less_than_the_floor(floor: float) -> None:
    rule = UpdateRule("adam", 0.01, beta1=0.0, floor=floor)
    got = Descent.begin(rule, zeros()).after(np.full(P, 0.25), 1.0).adapter
    np.testing.assert_allclose(got, -0.01 * 0.25 / math.sqrt(floor), rtol=1e-6)


def test_momentum_adds_up_to_the_plain_sum() -> None:
    """An impulse moves by the rate in the end, whatever beta1 is."""
    descent = Descent.begin(UpdateRule("momentum", 0.5, beta1=0.8), zeros()).after(np.ones(P), 0.0)
    for _ in range(200):
        descent = descent.after(np.zeros(P), 0.0)
    np.testing.assert_allclose(descent.adapter, -0.5, rtol=1e-5)


@pytest.mark.parametrize("degree", [0.0, 3.0])
def test_the_average_weighs_iterates_by_a_power_of_their_number(degree: float) -> None:
    """Shamir and Zhang 2013, section 4: weights are products of 1 - (eta + 1) / (eta + j)."""
    rule = UpdateRule("momentum", 1.0, beta1=0.0, averaging=degree)
    descent, iterates = Descent.begin(rule, zeros()), []
    for step in range(1, 11):
        descent = descent.after(np.full(P, 0.1 * step), 0.0)
        iterates.append(descent.adapter.astype(np.float64))
    weights = np.zeros(10)
    for step in range(1, 11):
        share = (degree + 1) / (degree + step)
        weights[: step - 1] *= 1 - share
        weights[step - 1] = share
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(descent.published, weights @ np.array(iterates), rtol=1e-6)
    if degree == 0:
        np.testing.assert_allclose(weights, 0.1)
    else:
        np.testing.assert_allclose(
            weights, np.arange(1, 11) * np.arange(2, 12) * np.arange(3, 13) / 4290, rtol=1e-9
        )


def test_before_the_first_step_the_start_is_published() -> None:
    start = np.linspace(-1, 1, P, dtype=np.float32)
    np.testing.assert_array_equal(Descent.begin(RULES["adam"], start).published, start)


def test_the_order_of_memory_and_the_size_of_parts_change_no_bit() -> None:
    random = np.random.default_rng(1)
    gradient = random.normal(size=70_001)
    start = np.zeros(70_001, np.float32)
    whole = Descent.begin(RULES["adam"], start).after(gradient, 0.1)
    spread = np.zeros(3 * 70_001)
    spread[::3] = gradient
    apart = Descent.begin(RULES["adam"], start).after(spread[::3], 0.1)
    assert whole.adapter.tobytes() == apart.adapter.tobytes()
    for low, high in ((0, 13), (32_760, 32_771), (65_530, 70_001)):
        piece = Descent.begin(RULES["adam"], start[low:high]).after(gradient[low:high], 0.1)
        assert piece.adapter.tobytes() == whole.adapter[low:high].tobytes()


@given(
    st.lists(st.floats(-1e-290, 1e-290), min_size=P, max_size=P),
    st.lists(st.floats(-(2.0**-120), 2.0**-120, width=32), min_size=P, max_size=P),
)
@settings(max_examples=30, deadline=None)
def test_numbers_next_to_zero_are_the_same_beside_torch(
    gradient: list[float], start: list[float]
) -> None:
    def states() -> list[bytes]:
        descent = Descent.begin(RULES["adam"], np.array(start, np.float32))
        for _ in range(4):
            descent = descent.after(np.array(gradient), 0.0)
        for _ in range(4):
            descent = descent.after(np.full(P, 1e-150), 1e-50)
        arrays = (descent.adapter, descent.first, descent.second, descent.average)
        return [array.tobytes() for array in arrays]

    beside: list[list[bytes]] = []

    def flushing() -> None:
        assert torch.set_flush_denormal(True)
        beside.append(states())

    thread = threading.Thread(target=flushing)
    thread.start()
    thread.join()
    assert beside == [states()]


@pytest.mark.parametrize("name", sorted(RULES))
@pytest.mark.parametrize(
    ("mean", "variance", "text"),
    [
        (np.zeros(P + 1), 0.1, "has 7 numbers"),
        (np.zeros(P, np.float32), 0.1, "float32"),
        (np.full(P, np.nan), 0.1, "no clipped gradient"),
        (np.full(P, np.inf), 0.1, "no clipped gradient"),
        (np.zeros(P), math.nan, "variance nan"),
        (np.zeros(P), -1.0, "variance -1"),
        (np.zeros(P), 1e-300, "variance"),
    ],
)
def test_what_does_not_fit_is_refused(
    name: str, mean: np.ndarray, variance: float, text: str
) -> None:
    descent = Descent.begin(RULES[name], zeros()).after(np.ones(P), 0.1)
    before = descent.adapter.tobytes(), descent.first.tobytes(), descent.steps
    with pytest.raises(FederationError, match=text):
        descent.after(mean, variance)
    assert (descent.adapter.tobytes(), descent.first.tobytes(), descent.steps) == before


def test_an_adapter_that_would_be_infinite_is_refused() -> None:
    start = np.full(P, 3.4e38, np.float32)
    descent = Descent.begin(UpdateRule("momentum", 1e6, beta1=0.0, averaging=1.0), start)
    with pytest.raises(FederationError, match="range of its numbers"):
        descent.after(np.full(P, -1e30), 0.1)
    np.testing.assert_array_equal(descent.adapter, start)


def test_a_state_cannot_be_written_to_and_an_input_is_left_alone() -> None:
    start, gradient = zeros(), np.ones(P)
    descent = Descent.begin(RULES["adam"], start).after(gradient, 0.1)
    for array in (descent.adapter, descent.first, descent.second, descent.average):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    start[0], gradient[0] = 1, 2  # still ours
    assert descent.adapter[0] == descent.adapter[1]


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "sgd"}, {"learning_rate": 0.0}, {"learning_rate": math.nan},
        {"learning_rate": math.inf}, {"beta1": 1.0}, {"beta1": -0.1}, {"beta1": 1e-300},
        {"beta2": 1.0}, {"floor": 0.0}, {"floor": math.nan}, {"averaging": -1.0},
        {"averaging": math.inf},
    ],
)  # fmt: skip
def test_constants_out_of_their_range_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        UpdateRule(**({"kind": "adam", "learning_rate": 0.1} | values))


def test_every_constant_is_in_a_rules_digest() -> None:
    rules = [
        UpdateRule("adam", 0.1), UpdateRule("momentum", 0.1), UpdateRule("adam", 0.2),
        UpdateRule("adam", 0.1, beta1=0.8), UpdateRule("adam", 0.1, beta2=0.8),
        UpdateRule("adam", 0.1, floor=1.0), UpdateRule("adam", 0.1, averaging=0.0),
        UpdateRule("adam", 0.1, averaging=1.0),
    ]  # fmt: skip
    assert len({rule.digest() for rule in rules}) == len(rules)
    assert rules[0].digest() == UpdateRule("adam", 0.1).digest()
    assert float32(0.1) != 0.1  # the oracle rounds
