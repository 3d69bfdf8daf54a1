"""From a study to its terms, its grid and the chain of its adapters: alike for everybody."""

from __future__ import annotations

import numpy as np
import pytest

from craftsfl.simulation.members import SimulatedMembers
from model.layout import Layout, LayoutEntry, frozen_digest
from privacy.errors import AccountingError, ConfigError, FederationError
from privacy.mechanisms.pooled.packing import pack_signed
from privacy.mechanisms.pooled.share import centres_of, noised
from privacy.study.manifest import Study
from privacy.study.pooling import grid_of, pooled_terms, sealed_study, terms_digest
from privacy.wire.sealed import PROOF_LANES, OpenedSum
from strategies.pooled import begin_chain, following, rule_of, scale_of
from tests.pooled_study import pooled_study, pooled_values

LAYOUT = Layout(
    (LayoutEntry("up.lora_B.weight", (4, 1), "float32"),),
    frozen=(LayoutEntry("up.lora_A.weight", (1, 6), "float32"),),
)
ROSTER = SimulatedMembers.seeded(("north", "harbour", "hillside")).roster
K = (1, 2, 3)


def opened(study: Study, step: int, totals: list[np.ndarray], attempt: int = 1) -> OpenedSum:
    """What three sites with these clipped sums would have opened."""
    grid = grid_of(study, len(K))
    shares = [
        noised(centres_of(total, grid), grid, bytes([step, site]) + bytes(30))
        for site, total in enumerate(totals)
    ]
    lanes = pack_signed(sum(shares), grid.bits)  # numbers are added modulo 2^b
    proof = np.zeros(PROOF_LANES, np.uint64)
    return OpenedSum(1, step, attempt, bytes([step]) * 32, K, np.concatenate([lanes, proof]))


def test_everybody_derives_the_same_terms() -> None:
    study = pooled_study()
    terms = pooled_terms(study)
    assert (terms.sites, terms.smallest_cohort, terms.noise_colluders) == (3, 3, 1)
    assert (terms.patients, terms.parameters, terms.most_charges) == (1500, 4, 5)
    sealed = sealed_study(study, ROSTER, LAYOUT.fingerprint(), frozen_digest(LAYOUT))
    assert sealed.lanes == grid_of(study, 3).lanes
    assert (sealed.steps, sealed.attempts, sealed.n_min) == (3, 3, 3)


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("pooled", "grid", 9.0),
        ("pooled", "spare_attempts", 3),
        ("pooled", "parameters", 5),
        ("training", "noise_multiplier", 5.5),
        ("training", "clipping_norm", 0.003),
        ("privacy", "noise_colluders", 0),
        (None, "rounds", 4),
    ],
)
def test_each_term_is_in_their_digest(table: str | None, key: str, value: object) -> None:
    values = pooled_values()
    (values if table is None else values[table])[key] = value
    assert terms_digest(Study.model_validate(values)) != terms_digest(pooled_study())


def test_a_cohort_below_the_least_has_no_grid() -> None:
    with pytest.raises(AccountingError, match="2 sites"):
        grid_of(pooled_study(), 2)


def test_the_chain_starts_where_the_study_says_and_follows_the_sums() -> None:
    study = pooled_study()
    chain = begin_chain(study, LAYOUT)
    assert not chain.adapter.any()  # B is zero, and A is frozen
    total = np.full(4, 500 << 29, np.int64)  # 500 patients, half their clip in each coordinate
    first, second = (opened(study, step, [total] * 3) for step in (1, 2))
    after = following(chain, (first, second), study, ROSTER)
    assert after.steps == 2
    assert (after.adapter != 0).all()
    alone = following(following(chain, (first,), study, ROSTER), (first, second), study, ROSTER)
    assert (alone.sums_digest, alone.state_digest) == (after.sums_digest, after.state_digest)
    assert alone.adapter.tobytes() == after.adapter.tobytes()


def test_a_sum_that_does_not_follow_is_refused() -> None:
    study = pooled_study()
    chain = begin_chain(study, LAYOUT)
    zeros = [np.zeros(4, np.int64)] * 3
    with pytest.raises(FederationError, match="does not follow"):
        following(chain, (opened(study, 2, zeros),), study, ROSTER)
    found = opened(study, 1, zeros)
    longer = OpenedSum(1, 1, 1, found.label, K, np.append(found.lanes, np.uint64(0)))
    with pytest.raises(FederationError, match="lanes"):
        following(chain, (longer,), study, ROSTER)
    strangers = OpenedSum(1, 1, 1, found.label, (1, 2, 9), found.lanes)
    with pytest.raises(FederationError, match="Site 9"):
        following(chain, (strangers,), study, ROSTER)


def test_the_scale_counts_the_cohorts_patients() -> None:
    values = pooled_values(sites=4)
    scale = scale_of(Study.model_validate(values), ROSTER, K)
    assert (scale.members, scale.patients) == (3, 1500)


def test_another_layout_than_the_accountants_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"has 4 parameters, and pooled.parameters is 5"):
        begin_chain(pooled_study(parameters=5), LAYOUT)


def test_the_optimiser_is_the_studys() -> None:
    values = pooled_values()
    values["aggregation"] |= {"floor": 0.3, "averaging": 3.0}
    rule = rule_of(Study.model_validate(values))
    assert (rule.kind, rule.learning_rate, rule.beta1, rule.beta2) == ("adam", 0.02, 0.9, 0.95)
    assert (rule.floor, rule.averaging) == (0.3, 3.0)
    assert rule_of(pooled_study()).floor == 0.1
