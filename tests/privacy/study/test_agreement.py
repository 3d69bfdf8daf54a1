"""What server and sites derive from the study, and the file of rosters."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from privacy.errors import ConfigError, SecAggError
from privacy.secagg.chain import in_force, read_rosters, write_rosters
from privacy.secagg.offer import most_colluders
from privacy.secagg.roster import Member, SignedRoster, add_signature, propose_roster
from privacy.study.agreement import (
    CLOCK_SKEW,
    cohort_of,
    offer_seconds,
    policy_of,
    roster_in_force,
    shares_of,
    terms_of,
)
from privacy.study.manifest import Study
from privacy.wire.offer import MechanismNumber
from tests.privacy.secagg.consortium import identity_of

NAMES = ("north", "harbour", "hillside")


def signed_roster(names: tuple[str, ...] = NAMES) -> SignedRoster:
    members = [
        Member(3 * place + 2, name, identity_of(place).public, name)
        for place, name in enumerate(names)
    ]
    signed = propose_roster(members, len(names) // 2 + 1, consortium="test")
    for place in range(len(names)):
        signed = add_signature(signed, identity_of(place), None)
    return signed


SIGNED = signed_roster()
ROSTER = SIGNED.roster


@pytest.fixture
def study(study_values: dict[str, Any]) -> Study:
    study_values["aggregation"] = {"strategy": "fedavg"}
    study_values["secure_aggregation"] = {"roster": ROSTER.digest().hex(), "bound": 1.5}
    return Study.model_validate(study_values)


def changed(study: Study, **tables: dict[str, Any]) -> Study:
    values = study.model_dump(mode="json")
    for name, table in tables.items():
        values[name] |= table
    return Study.model_validate(values)


def test_weights_are_shares_of_the_declared_patients(study: Study) -> None:
    assert shares_of(study) == {"north": 0.2, "harbour": 0.32, "hillside": 0.48}
    assert math.isclose(sum(shares_of(study).values()), 1)


def test_terms_are_the_studys(study: Study) -> None:
    terms = terms_of(study, 1000)
    assert terms.recipe_digest == study.digest()
    assert (terms.dimension, terms.bits, terms.bound) == (1000, 16, 1.5)
    assert (terms.clipping_norm, terms.weight_cap, terms.noise_multiplier) == (1.0, 0.48, 1.0)
    assert terms.mechanism is MechanismNumber.LOCAL
    silent = changed(study, training={"noise_multiplier": 0.0})
    assert terms_of(silent, 1000).mechanism is MechanismNumber.PLAIN


def test_too_few_bits_for_the_adapter_are_refused(study: Study) -> None:
    """At the start nothing is known of the adapter; with its size it may no longer fit."""
    narrow = changed(study, secure_aggregation={"bits": 12, "tolerated_error": 0.003})
    terms_of(narrow, 10)
    with pytest.raises(ConfigError, match="Set 16 bits"):
        terms_of(narrow, 50_000_000)


def test_the_masks_withstand_the_most_that_every_cohort_can(study: Study) -> None:
    """It costs nothing: the threshold follows from the cohort's size alone."""
    policy = policy_of(study, ROSTER, 1000)
    assert (policy.n_min, policy.n_c, policy.roster_digest) == (3, 1, ROSTER.digest())
    sites = [{"name": f"s{n}", "declared_patients": 10} for n in range(12)]
    values = {**study.model_dump(mode="json"), "sites": sites}
    larger = changed(Study.model_validate(values), cohort={"min_sites": 11})
    assert policy_of(larger, ROSTER, 1000).n_c == min(most_colluders(11), most_colluders(12)) == 4


def test_a_site_follows_the_stricter_of_study_and_policy(study: Study) -> None:
    policy = policy_of(study, ROSTER, 1000)
    assert policy.longest_offer == offer_seconds(study) + CLOCK_SKEW
    assert policy_of(study, ROSTER, 1000, colluders=2).n_c == 2
    assert policy_of(changed(study, secure_aggregation={"colluders": 1}), ROSTER, 1000).n_c == 1


def test_an_offer_lasts_for_all_exchanges(study: Study) -> None:
    assert offer_seconds(study) == 60 + 4 * 60


def test_a_cohort_is_ids_of_the_roster() -> None:
    assert cohort_of(ROSTER, ["hillside", "north"]) == (2, 8)
    with pytest.raises(SecAggError, match="does not list west"):
        cohort_of(ROSTER, ["north", "west"])


def successor(before: SignedRoster, signers: int = 2) -> SignedRoster:
    """Without the last member."""
    later = propose_roster(before.roster.members[:-1], 2, predecessor=before.roster)
    for place in range(signers):
        later = add_signature(later, identity_of(place), before.roster)
    return later


def test_the_newest_roster_is_in_force(tmp_path: Path, study: Study) -> None:
    file = tmp_path / "roster.cfl"
    write_rosters(file, [SIGNED])
    assert roster_in_force(study, file) == ROSTER
    later = successor(SIGNED)
    write_rosters(file, [SIGNED, later])
    assert read_rosters(file) == (SIGNED, later)
    assert roster_in_force(study, file) == later.roster
    assert in_force([SIGNED, later], later.roster.digest()) == later.roster


def test_a_study_of_more_than_three_sites_has_a_signed_membership(
    tmp_path: Path, study: Study
) -> None:
    """{1,2,3,4} and {1,2,3,5} of one large consortium: each needs its own members' signatures."""
    names = (*NAMES, "valley", "moor")
    large, file = signed_roster(names), tmp_path / "roster.cfl"
    write_rosters(file, [large])
    pin = {"roster": large.roster.digest().hex()}

    def over(*chosen: str) -> Study:
        sites = [{"name": name, "declared_patients": 10} for name in chosen]
        values = {**study.model_dump(mode="json"), "sites": sites}
        return changed(Study.model_validate(values), secure_aggregation=pin)

    assert roster_in_force(over(*names), file) == large.roster
    with pytest.raises(ConfigError, match="do not list the same sites: moor"):
        roster_in_force(over(*names[:4]), file)
    with pytest.raises(ConfigError, match="do not list the same sites: moor, west"):
        roster_in_force(over(*names[:4], "west"), file)
    assert roster_in_force(over(*names[:3]), file) == large.roster  # three have one cohort only


def test_a_chain_without_the_pinned_roster_is_refused() -> None:
    other = signed_roster(("north", "harbour", "west"))
    for chain in ([other], []):
        with pytest.raises(SecAggError, match="does not hold the roster"):
            in_force(chain, ROSTER.digest())


def test_a_chain_with_a_fault_is_refused_wherever_it_is() -> None:
    later = successor(SIGNED)
    half = SignedRoster(ROSTER, SIGNED.signatures[:1])
    for chain in ([half], [half, later], [later], [SIGNED, successor(SIGNED, signers=1)]):
        with pytest.raises(SecAggError):
            in_force(chain, ROSTER.digest())


def test_what_is_no_file_of_rosters_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "roster.cfl"
    write_rosters(file, [SIGNED])
    good = file.read_bytes()
    for bad in (b"", good[:-1], good + b"\0", b"x" + good[1:], good[:16] + b"\0\0"):
        file.write_bytes(bad)
        with pytest.raises(ConfigError, match="not a file of rosters"):
            read_rosters(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_rosters(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_rosters(tmp_path / "nowhere" / "roster.cfl", [SIGNED])
