"""The site agent in masked attempts: what it answers, what it journals, what never leaves it."""

from __future__ import annotations

import hashlib
import logging
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from client.agent.site_agent import SiteAgent
from privacy.identity import verify
from privacy.ledger import SqliteLedger, State
from privacy.secagg.client import ClientStage, Effects
from privacy.secagg.server import Stage
from privacy.wire.bodies import Running, SignedFacts
from privacy.wire.checks import Check
from privacy.wire.offer import TrainMasked
from privacy.wire.reasons import Reason
from privacy.wire.secagg import (
    Advertise,
    Advertisements,
    Consistency,
    Deliver,
    MaskedInput,
    SecAggRefusal,
    ShareBundle,
    Survivors,
    Unmask,
    UnmaskRequest,
)
from tests.privacy.ledger.ledgers import book_of, spent_by

from .fakes import (
    FakeTrainer,
    P,
    full_disk,
    hello,
    refused,
    snapshot,
)
from .masked import IDENTITIES, MaskedAttempt, make_masked_agent, masked_rules
from .studies import make_study


def test_what_a_site_says_of_itself_is_signed_for_one_run_and_node(agent: SiteAgent) -> None:
    attempt = MaskedAttempt()
    said = attempt.ask(agent, hello(make_study(), 77))
    assert isinstance(said, SignedFacts)
    # Written out once more, so that no helper is wrong on both sides.
    tag, place = b"craftsfl secure aggregation 1 site-facts", struct.pack(">QQ", attempt.key[0], 77)
    parts = (tag, place, said.facts.encode())
    whole = b"".join(struct.pack(">Q", len(part)) + part for part in parts)
    text = hashlib.sha256(whole).digest()
    assert verify(IDENTITIES["north"].public, said.signature, text)
    assert attempt.ask(agent, hello(make_study(), 78)) != said


def test_an_attempt_from_the_offer_to_the_sum(agent: SiteAgent, ledger: SqliteLedger) -> None:
    attempt = MaskedAttempt()
    answers = []
    while attempt.stage is not Stage.DONE:
        answers.append(type(attempt.advance(agent)))
    assert answers == [Advertise, ShareBundle, MaskedInput, Consistency, Unmask]
    # The agent's update is all ones, the peers' all twos and threes; weights 1/6, 2/6, 3/6.
    assert np.allclose(attempt.total(), (1 + 2 * 2 + 3 * 3) / 6, atol=5e-3)
    assert [entry.state for entry in ledger.entries()] == [State.COMMITTED]


def test_keys_are_exchanged_while_the_site_trains(
    agent: SiteAgent, trainer: FakeTrainer, ledger: SqliteLedger
) -> None:
    trainer.gate.clear()
    attempt = MaskedAttempt()
    attempt.to(Stage.INPUT, agent)
    assert attempt.ask(agent) == Running()
    assert attempt.ask(agent) == Running()
    assert spent_by(ledger) == 0
    trainer.gate.set()
    assert isinstance(attempt.patiently(agent), MaskedInput)
    assert spent_by(ledger) > 0


def test_no_key_leaves_and_nothing_trains_without_a_durable_intent(
    agent: SiteAgent, trainer: FakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = MaskedAttempt()
    monkeypatch.setattr(SqliteLedger, "intent", full_disk)
    assert refused(attempt.ask(agent)) == Reason.INTERNAL
    assert trainer.calls == 0
    assert refused(attempt.ask(agent, Survivors((1, 2, 3)))) == Reason.NOT_STARTED


def test_no_masked_update_leaves_without_a_durable_commit(
    agent: SiteAgent, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = MaskedAttempt()
    attempt.to(Stage.INPUT, agent)
    with monkeypatch.context() as patch:
        patch.setattr(SqliteLedger, "commit", full_disk)
        assert refused(attempt.patiently(agent)) == Reason.INTERNAL
    assert spent_by(ledger) == 0
    assert isinstance(attempt.patiently(agent), MaskedInput)
    assert spent_by(ledger) > 0


def test_the_charge_is_committed_before_the_update_is_masked(
    agent: SiteAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = []
    commit = SqliteLedger.commit

    def watched(self: SqliteLedger, key: object) -> None:
        assert agent._attempt is not None
        assert agent._attempt.client is not None
        stages.append(agent._attempt.client.stage)
        commit(self, key)  # type: ignore[arg-type]

    monkeypatch.setattr(SqliteLedger, "commit", watched)
    MaskedAttempt().to(Stage.CONSISTENCY, agent)
    assert stages == [ClientStage.WAITING]


@pytest.mark.parametrize(
    "stage", [stage for stage in Stage if stage.value not in ("done", "aborted")]
)
def test_the_same_bytes_get_the_same_answer(agent: SiteAgent, stage: Stage) -> None:
    attempt = MaskedAttempt()
    attempt.to(stage, agent)
    first = attempt.patiently(agent)
    request = attempt.envelope(attempt.request())
    assert agent.handle(request) == agent.handle(request) == attempt.envelope(first)


OUT_OF_PLACE = {
    "survivors too early": Survivors((1, 2, 3)),
    "unmask too early": UnmaskRequest(((1, bytes(64)),)),
    "no keys": Advertisements(()),
    "strange shares": Deliver(((7, bytes(82)),)),
}


@pytest.mark.parametrize("name", OUT_OF_PLACE)
@pytest.mark.parametrize("stage", [Stage.SHARE, Stage.INPUT])
def test_what_is_out_of_place_is_refused_and_changes_nothing(
    agent: SiteAgent, ledger: SqliteLedger, trainer: FakeTrainer, name: str, stage: Stage
) -> None:
    trainer.gate.clear()
    attempt = MaskedAttempt()
    attempt.to(stage, agent)
    before = snapshot(agent, ledger)
    assert isinstance(attempt.ask(agent, OUT_OF_PLACE[name]), SecAggRefusal)
    assert snapshot(agent, ledger) == before
    trainer.gate.set()
    attempt.to(Stage.DONE, agent)


def test_a_refused_delivery_charges_nothing(agent: SiteAgent, ledger: SqliteLedger) -> None:
    attempt = MaskedAttempt()
    attempt.to(Stage.INPUT, agent)
    assert agent._attempt is not None
    assert agent._attempt.work.wait(10)
    (first, sealed), second = attempt.request().shares  # type: ignore[attr-defined]
    tampered = Deliver(((first, sealed[:-1] + bytes([sealed[-1] ^ 1])), second))
    assert attempt.ask(agent, tampered) == SecAggRefusal(Check.SHARE, first)
    assert spent_by(ledger) == 0


def test_a_newer_attempt_forgets_the_older_ones_secrets(
    agent: SiteAgent, ledger: SqliteLedger
) -> None:
    first, second = MaskedAttempt(), MaskedAttempt(attempt=2)
    first.to(Stage.INPUT, agent)
    assert agent._attempt is not None
    machine = agent._attempt.client
    assert machine is not None
    assert isinstance(second.ask(agent), Advertise)
    assert (machine.stage, machine._state.secrets, machine._lanes) == (ClientStage.DONE, None, None)
    assert refused(first.ask(agent)) == Reason.NOT_STARTED
    second.to(Stage.DONE, agent)
    assert [entry.state for entry in ledger.entries()] == [State.INTENT, State.COMMITTED]


def test_two_attempts_share_no_key_and_no_masked_update(agent: SiteAgent) -> None:
    seen = []
    for number in (1, 2):
        attempt = MaskedAttempt(attempt=number)
        advertise, _, masked, *_ = [attempt.advance(agent) for _ in range(5)]
        assert isinstance(advertise, Advertise)
        assert isinstance(masked, MaskedInput)
        seen.append({advertise.share_key, advertise.mask_key, advertise.commitment})
        seen.append({masked.lanes.tobytes()})
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[3]


@pytest.mark.parametrize("stage", [Stage.SHARE, Stage.INPUT, Stage.CONSISTENCY, Stage.UNMASK])
def test_a_restarted_agent_knows_nothing_of_an_open_attempt(
    agent: SiteAgent, ledger: SqliteLedger, trainer: FakeTrainer, stage: Stage
) -> None:
    attempt = MaskedAttempt()
    attempt.to(stage, agent)
    again = make_masked_agent(ledger, trainer)
    before = snapshot(again, ledger)
    first = TrainMasked(attempt.offer, attempt.start)
    assert refused(attempt.ask(again)) == Reason.NOT_STARTED
    assert refused(attempt.ask(again, first)) == Reason.NOT_NEWER
    assert snapshot(again, ledger) == before
    MaskedAttempt(attempt=2).to(Stage.DONE, again)


@pytest.mark.parametrize(
    "result",
    [
        lambda adapter: np.full_like(adapter, np.nan),
        lambda adapter: adapter[1:],
        lambda adapter: adapter.astype(float),
    ],
)
def test_a_useless_result_does_not_leave_and_is_charged(
    agent: SiteAgent, ledger: SqliteLedger, trainer: FakeTrainer, result: Callable[..., np.ndarray]
) -> None:
    trainer.result = result
    attempt = MaskedAttempt()
    attempt.to(Stage.INPUT, agent)
    assert refused(attempt.patiently(agent)) == Reason.NO_UPDATE
    assert spent_by(ledger) > 0
    assert refused(attempt.ask(agent)) == Reason.NO_UPDATE
    assert refused(attempt.ask(agent, Survivors((1, 2, 3)))) == Reason.NO_UPDATE
    assert len(book_of(ledger).of_study(attempt.study.digest())) == 1


def test_after_stop_nothing_leaves(agent: SiteAgent, ledger: SqliteLedger) -> None:
    attempt = MaskedAttempt()
    attempt.to(Stage.INPUT, agent)
    assert agent._attempt is not None
    machine = agent._attempt.client
    assert agent.stop(10)
    assert refused(attempt.ask(agent)) == Reason.STOPPED
    assert machine is not None
    assert machine.stage is ClientStage.DONE
    assert spent_by(ledger) == 0


@pytest.mark.parametrize("kind", [4, 5])
def test_an_update_in_clear_cannot_be_asked_for(
    agent: SiteAgent, ledger: SqliteLedger, kind: int
) -> None:
    """The kinds of messages with which an older craftsfl asked for one are never used again."""
    attempt = MaskedAttempt()
    attempt.ask(agent)
    before = snapshot(agent, ledger)
    old = type("Old", (Running,), {"KIND": kind})()
    assert refused(attempt.ask(agent, old)) == Reason.UNKNOWN_KIND
    assert snapshot(agent, ledger) == before
    assert len(book_of(ledger).of_study(attempt.study.digest())) == 0


def test_without_noise_sums_that_tell_of_one_site_are_refused(
    ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    study = make_study(4, training={"noise_multiplier": 0.0})
    agent = make_masked_agent(ledger, trainer, masked_rules(study, allow_no_privacy=True))
    MaskedAttempt(study).to(Stage.DONE, agent)
    second = MaskedAttempt(study, round=2)
    second.to(Stage.INPUT, agent)
    second.advance(agent, silent=[4])
    assert second.ask(agent) == SecAggRefusal(Check.DIFFERENCING, 0)


def without_noise(ledger: SqliteLedger, trainer: FakeTrainer, file: Path) -> SiteAgent:
    study = make_study(4, training={"noise_multiplier": 0.0})
    rules = masked_rules(study, allow_no_privacy=True)
    return make_masked_agent(ledger, trainer, rules, survivors=file)


def test_a_restart_does_not_forget_who_was_in_the_sums(
    tmp_path: Path, ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    file = tmp_path / "survivors.json"
    agent = without_noise(ledger, trainer, file)
    study = agent._rules.study
    MaskedAttempt(study).to(Stage.DONE, agent)
    assert agent.stop(10)
    again = without_noise(ledger, trainer, file)
    second = MaskedAttempt(study, round=2)
    second.to(Stage.INPUT, again)
    second.advance(again, silent=[4])
    assert second.ask(again) == SecAggRefusal(Check.DIFFERENCING, 0)


def test_no_signature_over_survivors_leaves_before_they_are_on_disk(
    tmp_path: Path, ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    (tmp_path / "state").mkdir()
    agent = without_noise(ledger, trainer, tmp_path / "state" / "survivors.json")
    attempt = MaskedAttempt(agent._rules.study)
    attempt.to(Stage.CONSISTENCY, agent)
    (tmp_path / "state").rmdir()
    assert refused(attempt.ask(agent)) == Reason.INTERNAL
    assert refused(attempt.ask(agent)) == Reason.INTERNAL
    (tmp_path / "state").mkdir()
    attempt.to(Stage.DONE, agent)


class Recording:
    """Random bytes, all of which are kept to be looked for later."""

    def __init__(self) -> None:
        self.given: list[bytes] = []

    def __call__(self, count: int) -> bytes:
        data = os.urandom(count)
        self.given.append(data)
        return data


def test_no_secret_of_an_attempt_is_sent_logged_or_written(
    tmp_path: Path, ledger: SqliteLedger, trainer: FakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    """Private keys, the seed b and the update itself: in no reply, log line or file."""
    random = Recording()
    canary = np.frombuffer(b"canary-in-the-updates---", np.float32)
    assert canary.size == P
    trainer.result = lambda adapter: canary.copy()
    rules = masked_rules(make_study(secure_aggregation={"bound": 1e30}))
    effects = Effects(random=random)
    agent = make_masked_agent(ledger, trainer, rules, effects)
    attempt, replies = MaskedAttempt(rules.study), []

    def handle(data: bytes) -> bytes:
        replies.append(agent.handle(data))
        return replies[-1]

    with caplog.at_level(logging.DEBUG):
        attempt.to(Stage.DONE, handle)
        handle(attempt.envelope(Survivors((1, 2))))
    keys = [data for data in random.given if len(data) == 32][:3]  # share key, mask key, b
    secrets = [*keys, IDENTITIES["north"].pem(None), b"canary"]
    places = [*replies, caplog.text.encode()]
    places += [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert len(keys) == 3
    assert len(places) > 7
    for secret in secrets:
        for form in (secret, secret.hex().encode(), repr(secret)[2:-1].encode()):
            assert not any(form in place for place in places)
