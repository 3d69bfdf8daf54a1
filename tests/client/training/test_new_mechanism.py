"""A mechanism that is a folder and one registry line passes through everything that uses one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.policy import SiteRules
from client.training import LocalTrainer
from model.adapters import initial_vector
from privacy.accounting import Observer, RenyiFilter, epsilon, rounds_that_fit, worst_of
from privacy.budget import Book, Limits
from privacy.errors import AccountingError, ConfigError, PolicyError
from privacy.ledger import AttemptKey, Charge, State
from privacy.mechanisms import registry
from privacy.mechanisms.local import LocalGaussian, PoissonGaussian
from privacy.mechanisms.registry import event_from_json, mechanism_named, mechanism_names
from privacy.study import terms
from privacy.study.agreement import terms_of
from privacy.study.manifest import Study
from privacy.wire.offer import MechanismNumber
from tests.client.studies import make_policy, make_study
from tests.client.training.tiles import SeededNoise, changed, make_tiles
from tests.privacy.ledger.ledgers import open_test_ledger
from tests.privacy.mechanisms.toy import Toy, ToyShared

EVENT = ToyShared(1.0, 9.0, 4, floor=3, colluders=1)
KEY = AttemptKey(b"\1" * 32, 1, 1, 1)
TEXT = (
    '{"colluders":1,"event":"toy-shared","floor":3,"noise_multiplier":9.0,"sampling_rate":1.0,'
    '"steps":4,"version":3}'
)


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one line that adds it."""
    monkeypatch.setattr(registry, "MECHANISMS", (*registry.MECHANISMS, Toy))


@pytest.fixture
def charge(toy: None) -> Charge:
    return Charge(b"\1" * 32, EVENT, 1e-5)


def test_it_is_accounted_for_with_the_others() -> None:
    same = PoissonGaussian(1.0, 9.0, 1.0, 4)
    assert epsilon([EVENT, EVENT], 1e-5) == epsilon([same, same], 1e-5)
    assert epsilon([EVENT, same], 1e-5) == epsilon([EVENT.times(2)], 1e-5)
    assert worst_of([EVENT], 1e-5)[1] == epsilon([EVENT], 1e-5)  # the coalition's
    found = RenyiFilter(8, 5.0, 1e-5)
    assert found.divergence([EVENT, same]) == found.divergence([same] * 2)
    assert rounds_that_fit([same], EVENT, 1e-5, 5.0) == rounds_that_fit([same], same, 1e-5, 5.0)


def test_a_ledger_holds_it_and_reads_it_back(tmp_path: Path, charge: Charge) -> None:
    assert EVENT.to_json() == TEXT
    assert event_from_json(TEXT) == EVENT
    for _ in range(2):
        with open_test_ledger(tmp_path / "ledger.sqlite") as ledger:
            ledger.intent(KEY, charge)
            ledger.commit(KEY)
            (entry,) = ledger.entries()
            assert (entry.charge, entry.state) == (charge, State.COMMITTED)


def test_a_budget_refuses_what_would_exceed_it(charge: Charge) -> None:
    """Noise that is known in part: the budget is charged what the coalition sees."""
    two = epsilon([EVENT.seen_by(Observer.COALITION)] * 2, 1e-5)
    limits = Limits(1.01 * two, 1e-5, study_epsilon=1.01 * two)
    assert Book((charge,)).allowance(limits, charge).next().fit
    spent = Book((charge, charge)).allowance(limits, charge)
    assert not spent.next().fit
    assert (spent.rounds_left(), spent.what_would_fit()) == (0, "not one round at q = 1 would fit")


def test_site_rules_and_offers_follow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terms, "mechanism_named", lambda name: Toy)
    study = make_study(privacy={"noise_colluders": 1})
    policy = make_policy(secure_aggregation="required", roster="ab" * 32)
    rules = SiteRules("north", study, policy)
    assert rules.mechanism.event == ToyShared(1.0, 1.0, 4, 3, 1)
    with pytest.raises(PolicyError, match='the mechanism "toy" is not among `mechanisms`'):
        rules.check()
    assert terms_of(study, 100).mechanism is MechanismNumber.POOLED


def test_a_site_makes_its_steps(
    tiny_pipeline: Any, quiet_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terms, "mechanism_named", lambda name: Toy)
    updates = []
    for sigma in (0.0, 4.0):
        study = changed(quiet_study, steps=2, sampling_rate=0.5, noise_multiplier=sigma)
        trainer = LocalTrainer(
            study, "north", tiny_pipeline, make_tiles(12, most=1), noise=SeededNoise()
        )
        start = initial_vector(trainer.layout, b"s")
        updates.append(trainer.train(start, progress=lambda *_: None, should_stop=lambda: False))
    assert all(np.isfinite(update).all() and update.any() for update in updates)
    assert not np.array_equal(*updates)


def test_without_its_line_it_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MECHANISMS", (LocalGaussian,))
    with pytest.raises(AccountingError, match="toy-shared"):
        event_from_json(TEXT)
    with pytest.raises(AccountingError, match="ToyShared cannot be accounted for"):
        Charge(b"\1" * 32, EVENT, 1e-5)
    with pytest.raises(ConfigError, match="'toy'"):
        mechanism_named("toy")


def test_a_policy_may_list_it() -> None:
    assert mechanism_names() == ("local", "pooled", "toy")
    assert make_policy(mechanisms=("toy",)).mechanisms == ("toy",)
    assert mechanism_named("toy") is Toy
