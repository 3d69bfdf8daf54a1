from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from privacy.budget import Book
from privacy.errors import LedgerError
from privacy.ledger import AttemptKey, Charge, State, read_ledger
from privacy.ledger.key import public_bytes
from privacy.mechanisms.local import PoissonGaussian
from tests.privacy.ledger.ledgers import WRITER

from .ledgers import SIGNING_KEY, book_of, open_test_ledger

STUDY = b"\1" * 32
CHARGE = Charge(STUDY, PoissonGaussian(0.5, 6.0, 0.1, 10), 1e-5)
KEY = AttemptKey(STUDY, 1, 1, 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_it_shows_what_the_open_ledger_holds(path: Path) -> None:
    times = iter([1.0, 1.0, 2.5, 4.0, 5.0])
    with open_test_ledger(path, clock=lambda: next(times)) as ledger:
        ledger.intent(KEY, CHARGE)
        ledger.commit(KEY)
        ledger.intent(AttemptKey(STUDY, 1, 2, 1), CHARGE)
        view = read_ledger(path)
        assert view.entries() == ledger.entries()
        assert view.head() == ledger.head()
        assert (view.site, view.head().public_key) == ("north", public_bytes(SIGNING_KEY))
        assert book_of(view) == book_of(ledger) == Book((CHARGE,))
    first, second = view.entries()
    assert (first.intent_time, first.charge_time) == (2.5, 4.0)
    assert (second.state, second.intent_time, second.charge_time) == (State.INTENT, 5.0, None)


def test_it_neither_needs_the_lock_nor_disturbs_the_writer(path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        pipesize=4096,  # holds it up when it is hundreds of records ahead of who looks
    )
    assert writer.stdout is not None
    try:
        acknowledged = 0
        for _ in range(20):
            while acknowledged % 7 != 6:  # several records between two looks
                word, attempt = writer.stdout.readline().split()
                acknowledged += word == "commit"
            acknowledged += 1
            assert len(read_ledger(path).entries()) > int(attempt)
        assert writer.poll() is None
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.communicate(timeout=30)
    left = read_ledger(path)  # nobody has put the write-ahead log in order yet
    with open_test_ledger(path, seen=[left.head()]) as ledger:
        assert ledger.entries() == left.entries()


def test_reading_changes_no_record(path: Path) -> None:
    open_test_ledger(path).close()
    before = path.read_bytes()
    read_ledger(path)
    assert path.read_bytes() == before


def test_no_ledger_is_told(path: Path) -> None:
    with pytest.raises(LedgerError, match="There is no ledger"):
        read_ledger(path)
    assert not path.exists()
    path.write_bytes(b"")
    with pytest.raises(LedgerError, match="is empty"):
        read_ledger(path)
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(LedgerError, match="damaged"):
        read_ledger(path)
