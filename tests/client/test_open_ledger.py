"""The agent's ledger and its key, at start-up."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from client.agent.own_ledger import open_ledger
from client.agent.state import StateFolder
from privacy.errors import LedgerError
from privacy.ledger import AttemptKey, Charge, read_ledger
from privacy.mechanisms.local import PoissonGaussian

CHARGE = Charge(bytes(32), PoissonGaussian(0.5, 6.0, 0.1, 10), 1e-5)


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    """A folder in which an agent has worked."""
    state = StateFolder(tmp_path)
    with open_ledger(state, "north") as ledger:
        ledger.intent(AttemptKey(CHARGE.study_digest, 1, 1, 1), CHARGE)
        ledger.commit(AttemptKey(CHARGE.study_digest, 1, 1, 1))
    state.cache.mkdir()
    return state


def test_the_key_stays_the_same(state: StateFolder) -> None:
    assert state.ledger_key.stat().st_mode & 0o777 == 0o600
    key = state.ledger_key.read_bytes()
    with open_ledger(state, "north") as ledger:
        ledger.intent(AttemptKey(CHARGE.study_digest, 1, 2, 1), CHARGE)
        assert read_ledger(state.ledger).head() == ledger.head()
    assert state.ledger_key.read_bytes() == key


def another_key(state: StateFolder) -> None:
    other = StateFolder(state.path / "other")
    other.path.mkdir()
    open_ledger(other, "north").close()
    shutil.copy(other.ledger_key, state.ledger_key)


HARMS: dict[str, tuple[Callable[[StateFolder], object], str]] = {
    "key lost": (lambda state: state.ledger_key.unlink(), r"ledger\.key .*is missing"),
    "key emptied": (lambda state: state.ledger_key.write_bytes(b""), "is damaged: 0 bytes"),
    "another key": (another_key, "signed with another key"),
    "ledger lost": (lambda state: state.ledger.unlink(), "is missing, but an agent has worked"),
    "ledger cut": (
        lambda state: state.ledger.write_bytes(state.ledger.read_bytes()[:4096]),
        "damaged",
    ),
}


@pytest.mark.parametrize("harm", HARMS)
def test_what_is_gone_is_told_and_not_replaced(state: StateFolder, harm: str) -> None:
    act, words = HARMS[harm]
    act(state)
    left = {file.name: file.read_bytes() for file in state.path.iterdir() if file.is_file()}
    with pytest.raises(LedgerError, match=words) as told:
        open_ledger(state, "north")
    assert "Restore" in told.value.hint
    assert left == {file.name: file.read_bytes() for file in state.path.iterdir() if file.is_file()}


def test_a_first_start_that_died_after_its_key_goes_on(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    open_ledger(state, "north").close()
    key = state.ledger_key.read_bytes()
    for file in state.path.iterdir():
        if file != state.ledger_key:
            file.unlink()
    with open_ledger(state, "north") as ledger:
        assert ledger.entries() == ()
    assert state.ledger_key.read_bytes() == key
