from __future__ import annotations

import math
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from privacy.accounting import epsilon
from privacy.errors import AccountingError, LedgerError
from privacy.ledger import AttemptKey, Charge, Ledger, State, StepMark
from privacy.mechanisms.local import PoissonGaussian
from tests.privacy.ledger.ledgers import WRITER

from .ledgers import book_of, open_test_ledger, spent_by

STUDY, OTHER = b"\1" * 32, b"\2" * 32
EVENT = PoissonGaussian(0.5, 6.0, 0.1, 10)
CHARGE = Charge(STUDY, EVENT, 1e-5)
KEY = AttemptKey(STUDY, 2**64 - 1, 3, 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_it_satisfies_the_interface(path: Path) -> None:
    with open_test_ledger(path) as ledger:
        promised: Ledger = ledger
        assert promised.entries() == ()
        assert spent_by(promised) == 0.0


def test_an_intent_costs_nothing_and_a_commit_is_charged(path: Path) -> None:
    with open_test_ledger(path) as ledger:
        ledger.intent(KEY, CHARGE)
        assert (spent_by(ledger), len(book_of(ledger).of_study(STUDY))) == (0.0, 0)
        assert spent_by(ledger, CHARGE) == epsilon([EVENT], 1e-5)
        ledger.commit(KEY)
        assert (spent_by(ledger), len(book_of(ledger).of_study(STUDY))) == (
            epsilon([EVENT], 1e-5),
            1,
        )
        assert spent_by(ledger, CHARGE) == epsilon([EVENT, EVENT], 1e-5)


def test_everything_is_idempotent_and_survives_reopening(path: Path) -> None:
    for _ in range(2):
        with open_test_ledger(path) as ledger:
            for _ in range(2):
                ledger.intent(KEY, CHARGE)
                ledger.commit(KEY)
            (entry,) = ledger.entries()
            assert (entry.key, entry.charge, entry.state) == (KEY, CHARGE, State.COMMITTED)


def test_a_commit_is_never_taken_back(path: Path) -> None:
    with open_test_ledger(path) as ledger:
        ledger.intent(KEY, CHARGE)
        ledger.commit(KEY)
        ledger.intent(KEY, CHARGE)
        assert ledger.entries()[0].state is State.COMMITTED


def test_contradictions_are_refused_and_change_nothing(path: Path) -> None:
    with open_test_ledger(path) as ledger:
        with pytest.raises(LedgerError, match="no recorded intent"):
            ledger.commit(KEY)
        ledger.intent(KEY, CHARGE)
        with pytest.raises(LedgerError, match="another charge"):
            ledger.intent(KEY, Charge(OTHER, EVENT, 1e-5))
        (entry,) = ledger.entries()
        assert (entry.charge, entry.state) == (CHARGE, State.INTENT)


def test_what_left_of_a_step_is_recorded_once(path: Path) -> None:
    mark, sent = StepMark(b"\x99" * 32, 4, (1, 2, 3)), b"\xaa" * 32
    for _ in range(2):
        with open_test_ledger(path) as ledger:
            ledger.intent(KEY, CHARGE, mark)
            for other in (replace(mark, label=bytes(32)), replace(mark, cohort=(1, 2)), None):
                with pytest.raises(LedgerError, match="another label or cohort"):
                    ledger.intent(KEY, CHARGE, other)
            ledger.commit(KEY)
            for _ in range(2):
                ledger.sent(KEY, sent)
            with pytest.raises(LedgerError, match="something else of it has left"):
                ledger.sent(KEY, b"\xab" * 32)
            (entry,) = ledger.entries()
            assert (entry.mark, entry.sent, ledger.head().sequence) == (mark, sent, 3)


def test_nothing_is_sent_of_what_was_not_charged(path: Path) -> None:
    with open_test_ledger(path) as ledger:
        with pytest.raises(LedgerError, match="is not charged"):
            ledger.sent(KEY, bytes(32))
        ledger.intent(KEY, CHARGE, StepMark(bytes(32), 1, (1, 2, 3)))
        with pytest.raises(LedgerError, match="is not charged"):
            ledger.sent(KEY, bytes(32))
        assert ledger.entries()[0].sent == b""


def test_a_session_is_begun_once_and_never_below_an_earlier_one(path: Path) -> None:
    for _ in range(2):
        with open_test_ledger(path) as ledger:
            assert ledger.newest_session(OTHER) == 0
            ledger.begin_session(STUDY, 1, 3, b"\xaa" * 32)
            ledger.begin_session(STUDY, 1, 3, b"\xaa" * 32)
            for number, digest in ((3, b"\xbb" * 32), (2, b"\xaa" * 32)):
                with pytest.raises(LedgerError, match="not above session 3"):
                    ledger.begin_session(STUDY, 1, number, digest)
            assert (ledger.newest_session(STUDY), ledger.head().sequence) == (3, 1)


def test_every_commit_is_fsynced(path: Path) -> None:
    with open_test_ledger(path) as ledger:
        database = ledger._open()
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_one_process_at_a_time(path: Path) -> None:
    with open_test_ledger(path), pytest.raises(LedgerError, match="another process"):
        open_test_ledger(path)
    with open_test_ledger(path) as ledger:
        assert ledger.entries() == ()


def test_another_process_is_locked_out_too(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from privacy.errors import LedgerError\n"
        "from tests.privacy.ledger.ledgers import open_test_ledger\n"
        "try: open_test_ledger(Path(sys.argv[1]))\n"
        "except LedgerError as error: sys.exit(error.message)"
    )
    with open_test_ledger(path):
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 1
    assert "in use by another process" in done.stderr


def test_a_closed_ledger_says_so(path: Path) -> None:
    ledger = open_test_ledger(path)
    ledger.close()
    ledger.close()
    with pytest.raises(LedgerError, match="closed"):
        ledger.intent(KEY, CHARGE)


def test_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    open_test_ledger(path).close()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA user_version = 5")
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="version 5"):
        open_test_ledger(path)
    assert path.read_bytes() == before


def test_another_database_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE other (x)")
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="not a ledger"):
        open_test_ledger(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\0" * 300])
def test_garbage_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(LedgerError, match="damaged"):
        open_test_ledger(path)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="folder exists"):
        open_test_ledger(tmp_path / "absent" / "ledger.sqlite")


def test_a_full_disk_is_named_and_loses_nothing(path: Path) -> None:
    with open_test_ledger(path) as ledger:
        ledger.intent(KEY, CHARGE)
        ledger.commit(KEY)
        database = ledger._open()
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(LedgerError, match="full"):
            for attempt in range(1000):
                ledger.intent(AttemptKey(STUDY, 5, 1, attempt), CHARGE)
    with open_test_ledger(path) as ledger:
        assert len(book_of(ledger).of_study(STUDY)) == 1


@pytest.mark.parametrize("values", [(-1, 0, 0), (2**64, 0, 0), (0, 2**32, 0), (0, 0, 1.0)])
def test_bad_keys_are_refused(values: tuple[int, int, int]) -> None:
    with pytest.raises(LedgerError, match="unsigned"):
        AttemptKey(STUDY, *values)


@pytest.mark.parametrize("delta", [0.0, 1.0, math.nan, -1.0])
def test_bad_charges_are_refused(delta: float) -> None:
    with pytest.raises(AccountingError, match="delta"):
        Charge(STUDY, EVENT, delta)
    with pytest.raises(LedgerError, match="32 bytes"):
        Charge(b"short", EVENT, 1e-5)


def test_threads_share_one_ledger(path: Path) -> None:
    with open_test_ledger(path) as ledger:

        def work(number: int) -> None:
            for attempt in range(10):
                key = AttemptKey(STUDY, number, 1, attempt)
                ledger.intent(key, CHARGE)
                ledger.commit(key)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(book_of(ledger).of_study(STUDY)) == 40


@pytest.mark.parametrize("lines", [1, 2, 7, 40])
def test_a_killed_process_loses_nothing_that_was_acknowledged(path: Path, lines: int) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    said = [writer.stdout.readline().split() for _ in range(lines)]
    writer.send_signal(signal.SIGKILL)
    said += [line.split() for line in writer.stdout]  # what it still said before it died
    writer.wait(timeout=30)
    with open_test_ledger(path) as ledger:
        states = {entry.key.attempt: entry.state for entry in ledger.entries()}
        for word, attempt in (line for line in said if len(line) == 2):
            assert word == "intent" or states[int(attempt)] is State.COMMITTED
            assert int(attempt) in states
        ledger.intent(AttemptKey(STUDY, 8, 1, 0), CHARGE)
        ledger.commit(AttemptKey(STUDY, 8, 1, 0))


def test_killed_between_intent_and_commit_it_stays_readable_and_free(path: Path) -> None:
    code = WRITER.replace("ledger.commit(key)", "import os, signal; os.kill(os.getpid(), 9)")
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "intent 0\n")
    with open_test_ledger(path) as ledger:
        (entry,) = ledger.entries()
        assert (entry.state, spent_by(ledger)) == (State.INTENT, 0.0)
        ledger.commit(entry.key)
        assert len(book_of(ledger).of_study(STUDY)) == 1
