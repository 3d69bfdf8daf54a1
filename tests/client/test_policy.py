from __future__ import annotations

from typing import Any

import pytest

from client.policy import SiteRules
from privacy.errors import ConfigError, PolicyError
from privacy.ledger import AttemptKey, Charge, Entry, State
from privacy.secagg.offer import most_absent
from privacy.study.terms import event_of

from .studies import make_policy, make_study


def rules(policy: dict[str, Any] | None = None, name: str = "north", **study: Any) -> SiteRules:
    return SiteRules(name, make_study(**study), make_policy(**(policy or {})))


def charged_at(delta: float) -> list[Entry]:
    """What the ledger holds of another study."""
    charge = Charge(bytes(32), event_of(make_study()), delta)
    return [Entry(AttemptKey(charge.study_digest, 1, 1, 1), charge, State.INTENT, 1, 1.0)]


def test_an_allowed_study_passes() -> None:
    rules().check()
    rules({"studies": (make_study().digest().hex(),)}).check()


def test_every_exceeded_bound_is_named_at_once() -> None:
    strict = {
        "max_rounds": 2,
        "max_attempts": 1,
        "max_steps_per_round": 3,
        "max_sampling_rate": 0.4,
        "max_tiles_per_patient": 1,
        "max_clipping_norm": 0.5,
        "min_noise_multiplier": 2.0,
        "delta": 1e-6,
        "studies": ("0" * 64,),
        "mechanisms": ("pooled",),
        "bases": ("sha256:" + "cd" * 32,),
        "max_learning_rate": 0.05,
    }
    with pytest.raises(PolicyError) as caught:
        rules(strict).check()
    named = ["rounds 3", "attempts 2", "steps a round 4", "sampling_rate 0.5", "delta 1e-05"]
    named += [
        "tiles_per_patient 2",
        "clipping_norm 1",
        "noise_multiplier 1",
        "`studies`",
        "`bases`",
        "learning_rate 0.1",
        '"local"',
    ]
    assert [text for text in named if text not in caught.value.message] == []


def test_the_studys_roster_is_the_policys() -> None:
    other = make_policy(roster="0" * 64)
    with pytest.raises(PolicyError, match="is not the policy's `roster`"):
        SiteRules("north", make_study(), other).check()


def test_few_of_a_studys_sites_may_be_left_out_of_a_sum() -> None:
    """The more cohorts there are to choose from, the more sums can be compared."""
    SiteRules("north", make_study(4), make_policy()).check()
    sites = [{"name": f"s{n}", "declared_patients": 10} for n in range(5)]
    wide = make_study(**{**make_study(4).model_dump(mode="json"), "sites": sites})
    with pytest.raises(PolicyError, match=r"may lack 2 of 5 sites.*max_absent is 1"):
        SiteRules("s0", wide, make_policy()).check()
    SiteRules("s0", wide, make_policy(max_absent=2)).check()
    with pytest.raises(PolicyError, match=r"may lack 1 of 4 sites.*max_absent is 0"):
        SiteRules("north", make_study(4), make_policy(max_absent=0)).check()


@pytest.mark.parametrize(("sites", "absent"), [(3, 0), (4, 1), (19, 1), (20, 2), (100, 10)])
def test_how_many_may_be_absent_by_default(sites: int, absent: int) -> None:
    assert most_absent(sites) == absent


def test_more_colluders_than_a_cohort_withstands_are_refused() -> None:
    SiteRules("north", make_study(), make_policy(max_colluders=1)).check()
    with pytest.raises(PolicyError, match="3 sites do not withstand max_colluders 2"):
        SiteRules("north", make_study(), make_policy(max_colluders=2)).check()


def test_a_sum_of_fewer_sites_than_the_policy_wants_is_refused() -> None:
    policy = make_policy(min_cohort=4)
    SiteRules("north", make_study(4, cohort={"min_sites": 4}), policy).check()
    with pytest.raises(PolicyError, match=r"a sum may be of 3 sites .* below min_cohort 4"):
        SiteRules("north", make_study(4), policy).check()


def test_the_rank_is_bounded() -> None:
    wide = {"adapter": {"rank": 65}}
    with pytest.raises(PolicyError, match="rank 65 is above 64"):
        rules(**wide).check()
    rules({"max_rank": 65}, **wide).check()


@pytest.mark.parametrize("base", ["sha256:" + "ab" * 32, "ab" * 32])
def test_the_bases_that_are_named_are_allowed(base: str) -> None:
    rules({"bases": ("sha256:" + "00" * 32, base)}).check()


def test_a_renyi_filter_has_its_own_delta() -> None:
    with pytest.raises(PolicyError, match="deltas of all studies"):
        rules().check_other_studies(charged_at(1e-6))
    filtered = rules({"across_studies": "rdp-filter", "rdp_order": 8})
    filtered.check_other_studies(charged_at(1e-6))
    # What it leaves for draws beyond a step's capacity is enough for ten times its delta.
    ten_times = 10 * filtered.policy.delta - filtered.study.privacy.delta
    filtered.check_other_studies(charged_at(ten_times))
    with pytest.raises(PolicyError, match="deltas of all studies"):
        filtered.check_other_studies(charged_at(ten_times * 1.01))


def test_a_site_outside_of_the_study_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="does not list a site called west; it lists north, south"
    ):
        rules(name="west").check()


def test_no_noise_needs_the_spelled_out_permission() -> None:
    silent = {"training": {"noise_multiplier": 0.0}}
    with pytest.raises(PolicyError, match="no privacy at all"):
        rules(**silent).check()
    rules({"allow_no_privacy": True}, **silent).check()


def test_the_permission_for_no_noise_does_not_admit_little_noise() -> None:
    with pytest.raises(PolicyError, match="below min_noise_multiplier"):
        rules({"allow_no_privacy": True}, training={"noise_multiplier": 0.1}).check()


@pytest.mark.parametrize(("patients", "fits"), [(4, False), (5, True), (20, True), (21, False)])
def test_declared_and_usable_patients_agree_within_rounding(patients: int, fits: bool) -> None:
    doubt = rules().cohort_doubt(patients)
    assert doubt == "" if fits else "declares 10 patients" in doubt


def test_the_adapter_is_bounded() -> None:
    rules({"max_parameters": 10}).check_parameters(10)
    with pytest.raises(PolicyError, match="11 parameters"):
        rules({"max_parameters": 10}).check_parameters(11)


ENCODER = "sha256:" + "ef" * 32


@pytest.mark.parametrize("encoders", [(ENCODER,), ("ef" * 32,), ("any",), (), ("00" * 32,)])
@pytest.mark.parametrize("term", ["structure", "effects"])
def test_a_frozen_encoder_sees_tiles_or_captions_only_where_it_is_named(
    encoders: tuple[str, ...], term: str
) -> None:
    pinned = {"source": "tiny", "digest": ENCODER}
    own = {"structure": {"block": "up_blocks.1"}, "effects": {"phrases": ["fat", "glands", "a"]}}
    table = {"weight": 0.5, "margin": 0.6, "encoder": pinned, **own[term]}
    study = {"training": {"loss": "stage-two"}, "stage_two": {term: table}}
    asked = rules({"encoders": encoders}, **study)
    if encoders in ((), ("00" * 32,)):
        with pytest.raises(PolicyError, match=f"encoder {ENCODER} is not among `encoders`"):
            asked.check()
    else:
        asked.check()
    rules(training={"loss": "stage-two"}, stage_two={"drift": {"weight": 0.5}}).check()
