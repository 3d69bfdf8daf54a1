"""From a study to the one that is simulated: what changes, and that nothing else does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from craftsfl.simulation.config import Arm, SimulationConfig
from craftsfl.simulation.studies import SimulatedStudy, simulated_study, site_sizes
from privacy.errors import ConfigError
from privacy.study.manifest import Study, load_study

SAMPLES = Path(__file__).parents[3] / "docs/examples"
POOLED, LOCAL = load_study(SAMPLES / "pooled/study.toml"), load_study(SAMPLES / "study.toml")
OWN = {"north": 800, "harbour": 500, "hillside": 650}


def simulated(study: Study, **options: Any) -> SimulatedStudy:
    config = SimulationConfig(study=study, folder=Path("unused"), **options)
    return simulated_study(config, study, Path(), site_sizes(config, study))


def without(study: Study, *tables: str) -> dict[str, Any]:
    return study.model_dump(mode="json", exclude=set(tables))


@pytest.mark.parametrize("sites", [None, 3])
def test_as_many_sites_as_the_study_has_are_its_own(sites: int | None) -> None:
    assert simulated(POOLED, sites=sites).names == tuple(OWN)
    assert {s.name: s.declared_patients for s in simulated(POOLED).study.sites} == OWN


def test_other_sites_have_the_sizes_of_the_studys_in_turn() -> None:
    made = simulated(POOLED, sites=5).study.sites
    names = [f"site-00{number}" for number in range(1, 6)]
    assert [site.name for site in made] == names
    assert [site.declared_patients for site in made] == [800, 500, 650, 800, 500]
    few = simulated(POOLED, patients=7).study.sites
    assert {site.name: site.declared_patients for site in few} == dict.fromkeys(OWN, 7)


@pytest.mark.parametrize("study", [POOLED, LOCAL], ids=lambda study: study.privacy.mechanism)
def test_what_is_learned_stays_and_who_takes_part_does_not(study: Study) -> None:
    made = simulated(study)
    new = ("name", "sites", "cohort", "secure_aggregation", "pooled")
    assert without(made.study, *new) == without(study, *new)
    assert made.study.name == f"simulated-{study.name}"
    roster = made.study.secure_aggregation.roster
    assert roster == made.members.roster.digest().hex() != study.secure_aggregation.roster
    assert without(made.study)["secure_aggregation"] | {"roster": ""} == (
        without(study)["secure_aggregation"] | {"roster": ""}
    )
    if made.study.pooled is not None and study.pooled is not None:
        assert made.study.pooled.coordinator_key == made.coordinator.public.hex()
        assert made.study.pooled.spare_attempts == study.pooled.spare_attempts


def test_a_long_name_is_cut_and_still_marked() -> None:
    long = POOLED.model_copy(update={"name": "a" * 64})
    assert simulated(long).study.name == "simulated-" + "a" * 54


def test_a_slot_is_never_longer_than_the_studys_nor_than_a_second() -> None:
    assert simulated(POOLED).study.cohort.reply_slot == 1.0
    cohort = POOLED.cohort.model_copy(update={"reply_slot": 0.25})
    short = POOLED.model_copy(update={"cohort": cohort})
    assert simulated(short).study.cohort.reply_slot == 0.25


@pytest.mark.parametrize(
    ("study", "arm", "federated"),
    [
        (POOLED, None, True),
        (POOLED, "pooled", True),
        (POOLED, "local", False),
        (LOCAL, "local", True),
        (LOCAL, "central", False),
    ],
)
def test_agents_run_the_studys_own_noise_alone(
    study: Study, arm: Arm | None, federated: bool
) -> None:
    made = simulated(study, arm=arm)
    assert (made.arm, made.federated) == (arm or study.privacy.mechanism, federated)


@pytest.mark.parametrize("arm", ["local", "central", "alone"])
def test_a_study_without_noise_has_one_arm(arm: Arm) -> None:
    training = LOCAL.training.model_copy(update={"noise_multiplier": 0.0})
    bare = LOCAL.model_copy(update={"training": training})
    with pytest.raises(ConfigError, match="adds no noise") as caught:
        simulated(bare, arm=arm)
    assert "--arm noise-off" in caught.value.hint
    assert simulated(bare, arm="noise-off").arm == "noise-off"


def test_the_site_that_trains_alone_has_to_be_there() -> None:
    assert simulated(POOLED, arm="alone", alone="harbour").arm == "alone"
    with pytest.raises(ConfigError, match="No simulated site is called harbour") as caught:
        simulated(POOLED, sites=5, arm="alone", alone="harbour")
    assert caught.value.hint == "They are called site-001 to site-005."
