"""Cohorts that a coordinator chooses so that sums tell of single sites, against the real agent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client.agent.cohorts import Cohorts
from client.agent.site_agent import SiteAgent
from privacy.errors import ConfigError, DeploymentError
from privacy.ledger import SqliteLedger
from privacy.secagg.server import Stage
from privacy.wire.checks import Check
from privacy.wire.reasons import Reason
from privacy.wire.secagg import Advertise, SecAggRefusal

from .fakes import RUN, FakeTrainer, refused, snapshot
from .masked import MaskedAttempt, make_masked_agent, masked_rules
from .studies import make_study

STUDY = make_study(4, privacy={"attempts": 3})
GREW = SecAggRefusal(Check.COHORT_GREW, 4)
Start = Callable[[], SiteAgent]


@pytest.fixture
def start(tmp_path: Path, ledger: SqliteLedger, trainer: FakeTrainer) -> Iterator[Start]:
    """Start the agent of north; the one before is stopped, as when the machine is restarted."""
    running: list[SiteAgent] = []
    (tmp_path / "state").mkdir()

    def anew() -> SiteAgent:
        for agent in running:
            assert agent.stop(10)
        rules = masked_rules(STUDY, max_attempts=3, epsilon=30.0, study_epsilon=30.0)
        file = tmp_path / "state" / "cohorts.json"
        running.append(make_masked_agent(ledger, trainer, rules, cohorts=file))
        return running[-1]

    yield anew
    for agent in running:
        assert agent.stop(10)


@pytest.mark.parametrize("restarted", [False, True], ids=["at once", "after a restart"])
@pytest.mark.parametrize("other_run", [False, True], ids=["the same run", "another run"])
def test_differencing_cohorts_are_refused(
    start: Start, ledger: SqliteLedger, restarted: bool, other_run: bool
) -> None:
    """One adapter, the sum of {1,2,3}: then neither that of {1,2,4} nor of {1,3,4}, nor of all."""
    agent = start()
    MaskedAttempt(STUDY, cohort=(1, 2, 3)).to(Stage.DONE, agent)
    if restarted:
        agent = start()
    again = {"run": RUN + 1, "attempt": 1} if other_run else {"attempt": 2}
    before = snapshot(agent, ledger)
    for cohort in ((1, 2, 4), (1, 3, 4), (1, 2, 3, 4)):
        assert MaskedAttempt(STUDY, cohort=cohort, **again).ask(agent) == GREW
    assert snapshot(agent, ledger) == before
    MaskedAttempt(STUDY, cohort=(1, 2, 3), **again).to(Stage.DONE, agent)


@pytest.mark.parametrize("restarted", [False, True], ids=["at once", "after a restart"])
def test_who_was_not_in_the_signed_sum_stays_out_of_the_round(
    start: Start, restarted: bool
) -> None:
    """The coordinator says that site 4 fell silent: it cannot have the sum with it as well."""
    agent = start()
    attempt = MaskedAttempt(STUDY)
    attempt.to(Stage.INPUT, agent)
    attempt.advance(agent, silent=[4])
    attempt.advance(agent)  # signed: sites 1 to 3
    if restarted:
        agent = start()
    assert MaskedAttempt(STUDY, attempt=2).ask(agent) == GREW
    assert MaskedAttempt(STUDY, attempt=2, cohort=(1, 2, 4)).ask(agent) == GREW
    MaskedAttempt(STUDY, attempt=2, cohort=(1, 2, 3)).to(Stage.DONE, agent)


def test_an_offer_counts_whatever_comes_of_it(start: Start) -> None:
    agent = start()
    assert isinstance(MaskedAttempt(STUDY, cohort=(1, 2, 3)).ask(agent), Advertise)
    assert MaskedAttempt(STUDY, attempt=2).ask(start()) == GREW


def test_a_cohort_may_shrink_and_stay(start: Start) -> None:
    agent = start()
    for attempt, cohort in enumerate(((1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 4)), start=1):
        MaskedAttempt(STUDY, attempt=attempt, cohort=cohort).to(Stage.DONE, agent)


def test_rounds_have_cohorts_of_their_own(start: Start) -> None:
    """A site that was away comes back with the next round; docs/secure-aggregation.md says so."""
    agent = start()
    MaskedAttempt(STUDY, cohort=(1, 2, 3)).to(Stage.DONE, agent)
    MaskedAttempt(STUDY, round=2).to(Stage.DONE, agent)


def test_no_key_leaves_before_the_cohort_is_on_disk(
    start: Start, tmp_path: Path, ledger: SqliteLedger
) -> None:
    agent, attempt = start(), MaskedAttempt(STUDY)
    (tmp_path / "state").rmdir()
    assert refused(attempt.ask(agent)) == Reason.INTERNAL
    assert ledger.entries() == ()
    (tmp_path / "state").mkdir()
    assert isinstance(attempt.ask(agent), Advertise)


def test_the_journal_is_kept_by_study_and_round(tmp_path: Path) -> None:
    file = tmp_path / "cohorts.json"
    one, other = Cohorts(file, b"\1" * 32), Cohorts(tmp_path / "other.json", b"\2" * 32)
    assert one.strangers(1, (1, 2, 3)) == frozenset()
    one.narrow(1, (3, 1, 2))
    one.narrow(1, (2, 3, 4))  # 4 was out, and stays out
    one.narrow(2, (1, 2, 4))
    again = Cohorts(file, b"\1" * 32)
    assert again.strangers(1, (1, 2, 3, 4)) == {1, 4}
    assert again.strangers(2, (1, 2, 4)) == frozenset()
    other.narrow(1, (7, 8, 9))
    assert Cohorts(file, b"\2" * 32).strangers(1, (1, 2)) == frozenset()
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("data", [b"", b"[]", b'{"ab": 1}', b'{"ab": {"x": [1]}}', b"\xff"])
def test_a_damaged_journal_is_not_taken_for_an_empty_one(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "cohorts.json"
    file.write_bytes(data)
    with pytest.raises(ConfigError, match="is damaged"):
        Cohorts(file, bytes(32))


def test_what_cannot_be_written_is_not_remembered(tmp_path: Path) -> None:
    cohorts = Cohorts(tmp_path / "gone" / "cohorts.json", bytes(32))
    with pytest.raises(DeploymentError, match="cannot be written"):
        cohorts.narrow(1, (1, 2, 3))
    assert cohorts.strangers(1, (4,)) == frozenset()
