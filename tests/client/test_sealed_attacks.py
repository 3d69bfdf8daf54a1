"""What a coordinator may try with sealed steps, by name: refused at the agent, or no sum."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from privacy.config import check
from privacy.ledger import State
from privacy.secagg.sealed.opening import offered_session
from privacy.study.manifest import Study
from privacy.wire.bodies import Body, Running
from privacy.wire.checks import Check
from privacy.wire.reasons import Reason
from privacy.wire.sealed import OpenedSum, Sealed
from privacy.wire.secagg import SecAggRefusal
from privacy.wire.session import SessionKey, SessionKeys, SessionOpening
from tests.pooled_study import COORDINATOR

from .fakes import refused
from .sealed import (
    MEMBERS,
    MEMBERS_OF_FOUR,
    SLOT,
    SealedSites,
    TinyCoordinator,
    check_of,
    sealed_study_of_four,
    state_of,
)


def refused_unchanged(
    sites: SealedSites, coordinator: TinyCoordinator, made: Any, wanted: Check, site: int = 1
) -> None:
    """`made` is refused as `wanted` at a site, and nothing there has changed."""
    before = state_of(sites, site)
    assert check_of(coordinator.send(made, site)) is wanted
    assert state_of(sites, site) == before


@pytest.mark.parametrize("bit", [0, 255])
@pytest.mark.parametrize(
    ("field", "wanted"),
    [("adapter", Check.ADAPTER), ("state", Check.STATE), ("sums", Check.SUMS)],
)
def test_a_digest_that_differs_in_one_bit(
    field: str, wanted: Check, bit: int, sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    coordinator.open()
    coordinator.whole()
    right = getattr(coordinator.step(), field)
    number = int.from_bytes(right, "big") ^ 1 << bit
    made = coordinator.step(**{field: number.to_bytes(32, "big")})
    refused_unchanged(sites, coordinator, made, wanted)
    coordinator.whole()


FORGED = {
    "twice": lambda lanes: lanes + lanes,
    "nothing": np.zeros_like,
    "one more": lambda lanes: lanes + np.eye(1, len(lanes), dtype=np.uint64)[0],
    "another order": lambda lanes: np.concatenate([lanes[:2][::-1], lanes[2:]]),
    "a bit of its proof": lambda lanes: lanes ^ np.eye(1, len(lanes), len(lanes) - 1, np.uint64)[0],
}


@pytest.mark.parametrize("forgery", FORGED)
def test_forged_sums(forgery: str, sites: SealedSites, coordinator: TinyCoordinator) -> None:
    """The coordinator alone: it works the next step out from a sum that nobody has sent."""
    coordinator.open()
    honest = coordinator.chain
    found = coordinator.whole()
    false = replace(found, lanes=FORGED[forgery](found.lanes))
    assert isinstance(false, OpenedSum)
    coordinator.chain, coordinator.sums = honest, []
    coordinator.take(false)
    refused_unchanged(sites, coordinator, coordinator.step(), Check.FALSE_SUM)
    coordinator.chain, coordinator.sums = honest, []
    coordinator.take(found)
    coordinator.whole()


def test_a_sum_under_another_label(sites: SealedSites, coordinator: TinyCoordinator) -> None:
    coordinator.open()
    found = coordinator.whole()
    coordinator.sums[-1] = replace(found, label=bytes(32))
    refused_unchanged(sites, coordinator, coordinator.step(), Check.FALSE_SUM)


def test_two_labels_for_one_attempt(sites: SealedSites, coordinator: TinyCoordinator) -> None:
    coordinator.open()
    coordinator.begun()
    other = coordinator.step(slot=SLOT + 1)
    before = state_of(sites, 1)
    assert refused(coordinator.send(other, 1)) is Reason.CONFLICT
    assert state_of(sites, 1) == before


def test_two_vectors_for_one_label(sites: SealedSites, coordinator: TinyCoordinator) -> None:
    coordinator.open()
    step = coordinator.begun()
    sites.sleep(SLOT)
    first = coordinator.bytes_of(step, 1)
    sites.trainers[1].present[:] = False  # whatever the trainer would say now
    assert coordinator.bytes_of(step, 1) == first
    again = replace(step, opening=None)
    assert coordinator.bytes_of(again, 1) == first
    sites.start(1)
    assert refused(coordinator.send(step, 1)) is Reason.NOT_NEWER


def test_another_cohort_at_two_halves_opens_nothing(tmp_path: Any) -> None:
    sites = SealedSites(tmp_path, sealed_study_of_four(), MEMBERS_OF_FOUR)
    coordinator = TinyCoordinator(sites)
    coordinator.open()
    one, other = coordinator.step(), coordinator.step(cohort=(1, 2, 3))
    for site in (1, 2):
        assert coordinator.send(one, site) == Running()
    assert coordinator.send(other, 3) == Running()
    assert check_of(coordinator.send(other, 4)) is Check.COHORT
    sites.sleep(SLOT)
    answers = {1: coordinator.send(one, 1), 2: coordinator.send(one, 2)}
    answers[3] = coordinator.send(other, 3)
    assert coordinator.added(one, answers).lanes[coordinator.sealed.lanes] != 0
    sites.close()


def test_another_model_at_one_site_opens_nothing(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    """It would have to be the site's own chain that differs: it is, after other sums."""
    coordinator.open()
    coordinator.whole()
    agent = sites.agents[1]
    agent._chain.current = agent._chain._start  # a site that has lost its way
    made = replace(coordinator.step(), opened=())
    assert refused(coordinator.send(made, 1)) is Reason.MISSING_SUMS


@pytest.mark.parametrize(
    ("cohort", "wanted"),
    [((1, 2), Check.COHORT_SIZE), ((2, 3), Check.COHORT_SIZE), ((1, 2, 9), Check.NOT_IN_COHORT)],
)
def test_a_short_or_a_strange_cohort(
    cohort: tuple[int, ...], wanted: Check, sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    coordinator.open()
    refused_unchanged(sites, coordinator, coordinator.step(cohort=cohort), wanted)


def test_a_cohort_that_leaves_one_honest_site_of_those_who_collude(tmp_path: Any) -> None:
    """Four sites, of which two may collude with the coordinator: of three, one would be alone."""
    values = sealed_study_of_four().model_dump(mode="json", exclude_none=True)
    values["secure_aggregation"]["colluders"] = 2
    study = check(values, Study, where="study.toml")
    sites = SealedSites(tmp_path, study, MEMBERS_OF_FOUR)
    coordinator = TinyCoordinator(sites)
    coordinator.open()
    refused_unchanged(sites, coordinator, coordinator.step(cohort=(1, 2, 3)), Check.COLLUDERS)
    assert coordinator.send(coordinator.step(), 1) == Running()
    sites.close()


def test_more_colluders_than_all_but_two(tmp_path: Any) -> None:
    sites = SealedSites(
        tmp_path, sealed_study_of_four(min_sites=4), MEMBERS_OF_FOUR, policy={"max_colluders": 2}
    )
    coordinator = TinyCoordinator(sites)
    coordinator.open()
    refused_unchanged(sites, coordinator, coordinator.step(cohort=(1, 2, 3)), Check.COHORT_SIZE)
    assert coordinator.send(coordinator.step(), 1) == Running()
    sites.close()


def test_a_session_offer_that_the_coordinators_key_has_not_signed(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    impostor = MEMBERS.identities["harbour"]
    offer = offered_session(impostor, coordinator.sealed, 1, 1, (1, 2, 3), 9_999)
    before = state_of(sites, 1)
    assert check_of(coordinator.ask(1, offer)) is Check.SIGNATURE
    assert state_of(sites, 1) == before


def test_a_step_that_the_coordinators_key_has_not_signed(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    coordinator.open()
    made = replace(coordinator.step(), signature=bytes(64))
    refused_unchanged(sites, coordinator, made, Check.SIGNATURE)


def test_terms_weaker_than_the_studys(sites: SealedSites, coordinator: TinyCoordinator) -> None:
    weaker = replace(coordinator.sealed, terms_digest=bytes(32))
    offer = offered_session(COORDINATOR, weaker, 1, 1, (1, 2, 3), 9_999)
    before = state_of(sites, 1)
    assert check_of(coordinator.ask(1, offer)) is Check.PRIVACY
    assert state_of(sites, 1) == before


def test_another_study_at_one_site(coordinator: TinyCoordinator) -> None:
    """Another number of colluders makes another study, to which the site does not answer."""
    other = replace(coordinator.sealed, study_digest=bytes(32))
    offer = offered_session(COORDINATOR, other, 1, 1, (1, 2, 3), 9_999)
    assert refused(coordinator.ask(1, offer)) is Reason.WRONG_STUDY


def test_replayed_session_keys(sites: SealedSites, coordinator: TinyCoordinator) -> None:
    """Keys of an earlier session, in the list of this one."""
    old = coordinator.open()
    coordinator.open()
    assert coordinator.opening is not None
    fresh = coordinator.opening.keys.entries
    mixed = SessionKeys((fresh[0], old.keys.entries[1], fresh[2]))
    coordinator.opening = SessionOpening(mixed, coordinator.opening.group)
    refused_unchanged(sites, coordinator, coordinator.step(), Check.SECOND_KEYS)  # the dealer
    refused_unchanged(sites, coordinator, coordinator.step(), Check.SIGNATURE, site=3)


def test_a_list_without_the_sites_own_key(sites: SealedSites, coordinator: TinyCoordinator) -> None:
    opening = coordinator.open()
    cut = SessionKeys(opening.keys.entries[1:])
    coordinator.opening = SessionOpening(cut, opening.group)
    answer = coordinator.send(coordinator.step(cohort=(2, 3)), 1)
    assert check_of(answer) in (Check.OWN_KEY, Check.SECOND_KEYS, Check.COHORT)
    assert sites.ledgers[1].entries() == ()


def test_a_second_key_list(sites: SealedSites, coordinator: TinyCoordinator) -> None:
    coordinator.open()
    coordinator.whole()
    opening = coordinator.opening
    assert opening is not None
    listed = SessionKeys(opening.keys.entries[:2])
    coordinator.opening = SessionOpening(listed, opening.group)
    refused_unchanged(sites, coordinator, coordinator.step(), Check.SECOND_KEYS)


@pytest.mark.parametrize("attempt", [4, 1000, 2**32 - 1])
def test_a_jump_beyond_the_last_epoch(
    attempt: int, sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    coordinator.open()
    before = state_of(sites, 1)
    answer = coordinator.send(coordinator.step(attempt), 1)
    assert answer != Running()
    assert state_of(sites, 1) == before


def test_attempts_may_be_skipped_up_to_the_last_epoch(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    coordinator.open()
    for _ in range(sites.study.rounds):
        coordinator.whole(3)


def test_an_expired_session(sites: SealedSites, coordinator: TinyCoordinator) -> None:
    coordinator.open()
    coordinator.whole()
    sites.sleep(3600)
    refused_unchanged(sites, coordinator, coordinator.step(), Check.EXPIRED)
    coordinator.open()
    coordinator.whole()


def test_a_late_vector_of_an_expired_session(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    coordinator.open()
    step = coordinator.begun()
    sites.sleep(3600)
    answer: Body = coordinator.send(step, 1)
    assert not isinstance(answer, Sealed)


def test_a_session_longer_than_the_study_allows(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    assert sites.study.pooled is not None
    longest = int(sites.study.pooled.session_hours * 3600) + 300  # and 5 minutes between clocks
    now = int(sites.unix.time())
    offer = coordinator.offered(expiry=now + longest + 1)
    assert check_of(coordinator.ask(1, offer)) is Check.EXPIRED
    assert sites.ledgers[1].newest_session(sites.study.digest()) == 0
    assert isinstance(coordinator.ask(1, coordinator.offered(expiry=now + longest)), SessionKey)


@pytest.mark.parametrize("slot", [-1.0, 0.0, 3601.0])
def test_a_slot_that_is_over_or_behind_the_sessions_end(
    slot: float, sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    coordinator.open()
    refused_unchanged(sites, coordinator, coordinator.step(slot=slot), Check.SLOT)


def test_a_slot_of_a_moment_gives_training_its_whole_time(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    """A coordinator that asks at once would learn how long training takes."""
    coordinator.open()
    step = coordinator.begun(slot=0.001)
    sites.sleep(SLOT - 0.01)
    assert coordinator.send(step, 1) == Running()
    sites.sleep(0.02)
    assert isinstance(coordinator.send(step, 1), Sealed)


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_a_clock_step_across_a_slot(
    jump: float, sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    coordinator.open()
    step = coordinator.begun()
    sites.unix.now += jump
    assert coordinator.send(step, 1) == Running()
    assert sites.ledgers[1].entries()[0].state is State.INTENT
    sites.sleep(SLOT)
    assert isinstance(coordinator.send(step, 1), Sealed)


def test_a_session_that_ends_takes_its_attempts_with_it(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    coordinator.open()
    step = coordinator.begun()
    sites.sleep(SLOT)
    coordinator.open()
    answer = coordinator.send(step, 1)
    assert isinstance(answer, SecAggRefusal)
    assert answer.check is Check.NO_SESSION
    assert sites.ledgers[1].entries()[0].state is State.INTENT
    coordinator.whole(2)


def test_an_offer_again_ends_nothing(sites: SealedSites, coordinator: TinyCoordinator) -> None:
    coordinator.open()
    step = coordinator.begun()
    assert coordinator.offer is not None
    key = coordinator.ask(1, coordinator.offer)
    assert coordinator.opening is not None
    assert key == coordinator.opening.keys.entries[0]
    sites.sleep(SLOT)
    assert isinstance(coordinator.send(step, 1), Sealed)


def test_a_withdrawal_between_steps_changes_no_byte_of_anybody_else(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two worlds with the same keys; in one a patient of the first site has withdrawn."""
    monkeypatch.setattr("privacy.ledger.sqlite.secrets.token_bytes", bytes)  # the ledgers' ids
    answers = []
    for world in ("without", "with"):
        (tmp_path / world).mkdir()
        sites = SealedSites(tmp_path / world, seed=b"the same in both")
        coordinator = TinyCoordinator(sites)
        coordinator.open()
        coordinator.whole()
        if world == "with":
            sites.trainers[1].present[3] = False
        step = coordinator.begun()
        sites.sleep(SLOT)
        answers.append([coordinator.bytes_of(step, site) for site in (1, 2, 3)])
        sites.close()
    without, with_one = answers
    assert without[1:] == with_one[1:]
    assert without[0] != with_one[0]  # else nothing was tried
    assert len(without[0]) == len(with_one[0])
