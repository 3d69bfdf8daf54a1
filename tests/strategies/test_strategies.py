"""Aggregation against plain loops over Python floats, and what every strategy must refuse."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.errors import ConfigError, FederationError
from privacy.study.manifest import Aggregation
from strategies import FedAdam, FedAvg, Strategy, make_strategy
from strategies.fedadam import Moments
from strategies.mean import weighted_mean

P = 5
WEIGHTS = {"north": 500.0, "harbour": 800.0, "hillside": 1200.0}
MAKERS: dict[str, Callable[[], Strategy]] = {
    "fedavg": lambda: FedAvg(0.7),
    "fedadam": lambda: FedAdam(P, 0.05),
}


def updates(seed: int, names: tuple[str, ...] = tuple(WEIGHTS)) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.normal(size=P).astype(np.float32) for name in names}


def mean_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=P)


def mean_by_hand(changes: Mapping[str, np.ndarray], i: int) -> float:
    total = sum(WEIGHTS[name] for name in changes)
    return math.fsum(WEIGHTS[name] / total * float(change[i]) for name, change in changes.items())


@given(st.sets(st.sampled_from(sorted(WEIGHTS)), min_size=1), st.integers(0, 100))
def test_the_mean_is_weighted_over_the_survivors(names: set[str], seed: int) -> None:
    changes = updates(seed, tuple(sorted(names)))
    got = weighted_mean(changes, WEIGHTS)
    wanted = [mean_by_hand(changes, i) for i in range(P)]
    np.testing.assert_allclose(got, wanted, rtol=1e-12)


def test_the_order_of_the_sites_and_the_scale_of_weights_do_not_matter() -> None:
    changes = updates(4)
    backwards = dict(reversed(changes.items()))
    np.testing.assert_array_equal(
        weighted_mean(changes, WEIGHTS), weighted_mean(backwards, WEIGHTS)
    )
    scaled = {site: weight * 3 for site, weight in WEIGHTS.items()}
    np.testing.assert_allclose(weighted_mean(changes, WEIGHTS), weighted_mean(changes, scaled))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "No site"),
        ({"north": np.zeros(P + 1, np.float32)}, "has shape"),
        ({"north": np.full(P, np.nan, np.float32)}, "north.*not finite"),
        ({"stranger": np.zeros(P, np.float32)}, "stranger.*no weight"),
    ],
)
def test_an_update_that_does_not_fit_is_refused_by_name(
    changes: dict[str, np.ndarray], text: str
) -> None:
    with pytest.raises(FederationError, match=text):
        weighted_mean(updates(2) | changes if changes else {}, WEIGHTS)


def test_fedavg_steps_by_the_mean() -> None:
    current, mean = np.linspace(-1, 1, P, dtype=np.float32), mean_of(1)
    got = FedAvg(0.5).aggregate(current, mean)
    np.testing.assert_allclose(got, current + 0.5 * mean, rtol=1e-6)


def test_fedadam_follows_algorithm_2_with_both_corrections() -> None:
    """Reddi et al. 2021, Algorithm 2, and Kingma and Ba 2015, Algorithm 1, one scalar at a time."""
    beta1, beta2, tau, eta = 0.8, 0.95, 0.02, 0.3
    strategy = FedAdam(P, eta, Moments(beta1, beta2, tau))
    rounds = [mean_of(1), mean_of(2), mean_of(3)]
    got = np.zeros(P, np.float32)
    for mean in rounds:
        got = strategy.aggregate(got, mean)
    for i in range(P):
        x = delta = v = 0.0
        for t, mean in enumerate(rounds, start=1):
            delta = beta1 * delta + (1 - beta1) * float(mean[i])
            corrected = delta / (1 - beta1**t)
            v = beta2 * v + (1 - beta2) * corrected**2
            x += eta * corrected / (math.sqrt(v / (1 - beta2**t)) + tau)
        assert got[i] == pytest.approx(x, rel=1e-5)


@pytest.mark.parametrize("moments", [Moments(), Moments(0.5, 0.999, 1e-6), Moments(0.0, 0.0, 1e-3)])
def test_fedadams_first_rounds_are_as_long_as_its_later_ones(moments: Moments) -> None:
    """One and the same mean in every round: each step is eta g / (|g| + tau)."""
    mean = np.array([1.0, -0.2, 0.03, 1e-3, 0.0])
    strategy, x = FedAdam(P, 0.1, moments), np.zeros(P, np.float32)
    for number in range(1, 6):
        x = strategy.aggregate(x, mean)
        wanted = number * 0.1 * mean / (np.abs(mean) + moments.tau)
        np.testing.assert_allclose(x, wanted, rtol=1e-5, atol=1e-12)


def test_a_fedadam_run_that_began_without_corrections_goes_on_without() -> None:
    """A state of an earlier version: no number of rounds, and v began at tau^2."""
    beta1, beta2, tau, eta = 0.8, 0.95, 0.02, 0.3
    strategy = FedAdam(P, eta, Moments(beta1, beta2, tau))
    strategy.restore({"delta": np.zeros(P), "v": np.full(P, tau**2)})
    got = np.zeros(P, np.float32)
    for seed in (1, 2, 3):
        got = strategy.aggregate(got, mean_of(seed))
        again = FedAdam(P, eta, Moments(beta1, beta2, tau))
        again.restore(strategy.state())
        strategy = again  # resumed in every round
    for i in range(P):
        x, delta, v = 0.0, 0.0, tau**2
        for seed in (1, 2, 3):
            delta = beta1 * delta + (1 - beta1) * float(mean_of(seed)[i])
            v = beta2 * v + (1 - beta2) * delta * delta
            x += eta * delta / (math.sqrt(v) + tau)
        assert got[i] == pytest.approx(x, rel=1e-5)
    assert strategy.state().keys() == {"delta", "v"}


@pytest.mark.parametrize(
    "rounds", [np.zeros(2), np.array([-1.0]), np.array([0.5]), np.array([np.nan]), np.array(1.0)]
)
def test_a_stored_number_of_rounds_that_is_none_is_refused(rounds: np.ndarray) -> None:
    strategy = FedAdam(P, 0.1)
    with pytest.raises(FederationError, match="another strategy"):
        strategy.restore({"delta": np.ones(P), "v": np.ones(P), "rounds": rounds})
    assert strategy.state()["rounds"] == [0.0]
    np.testing.assert_array_equal(strategy.state()["delta"], np.zeros(P))


@pytest.mark.parametrize("name", sorted(MAKERS))
class TestEveryStrategy:
    def test_a_mean_of_zero_changes_nothing(self, name: str) -> None:
        start = np.ones(P, np.float32)
        np.testing.assert_array_equal(MAKERS[name]().aggregate(start, np.zeros(P)), start)

    def test_the_input_is_left_alone_and_the_result_is_float32(self, name: str) -> None:
        start, mean = np.ones(P, np.float32), mean_of(1)
        got = MAKERS[name]().aggregate(start, mean)
        assert got.dtype == np.float32
        np.testing.assert_array_equal(start, np.ones(P))
        np.testing.assert_array_equal(mean, mean_of(1))

    def test_a_resumed_run_is_the_run_that_never_stopped(self, name: str) -> None:
        whole = MAKERS[name]()
        x = whole.aggregate(np.zeros(P, np.float32), mean_of(1))
        resumed = MAKERS[name]()
        resumed.restore({key: value.copy() for key, value in whole.state().items()})
        np.testing.assert_array_equal(
            whole.aggregate(x, mean_of(2)), resumed.aggregate(x, mean_of(2))
        )

    @pytest.mark.parametrize(
        ("mean", "text"), [(np.zeros(P + 1), "shape"), (np.full(P, np.nan), "not finite")]
    )
    def test_what_does_not_fit_is_refused_and_changes_nothing(
        self, name: str, mean: np.ndarray, text: str
    ) -> None:
        strategy = MAKERS[name]()
        strategy.aggregate(np.zeros(P, np.float32), mean_of(1))
        before = strategy.state()
        with pytest.raises(FederationError, match=text):
            strategy.aggregate(np.zeros(P, np.float32), mean)
        for key, value in strategy.state().items():
            np.testing.assert_array_equal(value, before[key])

    def test_a_foreign_state_is_refused(self, name: str) -> None:
        with pytest.raises(FederationError):
            MAKERS[name]().restore({"momentum": np.zeros(P)})


def test_a_state_of_another_size_is_refused() -> None:
    with pytest.raises(FederationError, match="shape"):
        FedAdam(P, 1.0).restore({"delta": np.zeros(P + 1), "v": np.zeros(P + 1)})
    with pytest.raises(FederationError, match="shape"):
        FedAdam(P + 1, 1.0).aggregate(np.zeros(P, np.float32), mean_of(1))


def test_the_study_chooses_the_strategy() -> None:
    assert isinstance(make_strategy(Aggregation(strategy="fedavg"), P), FedAvg)
    settings = Aggregation(strategy="fedadam", learning_rate=0.3, beta1=0.8, beta2=0.95, tau=0.02)
    made = make_strategy(settings, P).aggregate(np.zeros(P, np.float32), mean_of(1))
    ours = FedAdam(P, 0.3, Moments(0.8, 0.95, 0.02))
    np.testing.assert_array_equal(made, ours.aggregate(np.zeros(P, np.float32), mean_of(1)))


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_what_sites_work_out_themselves_is_no_strategy_of_the_coordinator(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_strategy(Aggregation(strategy=name, learning_rate=0.1), P)  # type: ignore[arg-type]
    assert (name in caught.value.message, caught.value.hint) == (True, "Use fedavg or fedadam.")
