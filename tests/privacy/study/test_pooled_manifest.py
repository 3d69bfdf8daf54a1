"""Studies whose noise is pooled: which keys they have, and what is refused when they are read."""

from __future__ import annotations

from typing import Any

import pytest

from privacy.config import check
from privacy.errors import ConfigError
from privacy.study.manifest import Study
from tests.pooled_study import pooled_study, pooled_values

# Of the study of `study_values`, written down before studies had a mechanism.
DIGEST_OF_A_LOCAL_STUDY = "4908000b6226624eed09f18a0b77c85ddefbbd1ca0641e6e1dc892c93270504b"


def load(values: dict[str, Any]) -> Study:
    return check(values, Study, where="study.toml")


def test_a_pooled_study_counts_spare_attempts_over_all_its_steps() -> None:
    study = pooled_study()
    assert study.pools_noise
    assert (study.rounds, study.most_attempts, study.attempts_a_round) == (3, 5, 3)


def test_a_local_study_keeps_its_digest(study_values: dict[str, Any]) -> None:
    assert load(study_values).digest().hex() == DIGEST_OF_A_LOCAL_STUDY
    study_values["privacy"]["mechanism"] = "local"
    assert load(study_values).digest().hex() == DIGEST_OF_A_LOCAL_STUDY


def test_a_local_study_may_say_what_its_constants_were_chosen_on(
    study_values: dict[str, Any],
) -> None:
    study_values["chosen"] = pooled_values()["chosen"]
    assert load(study_values).digest().hex() != DIGEST_OF_A_LOCAL_STUDY


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("pooled", "parameters", 5),
        ("pooled", "grid", 16.0),
        ("pooled", "spare_attempts", 3),
        ("pooled", "session_hours", 1.0),
        ("pooled", "coordinator_key", "ab" * 32),
        ("chosen", "clipping_norm", "public data"),
        ("aggregation", "floor", 0.2),
        ("aggregation", "averaging", 3.0),
        ("privacy", "noise_colluders", 0),
    ],
)
def test_the_digest_covers_every_term(table: str, key: str, value: object) -> None:
    values = pooled_values()
    before = load(values).digest()
    values[table][key] = value
    assert load(values).digest() != before


@pytest.mark.parametrize(
    ("table", "change", "words"),
    [
        (None, {"pooled": None}, r"the table \[pooled\] is missing"),
        (None, {"chosen": None}, r"the table \[chosen\] is missing"),
        ("training", {"sampling_rate": 0.5}, "sampling_rate is 0.5 .* has to be 1"),
        ("training", {"steps": 2}, "a round is one step"),
        ("training", {"noise_multiplier": 0.0}, "without noise there is nothing to share"),
        ("training", {"optimizer": "sgd"}, "training.optimizer is given"),
        ("training", {"learning_rate": 0.1}, "training.learning_rate is given"),
        ("adapter", {"frozen_a": False}, "frozen_a has to be true"),
        ("privacy", {"attempts": 2}, "set pooled.spare_attempts"),
        ("privacy", {"noise_colluders": 2}, "withstand 1"),
        ("privacy", {"mechanism": "shared"}, "'local' or 'pooled'"),
        ("aggregation", {"strategy": "fedavg"}, "use momentum or adam"),
        ("aggregation", {"secure_aggregation": "plain"}, "no longer a mode"),
        ("aggregation", {"strategy": "momentum", "floor": 0.1}, 'only strategy = "adam" has one'),
        ("aggregation", {"averaging": -1.0}, "averaging"),
        ("secure_aggregation", {"bound": 1.0}, "bound is given"),
        ("pooled", {"parameters": 0}, "parameters"),
        ("pooled", {"grid": 3.9}, "grid"),
        ("pooled", {"spare_attempts": -1}, "spare_attempts"),
        ("pooled", {"session_hours": 12.5}, "session_hours"),
        ("pooled", {"coordinator_key": "AB" * 32}, "coordinator_key"),
        ("chosen", {"clipping_norm": "private norms"}, "clipping_norm"),
        ("chosen", {"rounds": "charged study of last year"}, "rounds"),
    ],
)
def test_what_cannot_be_pooled_is_refused(
    table: str | None, change: dict[str, Any], words: str
) -> None:
    values = pooled_values()
    (values if table is None else values[table]).update(change)
    with pytest.raises(ConfigError, match=words):
        load(values)


def test_the_optimiser_of_a_pooled_study_has_no_default_rate() -> None:
    values = pooled_values()
    del values["aggregation"]["learning_rate"]
    with pytest.raises(ConfigError, match=r"aggregation.learning_rate is missing"):
        load(values)


@pytest.mark.parametrize(
    ("table", "change"),
    [
        (None, {"pooled": pooled_values()["pooled"]}),
        ("aggregation", {"strategy": "adam"}),
        ("aggregation", {"floor": 0.1}),
        ("aggregation", {"averaging": 3.0}),
    ],
)
def test_what_belongs_to_pooled_studies_is_refused_elsewhere(
    study_values: dict[str, Any], table: str | None, change: dict[str, Any]
) -> None:
    (study_values if table is None else study_values[table]).update(change)
    with pytest.raises(ConfigError, match=r'belongs to studies with privacy.mechanism = "pooled"'):
        load(study_values)


def test_a_local_study_still_needs_its_optimiser(study_values: dict[str, Any]) -> None:
    del study_values["training"]["optimizer"]
    with pytest.raises(ConfigError, match=r"training.optimizer and training.learning_rate"):
        load(study_values)


def test_more_colluders_than_all_but_two_know_the_noise() -> None:
    values = pooled_values(sites=6)
    values["cohort"]["min_sites"] = 5
    values["privacy"]["noise_colluders"] = 3
    load(values)
    values["privacy"]["noise_colluders"] = 4
    with pytest.raises(ConfigError, match="withstand 3"):
        load(values)


def test_sealed_masks_have_neither_a_threshold_nor_bits_of_their_own() -> None:
    values = pooled_values(sites=5)
    values["secure_aggregation"] |= {"colluders": 3, "bits": 8}
    load(values)
    values["secure_aggregation"]["colluders"] = 4
    with pytest.raises(ConfigError, match="may be 3 at most"):
        load(values)


def test_a_hundred_sites_may_pool_their_noise() -> None:
    assert load(pooled_values(sites=100)).most_attempts == 5
