"""The patients' register: inheriting, merging, withdrawing, staying; beside a running agent."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.patients import Register, Stay
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


def test_a_known_tile_under_a_new_id_inherits_the_line(register: Register) -> None:
    register.observe([(A, tile(1))])
    assert register.observe([(B, tile(2)), (B, tile(1))]) == {B: A}
    assert register.find(B) == A
    assert register.observe([(B, tile(9))]) == {B: A}  # and keeps it for tiles of its own


def test_two_lines_that_come_to_share_a_tile_become_the_older_one(register: Register) -> None:
    register.observe([(A, tile(1)), (B, tile(2))])
    assert register.observe([(A, tile(2)), (B, tile(3))]) == {A: A, B: A}
    assert register.observe([(C, tile(3))]) == {C: A}


def test_what_was_merged_stays_merged(register: Register) -> None:
    register.observe([(A, tile(1)), (B, tile(2))])
    register.observe([(A, tile(2))])
    assert register.observe([(B, tile(7))]) == {B: A}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=8),
        min_size=1,
        max_size=5,
    )
)
def test_lines_are_the_connected_parts_of_ids_and_tiles(
    tmp_path_factory: pytest.TempPathFactory, sightings: list[list[tuple[int, int]]]
) -> None:
    """Against a plain search: ids are one line exactly if a chain of shared tiles links them."""
    path = tmp_path_factory.mktemp("register") / "patients.sqlite"
    with Register(path) as register:
        for batch in sightings:
            register.observe([(line(str(who)), tile(what)) for who, what in batch])
        pairs = [pair for batch in sightings for pair in batch]
        parts: list[set[int]] = []
        for who, _ in pairs:
            group = {who}
            for _ in pairs:
                tiles = {what for other, what in pairs if other in group}
                group |= {other for other, what in pairs if what in tiles}
            parts.append(group)
        for (who, _), part in zip(pairs, parts, strict=True):
            same = {
                o for o, _ in pairs if register.find(line(str(o))) == register.find(line(str(who)))
            }
            assert same == part


def test_withdrawing_is_undone_by_restoring(register: Register) -> None:
    register.observe([(A, tile(1)), (B, tile(2))])
    assert register.withdraw(A)
    assert not register.withdraw(A)
    assert register.withdrawn() == {A}
    assert register.restore(A)
    assert not register.restore(A)
    assert register.withdrawn() == frozenset()


def test_who_withdrew_does_not_come_back_under_another_id(register: Register) -> None:
    register.observe([(A, tile(1))])
    register.withdraw(A)
    assert register.observe([(B, tile(1)), (B, tile(2))]) == {B: A}
    assert register.withdrawn() == {A, B}


@pytest.mark.parametrize("gone", [A, B])
def test_merging_with_a_withdrawn_line_withdraws_both(register: Register, gone: bytes) -> None:
    register.observe([(A, tile(1)), (B, tile(2))])
    register.withdraw(gone)
    register.observe([(A, tile(2))])
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
    register.observe([(B, tile(1))])
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
        register.withdraw(A)
    with Register(path) as register:
        assert register.observe([(B, tile(1))]) == {B: A}
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
    with pytest.raises(LedgerError, match="damaged or no register"):
        Register(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("pragma", "words"),
    [("application_id = 7", "is no register"), ("user_version = 2", "has register version 2")],
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
