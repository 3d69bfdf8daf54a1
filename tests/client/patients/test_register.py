"""The patients' register: merging, withdrawing, staying; beside a running agent."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.patients import Register, Shared, Stay, sharing_with
from privacy.errors import LedgerError


def line(name: str) -> bytes:
    return name.encode().ljust(32, b"\0")


def tile(number: int) -> bytes:
    return b"tile %d" % number


A, B, C = line("a"), line("b"), line("c")


class Clock:
    """Time that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def register(tmp_path: Path, clock: Clock) -> Iterator[Register]:
    with Register(tmp_path / "patients.sqlite", clock=clock) as register:
        yield register


def test_a_new_id_stands_for_itself(register: Register) -> None:
    assert register.find(A) is None
    assert register.observe([(A, tile(1)), (A, tile(2)), (B, tile(3))]) == {A: A, B: B}
    assert register.find(A) == A


def test_a_tile_that_is_known_moves_nobody(register: Register) -> None:
    """Under whatever ids it comes, at once or later: a picture decides nothing."""
    register.observe([(A, tile(1)), (B, tile(2))])
    assert register.observe([(A, tile(2)), (B, tile(1)), (C, tile(1))]) == {A: A, B: B, C: C}
    assert register.decisions() == ()


def test_a_person_merges_two_lines_into_the_older(register: Register, clock: Clock) -> None:
    register.observe([(A, tile(1)), (B, tile(2)), (C, tile(3))])
    assert register.merge(C, B)
    assert not register.merge(B, C)
    assert register.observe([(C, tile(3)), (A, tile(1))]) == {C: B, A: A}
    clock.now = 500.0
    assert register.merge(C, A)
    assert register.observe([(B, tile(7))]) == {B: A}
    assert [(d.time, d.kind) for d in register.decisions()] == [(100.0, "merge"), (500.0, "merge")]
    assert {register.decisions()[0].first, register.decisions()[0].second} == {B, C}


def test_what_was_merged_is_separated_again(register: Register, clock: Clock) -> None:
    register.observe([(A, tile(1)), (B, tile(2))])
    register.merge(A, B)
    register.withdraw(B)
    clock.now = 300.0
    assert register.separate(A) == 2
    assert register.separate(A) == 1
    assert (register.find(A), register.find(B)) == (A, B)
    assert register.withdrawn() == {A, B}  # separating brings nobody back
    assert set(register.stays(A)) == set(register.stays(B)) != set()
    register.restore(A)
    assert register.withdrawn() == {B}
    assert [decision.kind for decision in register.decisions()] == ["merge", "separate"]


def test_shared_tiles_are_told_for_a_person_to_look_at(register: Register) -> None:
    register.observe([(A, tile(1)), (A, tile(2)), (B, tile(1)), (B, tile(2)), (C, tile(2))])
    register.observe([(C, tile(3))])  # what was seen before counts too
    assert register.shared() == (
        Shared(frozenset({A, B}), 1),
        Shared(frozenset({A, B, C}), 1),
    )
    register.merge(A, B)
    assert register.shared() == (Shared(frozenset({A, C}), 1),)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=8),
        min_size=1,
        max_size=5,
    ),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=4),
)
def test_lines_are_the_connected_parts_of_what_persons_merged(
    tmp_path_factory: pytest.TempPathFactory,
    sightings: list[list[tuple[int, int]]],
    merges: list[tuple[int, int]],
) -> None:
    """Against a plain search: ids are one line exactly if a chain of decisions links them."""
    path = tmp_path_factory.mktemp("register") / "patients.sqlite"
    with Register(path) as register:
        for number, batch in enumerate(sightings):
            register.observe([(line(str(who)), tile(what)) for who, what in batch])
            if number == 0:
                for one, other in merges:
                    register.merge(line(str(one)), line(str(other)))
        seen = {who for batch in sightings for who, _ in batch}
        for who in seen:
            part = {who}
            for _ in merges:
                part |= {b for a, b in merges if a in part} | {a for a, b in merges if b in part}
            same = {o for o in seen if register.find(line(str(o))) == register.find(line(str(who)))}
            assert same == part & seen


def test_withdrawing_is_undone_by_restoring(register: Register) -> None:
    register.observe([(A, tile(1)), (B, tile(2))])
    assert register.withdraw(A)
    assert not register.withdraw(A)
    assert register.withdrawn() == {A}
    assert register.restore(A)
    assert not register.restore(A)
    assert register.withdrawn() == frozenset()


def test_nobody_withdraws_because_of_a_picture(register: Register) -> None:
    register.observe([(A, tile(1)), (C, tile(5))])
    register.withdraw(A)
    assert register.observe([(B, tile(1)), (C, tile(1))]) == {B: B, C: C}
    assert register.withdrawn() == {A}
    assert sharing_with(A, register.shared()) == {B, C}


@pytest.mark.parametrize("gone", [A, B])
def test_merging_with_a_withdrawn_line_withdraws_both(register: Register, gone: bytes) -> None:
    register.observe([(A, tile(1)), (B, tile(2))])
    register.withdraw(gone)
    register.merge(B, A)
    assert register.withdrawn() == {A, B}
    assert register.restore(B)
    assert register.withdrawn() == frozenset()


def test_one_may_withdraw_before_anybody_read_the_tiles(register: Register) -> None:
    register.withdraw(A)
    register.observe([(A, tile(1))])
    assert register.withdrawn() == {A}
    assert register.stays(A) == ()


def test_stays_tell_when_a_patient_could_be_drawn(register: Register, clock: Clock) -> None:
    register.observe([(A, tile(1)), (B, tile(2))])
    clock.now = 200.0
    register.withdraw(A)
    clock.now = 300.0
    register.observe([(A, tile(1)), (C, tile(3))])  # B is gone from the folder
    assert register.stays(A) == (Stay(100.0, 200.0),)
    assert register.stays(B) == (Stay(100.0, 300.0),)
    assert register.stays(C) == (Stay(300.0, None),)
    clock.now = 400.0
    register.restore(A)
    assert len(register.stays(A)) == 1  # not before the tiles are read again
    register.observe([(A, tile(1)), (C, tile(3))])
    assert register.stays(A) == (Stay(100.0, 200.0), Stay(400.0, None))
    assert register.stays(C) == (Stay(300.0, None),)


def test_stays_of_merged_lines_are_everybodys(register: Register, clock: Clock) -> None:
    register.observe([(A, tile(1))])
    clock.now = 200.0
    register.observe([(B, tile(2))])
    clock.now = 300.0
    register.merge(A, B)
    assert set(register.stays(A)) == set(register.stays(B)) >= {Stay(100.0, 200.0)}


def test_a_clock_that_went_back_ends_no_stay_before_it_began(
    register: Register, clock: Clock
) -> None:
    register.observe([(A, tile(1))])
    clock.now = 50.0
    register.withdraw(A)
    assert register.stays(A) == (Stay(100.0, 100.0),)


def test_everything_is_there_after_opening_again(tmp_path: Path) -> None:
    path = tmp_path / "patients.sqlite"
    with Register(path) as register:
        register.observe([(A, tile(1))])
        register.merge(A, B)
        register.withdraw(A)
    with Register(path) as register:
        assert register.observe([(B, tile(2))]) == {B: A}
        assert register.withdrawn() == {A, B}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_person_may_change_it_beside_the_agent(tmp_path: Path) -> None:
    path = tmp_path / "patients.sqlite"
    with Register(path) as agents, Register(path) as persons:
        agents.observe([(A, tile(1))])
        assert agents.changed_elsewhere()
        assert not agents.changed_elsewhere()
        persons.withdraw(A)
        assert agents.changed_elsewhere()
        assert agents.withdrawn() == {A}
        assert not agents.changed_elsewhere()


def test_it_is_bound_to_its_key(register: Register) -> None:
    assert not register.is_claimed()
    register.claim(b"one")
    register.claim(b"one")
    assert register.is_claimed()
    with pytest.raises(LedgerError, match="belongs to another key"):
        register.claim(b"another")


def test_files_that_are_no_register_are_refused_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "patients.sqlite"
    path.write_bytes(b"not a database at all, but long enough to be looked at" * 20)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="damaged or not a register"):
        Register(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("pragma", "words"),
    [("application_id = 7", "is not a register"), ("user_version = 3", "has register version 3")],
)
def test_another_programs_or_a_newer_file_is_refused(
    tmp_path: Path, pragma: str, words: str
) -> None:
    path = tmp_path / "patients.sqlite"
    Register(path).close()
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA {pragma}")
    database.close()
    with pytest.raises(LedgerError, match=words):
        Register(path)


def test_a_folder_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot be opened"):
        Register(tmp_path / "nowhere" / "patients.sqlite")


def test_a_register_in_use_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.patients.register.BUSY_SECONDS", 0.01)
    path = tmp_path / "patients.sqlite"
    with Register(path) as register:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="in use by another process"):
            register.withdraw(A)
        other.close()
        assert register.withdraw(A)


FIRST_VERSION = """
CREATE TABLE line (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    root INTEGER NOT NULL,
    withdrawn INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX line_root ON line (root);
CREATE TABLE tile (name BLOB PRIMARY KEY, line INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE stay (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    line INTEGER NOT NULL,
    since REAL NOT NULL,
    until REAL
) STRICT;
CREATE INDEX stay_line ON stay (line);
CREATE TABLE key (one INTEGER PRIMARY KEY CHECK (one = 1), name BLOB NOT NULL) STRICT;
PRAGMA application_id = 1128681521;
PRAGMA user_version = 1;
"""


def test_a_register_of_the_first_version_goes_on_and_its_merges_can_be_undone(
    tmp_path: Path, clock: Clock
) -> None:
    """That version merged by itself: B was put to A for a tile; C withdrew."""
    path = tmp_path / "patients.sqlite"
    database = sqlite3.connect(path)
    database.executescript(FIRST_VERSION)
    database.executemany(
        "INSERT INTO line (id, root, withdrawn) VALUES (?, ?, ?)", [(A, 1, 0), (B, 1, 0), (C, 3, 1)]
    )
    database.executemany("INSERT INTO tile VALUES (?, ?)", [(tile(1), 1), (tile(2), 3)])
    database.execute("INSERT INTO stay (line, since) VALUES (1, 50.0)")
    database.execute("INSERT INTO key VALUES (1, ?)", (b"one",))
    database.commit()
    database.close()
    for _ in range(2):  # the second time there is nothing to be brought up
        with Register(path, clock=clock) as register:
            register.claim(b"one")
            assert register.observe([(A, tile(1)), (B, tile(2))]) == {A: A, B: A}
            assert register.withdrawn() == {C}
            assert register.stays(B) == (Stay(50.0, None),)
            assert [(d.kind, d.first, d.second) for d in register.decisions()] == [
                ("automatic", A, B)
            ]
            assert register.shared() == (Shared(frozenset({A, C}), 1),)
    with Register(path, clock=clock) as register:
        assert register.separate(A) == 2
        assert register.observe([(A, tile(1)), (B, tile(2))]) == {A: A, B: B}
