"""Patients who withdraw while the agent runs: out of the next draw, and nobody can tell."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.agent.startup import load
from client.agent.state import StateFolder
from client.agent.withdrawals import ConsentingTrainer, purge
from client.data import SiteData
from client.patients import Patients, open_patients
from client.trainer.loading import load_data
from privacy.errors import LedgerError
from privacy.secagg.client import Effects
from privacy.secagg.encoding import Encoding
from privacy.wire.bodies import Refusal
from privacy.wire.reasons import Reason
from privacy.wire.secagg import Advertise, MaskedInput
from tests.privacy.ledger.ledgers import open_test_ledger, spent_by

from .fakes import ADAPTER, FakeTrainer, hello, make_agent, message
from .hospital import write_hospital
from .masked import NOON, attempt_of, collect, look, make_masked_agent, start
from .studies import make_study, seeded_bytes


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    (tmp_path / "state").mkdir()
    return StateFolder(tmp_path / "state")


@pytest.fixture
def patients(state: StateFolder) -> Iterator[Patients]:
    with open_patients(state.path) as patients:
        yield patients


@pytest.fixture
def data(tmp_path: Path, state: StateFolder, patients: Patients) -> SiteData:
    return load_data(load(write_hospital(tmp_path, study=make_study())), state, patients)


def withdraw(state: StateFolder, *names: int) -> None:
    """As another process does."""
    with open_patients(state.path) as others:
        for name in names:
            line = others.find(f"canary-patient-{name}")
            assert line is not None
            others.register.withdraw(line)


def consenting(data: SiteData, patients: Patients, state: StateFolder) -> ConsentingTrainer:
    return ConsentingTrainer(FakeTrainer(), data, patients, state.cache)


def inner(trainer: ConsentingTrainer) -> FakeTrainer:
    found = trainer._trainer
    assert isinstance(found, FakeTrainer)
    return found


def test_a_withdrawal_takes_effect_once(
    data: SiteData, patients: Patients, state: StateFolder, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = consenting(data, patients, state)
    trainer.apply()
    assert inner(trainer).withdrawn == set()
    withdraw(state, 3, 7)
    trainer.apply()
    assert inner(trainer).withdrawn == {3, 7}
    inner(trainer).withdrawn.clear()
    trainer.apply()
    withdraw(state, 4)
    trainer.apply()
    assert inner(trainer).withdrawn == {4}
    assert "canary" not in caplog.text
    line = patients.find("canary-patient-4")
    assert line is not None
    assert patients.key.short(line) in caplog.text


@pytest.mark.parametrize("error", [LedgerError("The register is busy."), MemoryError()])
def test_a_withdrawal_that_failed_half_way_is_made_good(
    data: SiteData,
    patients: Patients,
    state: StateFolder,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    """The register says once that it changed; whoever could not act on it acts the next time."""

    def fails(*_: object) -> None:
        raise error

    trainer = consenting(data, patients, state)
    withdraw(state, 3)
    with monkeypatch.context() as patch:
        if isinstance(error, LedgerError):
            patch.setattr("client.patients.Register.withdrawn", fails)
        else:
            patch.setattr(inner(trainer), "withdraw", fails)
        with pytest.raises(type(error)):
            trainer.apply()
    trainer.apply()
    assert inner(trainer).withdrawn == {3}


def test_training_looks_before_it_begins(
    data: SiteData, patients: Patients, state: StateFolder
) -> None:
    trainer = consenting(data, patients, state)
    withdraw(state, 2)
    seen: list[set[int]] = []
    inner(trainer).on_start = lambda: seen.append(set(inner(trainer).withdrawn))
    trainer.train(ADAPTER, progress=lambda *_: None, should_stop=lambda: False)
    assert seen == [{2}]
    withdraw(state, 4)
    total = trainer.clipped_sum(ADAPTER, 3, progress=lambda *_: None, should_stop=lambda: False)
    assert seen == [{2}, {2, 4}]
    assert total.tolist() == [4] * len(ADAPTER)


def test_a_cache_is_purged(data: SiteData, patients: Patients, state: StateFolder) -> None:
    state.cache.mkdir()
    (state.cache / "encoded-abc.safetensors").write_bytes(b"latents")
    (state.cache / "other").write_bytes(b"")
    (state.cache / ".new-killed").mkdir()  # what an agent that was killed has left
    half = state.cache / ".new-killed" / "encoded-abc.safetensors"
    half.write_bytes(b"half of them")
    trainer = consenting(data, patients, state)
    trainer.apply()
    assert len(list(state.cache.iterdir())) == 3
    withdraw(state, 0)
    trainer.apply()
    assert sorted(path.name for path in state.cache.iterdir()) == [".new-killed", "other"]
    assert not half.exists()
    assert purge(state.cache) == 0


def test_who_withdrew_before_the_start_is_not_loaded_but_counts(
    tmp_path: Path, state: StateFolder, patients: Patients, data: SiteData
) -> None:
    """The declared N stands for those who withdrew too: else a withdrawal could be seen."""
    withdraw(state, *range(6))  # of 10: fewer than half are left
    left = load_data(load(tmp_path / "site.toml"), state, patients)
    assert left.patients == data.patients == 10
    assert {tile.patient for tile in left.tiles} == {6, 7, 8, 9}
    trainer = consenting(left, patients, state)
    trainer.apply()
    assert inner(trainer).withdrawn == set()


def test_restored_patients_are_back_after_the_next_start(
    tmp_path: Path, state: StateFolder, patients: Patients, data: SiteData
) -> None:
    withdraw(state, 5)
    line = patients.find("canary-patient-5")
    assert line is not None
    assert len(load_data(load(tmp_path / "site.toml"), state, patients).tiles) == 18
    patients.register.restore(line)
    assert load_data(load(tmp_path / "site.toml"), state, patients) == data


def conversation(folder: Path, *, gone: bool) -> tuple[list[bytes], float]:
    """All that an agent says in two rounds; in one of the two worlds a patient withdraws."""
    state = StateFolder(folder / "state")
    state.path.mkdir(parents=True)
    site = load(write_hospital(folder, study=make_study()))
    with (
        open_patients(state.path) as patients,
        open_test_ledger(state.ledger, clock=lambda: NOON) as ledger,
    ):
        data = load_data(site, state, patients)
        trainer = consenting(data, patients, state)
        # The same keys in both worlds: else all that it says would be random.
        effects = Effects(lambda: NOON, seeded_bytes(b"agent"))
        agent = make_masked_agent(ledger, trainer, effects=effects)  # type: ignore[arg-type]
        said = [agent.handle(message(hello()))]
        for number in (1, 2):
            attempt = attempt_of(agent, round=number, seed=b"peers")
            assert isinstance(start(agent, round=number), Advertise)
            said.append(agent.handle(attempt.envelope(attempt.beginning())))
            assert isinstance(collect(agent, round=number), MaskedInput)
            said.append(look(agent, round=number))
            if gone and number == 1:
                withdraw(state, 8)
                trainer.apply()
        beyond = attempt_of(agent, round=9, seed=b"peers")
        said.append(agent.handle(beyond.envelope(beyond.beginning())))
        said.append(agent.handle(message(hello())))
        assert inner(trainer).withdrawn == ({8} if gone else set())
        return said, spent_by(ledger)


def test_a_withdrawal_shows_in_no_byte_and_no_epsilon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = Encoding.encode
    monkeypatch.setattr("privacy.ledger.sqlite.secrets.token_bytes", bytes)  # the ledgers' ids
    monkeypatch.setattr(Encoding, "encode", lambda self, vector: encode(self, vector, bytes))
    with_patient = conversation(tmp_path / "a", gone=False)
    without_patient = conversation(tmp_path / "b", gone=True)
    assert with_patient == without_patient


def test_a_register_that_cannot_tell_stops_the_training(
    tmp_path: Path,
    state: StateFolder,
    patients: Patients,
    data: SiteData,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def unreadable(_: object) -> bool:
        raise LedgerError("The patients' register cannot be read.")

    trainer = consenting(data, patients, state)
    monkeypatch.setattr("client.patients.Register.changed_elsewhere", unreadable)
    with open_test_ledger(state.ledger) as ledger, caplog.at_level(logging.ERROR):
        agent = make_agent(ledger, trainer)  # type: ignore[arg-type]
        start(agent)
        refusal = collect(agent)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.NO_UPDATE
    assert inner(trainer).calls == 0
    assert "register cannot be read" in caplog.text
