from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from privacy.errors import LogError
from privacy.identity import Identity
from privacy.ledger import SqliteLedger, State
from privacy.ledger.anchors import Anchors
from privacy.ledger.head import Head, sign_head
from privacy.log.batches import RecordBatch, Withheld, batch_of
from privacy.log.entries import EntryKind, LogEntry, facts, facts_of
from privacy.log.heads import HeadsTable
from privacy.log.lines import LedgerLine, check_identities
from privacy.log.news import newer_rows
from privacy.log.replay import LogReplay
from privacy.secagg.refusals import Refused
from privacy.secagg.roster import Member, add_signature, propose_roster
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.checks import Check
from tests.privacy.log.world import (
    COORDINATOR,
    FIRST,
    MEMBERS,
    MOST,
    OTHER_STUDY,
    ROSTER,
    STUDY,
    STUDY_BODY,
    Diary,
    bound_ledger,
    entry,
    lacking,
    ledgers,
    records,
    step,
)


@pytest.fixture
def north(tmp_path: Path) -> Iterator[SqliteLedger]:
    with bound_ledger(tmp_path, "north") as ledger:
        yield ledger


def test_an_entry_has_one_form() -> None:
    made = LogEntry(EntryKind.STEP, 258, facts({"b": 1, "a": "ü"}))
    assert made.encode() == bytes.fromhex("01050000000000000102") + b'{"a":"\\u00fc","b":1}'
    assert LogEntry.decode(made.encode()) == made
    for bad in (b"", b"\x01\x05" + bytes(7), b"\x02\x05" + bytes(8), b"\x01\x0c" + bytes(8)):
        with pytest.raises(LogError):
            LogEntry.decode(bad)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"a": 1}', b'{"b":1,"a":1}', b'{"a":1,"a":1}'])
def test_facts_of_another_form_are_refused(body: bytes) -> None:
    with pytest.raises(LogError):
        facts_of(body)
    with pytest.raises(LogError):
        facts({"a": float("nan")})


def test_a_table_of_heads_has_one_form() -> None:
    rows = {b"\2" * 32: Checkpoint(b"\3" * 16, 4, b"\5" * 32), b"\1" * 32: Checkpoint(*NOTHING)}
    table = HeadsTable(rows)
    assert table.encode().hex().startswith("0002" + "01" * 32)
    assert HeadsTable.decode(table.encode()) == table
    first, second = table.encode()[2:90], table.encode()[90:]
    for bad in (b"", table.encode() + b"\0", b"\0\2" + second + first, b"\0\2" + first + first):
        with pytest.raises(LogError):
            HeadsTable.decode(bad)


NOTHING = (bytes(16), 0, bytes(32))


def test_batches_make_the_ledger_again(north: SqliteLedger) -> None:
    diary = Diary()
    for number in (1, 2, 3):
        step(north, number)
        diary.bring_up(north)
    line = diary.replay.lines[north.head().ledger]
    assert line.entries == north.entries()
    assert all(one.state is State.COMMITTED and one.sent for one in line.entries)
    assert line.head == north.head()
    assert (line.site, line.withheld) == ("north", 0)
    assert diary.replay.row(MEMBERS.identities["north"].public) == north.head().checkpoint
    assert lacking(north, diary.replay) is None


def test_a_batch_may_be_as_small_as_one_record(north: SqliteLedger) -> None:
    for number in (1, 2):
        step(north, number)
    line, batches = LedgerLine(north.head().ledger), 0
    while batch := batch_of(north, len(line), STUDY, 700):
        assert len(batch.encode()) <= 700
        line.take(RecordBatch.decode(batch.encode()))
        batches += 1
    assert batches > 2 and line.head == north.head()
    with pytest.raises(LogError, match="does not fit"):
        batch_of(north, 2, STUDY, 200)


def test_records_of_other_studies_are_withheld_and_counted(north: SqliteLedger) -> None:
    step(north, 1, OTHER_STUDY)
    step(north, 2, OTHER_STUDY)
    step(north, 1)
    batch = lacking(north, Diary().replay)
    assert batch is not None
    assert [one.count for one in batch.items if isinstance(one, Withheld)] == [6]
    assert OTHER_STUDY not in batch.encode()
    diary = Diary()
    diary.bring_up(north)
    line = diary.replay.lines[north.head().ledger]
    assert line.withheld == 6 and line.head == north.head()
    assert [one.key.study for one in line.entries] == [STUDY]


def bad_batches(batch: RecordBatch, ledger: SqliteLedger) -> dict[str, RecordBatch]:
    """Everything that is not the batch that follows."""
    head, items = batch.head, batch.items
    shown = [item for item in items if isinstance(item, bytes)]
    forged = bytearray(shown[-1])
    forged[-1] ^= 1
    return {
        "one record is dropped": replace(batch, items=items[1:]),
        "the last one is dropped": replace(batch, items=items[:-1]),
        "two are exchanged": replace(batch, items=(items[1], items[0], *items[2:])),
        "one comes twice": replace(batch, items=(items[0], *items)),
        "one is changed": replace(batch, items=(*items[:-1], bytes(forged))),
        "one is withheld": replace(batch, items=(Withheld(1, b"\1" * 32), *items[1:])),
        "nothing": replace(batch, items=()),
        "a gap": replace(batch, first=batch.first + 1),
        "again": replace(batch, first=batch.first - 1),
        "an older head": replace(batch, head=ledger.chain().head_at(head.sequence - 1)),
        "a signature is changed": replace(batch, head=replace(head, signature=bytes(64))),
        "another key": replace(batch, head=_re_signed(head)),
        "another ledger": replace(batch, head=replace(head, ledger=b"\7" * 16)),
    }


def _re_signed(head: Head) -> Head:
    other = MEMBERS.identities["west"]
    signature = sign_head(other._key, head.ledger, head.sequence, head.hash)
    return replace(head, public_key=other.public, signature=signature)


def test_every_other_batch_is_refused_and_changes_nothing(north: SqliteLedger) -> None:
    diary = Diary()
    step(north, 1)
    diary.bring_up(north)
    step(north, 2)
    good = lacking(north, diary.replay)
    assert good is not None
    line = diary.replay.lines[good.head.ledger]
    before = copy.deepcopy(vars(line))
    for what, bad in bad_batches(good, north).items():
        with pytest.raises(LogError, match="Entry"):
            diary.take(records(bad))
            pytest.fail(what)
        assert line.entries == before["_story"].entries and line.head == before["head"], what
        assert diary.replay.size == 3
    diary.take(records(good))


def test_a_ledger_that_went_on_from_an_older_copy_is_refused_by_name(tmp_path: Path) -> None:
    diary = Diary()
    with bound_ledger(tmp_path, "north") as north:
        step(north, 1)
        diary.bring_up(north)
    for name in ("north.sqlite", "north.sqlite.head"):
        (tmp_path / f"old-{name}").write_bytes((tmp_path / name).read_bytes())
    with bound_ledger(tmp_path, "north") as north:
        step(north, 2)
        diary.bring_up(north)
    with bound_ledger(tmp_path, "north", "old-north.sqlite") as old:
        step(old, 3)
        forked = batch_of(old, 5, STUDY, MOST)
    with pytest.raises(LogError, match="again") as found:
        diary.take(records(forked))
    assert "north" in str(found.value)


def test_another_ledger_of_an_identity_is_refused_unless_it_names_the_lost_one(
    tmp_path: Path,
) -> None:
    diary = Diary()
    with bound_ledger(tmp_path, "north") as north:
        step(north, 1)
        diary.bring_up(north)
        with bound_ledger(tmp_path, "north", "fresh.sqlite", seed="fresh") as fresh:
            begun = records(batch_of(fresh, 0, STUDY, MOST))
        with pytest.raises(LogError, match="another one"):
            diary.take(begun)
        step(north, 2)
        diary.bring_up(north)
    assert len(diary.replay.lines) == 1


def test_a_ledger_of_a_stranger_is_refused(tmp_path: Path) -> None:
    others = Identity.from_seed(b"\1" * 32)
    with bound_ledger(tmp_path, "south", "x.sqlite") as south:
        batch = batch_of(south, 0, STUDY, MOST)
        assert batch is not None
        line = LedgerLine(batch.head.ledger)
        line.take(batch)
        check_identities("south", line.bindings, [ROSTER])
        for site, bindings in (
            ("north", line.bindings),  # another site's ledger
            ("south", (replace(line.bindings[0], identity=others.public),)),
            ("south", ()),
        ):
            with pytest.raises(LogError):
                check_identities(site, bindings, [ROSTER])


def successor(newcomer: Identity) -> bytes:
    """The roster in which `north` has another key, signed by the members before it."""
    members = [
        replace(one, public_key=newcomer.public) if one.name == "north" else one
        for one in ROSTER.members
    ]
    signed = propose_roster(members, 2, predecessor=ROSTER)
    for name in ("south", "west"):
        signed = add_signature(signed, MEMBERS.identities[name], ROSTER)
    return entry(EntryKind.ROSTER, signed.encode())


def test_a_roster_is_signed_by_those_before_it() -> None:
    diary = Diary()
    newcomer = Identity.from_seed(b"\2" * 32)
    alone = propose_roster([Member(1, "north", newcomer.public, "x")], 1, consortium="simulation")
    alone = add_signature(alone, newcomer, None)
    for bad in (FIRST[0], entry(EntryKind.ROSTER, alone.encode())):
        with pytest.raises(LogError):
            diary.take(bad)
    diary.take(successor(newcomer))
    assert diary.replay.consortium.sequence == 2
    assert [one.roster.sequence for one in diary.replay.rosters] == [1, 2]


def test_a_key_that_was_changed_is_a_signed_record_and_follows_the_roster(tmp_path: Path) -> None:
    """The new identity signs for the ledger, in a record that the ledger's old key signs."""
    diary, newcomer = Diary(), Identity.from_seed(b"\2" * 32)
    with bound_ledger(tmp_path, "north") as north:
        step(north, 1)
        diary.bring_up(north)
    diary.close()
    before = diary.replay.heads
    key = Ed25519PrivateKey.from_private_bytes(sha256(b"north").digest())
    anchors = Anchors(newcomer, rebind=True)
    path = tmp_path / "north.sqlite"
    with SqliteLedger(path, key, site="north", anchors=anchors) as rebound:
        step(rebound, 2)
        batch = records(lacking(rebound, diary.replay))
        with pytest.raises(LogError, match="no roster of the consortium"):
            diary.take(batch)
        diary.take(successor(newcomer))
        diary.take(batch)
        diary.close()
        line = diary.replay.lines[rebound.head().ledger]
        assert [one.identity for one in line.bindings] == [
            MEMBERS.identities["north"].public,
            newcomer.public,
        ]
        assert diary.replay.row(newcomer.public) == rebound.head().checkpoint
    old = MEMBERS.identities["north"].public
    assert diary.replay.row(old) is None
    own = MEMBERS.identities["south"].public
    after, roster = diary.replay.heads, diary.replay.consortium
    assert newer_rows(after, before, {}, own, roster) == after.rows  # a witness goes along
    ledger = after.rows[newcomer.public].ledger
    older = HeadsTable({newcomer.public: Checkpoint(ledger, 1, bytes(32))})
    for table, check in ((older, Check.OLDER_LEDGER), (HeadsTable({}), Check.OLDER_LEDGER)):
        with pytest.raises(Refused) as refused:
            newer_rows(table, before, {}, own, roster)
        assert refused.value.check is check


def test_a_study_names_the_logs_key_and_a_roster_that_it_holds() -> None:
    values = facts_of(STUDY_BODY)
    for change in (
        {"pooled": {"coordinator_key": "00" * 32}},
        {"secure_aggregation": {"roster": "00" * 32}},
        {"pooled": None},
    ):
        diary = Diary()
        with pytest.raises(LogError):
            diary.take(entry(EntryKind.STUDY, facts({**values, **change})))
    with pytest.raises(LogError):
        LogReplay(COORDINATOR.public).take(FIRST[1])  # before any roster
    assert list(Diary().replay.studies) == [STUDY]


def test_a_table_of_heads_is_what_the_records_make(tmp_path: Path) -> None:
    diary = Diary()
    with ledgers(tmp_path) as found:
        for ledger in found.values():
            step(ledger, 1)
            diary.bring_up(ledger)
        table = diary.replay.table()
        assert len(table.rows) == 3
        key = MEMBERS.identities["south"].public
        older = Checkpoint(table.rows[key].ledger, 1, bytes(32))
        for rows in ({**table.rows, key: older}, {key: table.rows[key]}, {}):
            with pytest.raises(LogError, match="table"):
                diary.take(entry(EntryKind.HEADS, HeadsTable(rows).encode()))
        diary.close()
    assert diary.replay.heads == table


def test_what_a_batch_withholds_has_one_form(north: SqliteLedger) -> None:
    withheld = RecordBatch(north.head(), 1, (Withheld(1, bytes(32)),)).encode()
    assert RecordBatch.decode(withheld).items == (Withheld(1, bytes(32)),)
    tag = len(withheld) - 37
    for at, value, words in ((tag, 2, "unknown kind"), (tag + 4, 0, "withholds nothing")):
        with pytest.raises(LogError, match=words):
            RecordBatch.decode(withheld[:at] + bytes([value]) + withheld[at + 1 :])


@given(st.data())
def test_no_flipped_bit_of_a_batch_is_taken(data: st.DataObject) -> None:
    raw = bytearray(KNOWN[0])
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    line = LedgerLine(KNOWN[1])
    with pytest.raises(LogError):
        line.take(RecordBatch.decode(bytes(raw)))
    assert line.head is None and not line.entries


KNOWN: list[bytes] = []


@pytest.fixture(scope="module", autouse=True)
def _known(tmp_path_factory: pytest.TempPathFactory) -> None:
    with bound_ledger(tmp_path_factory.mktemp("known"), "north") as ledger:
        step(ledger, 1)
        batch = batch_of(ledger, 0, STUDY, MOST)
        assert batch is not None
        KNOWN[:] = [batch.encode(), ledger.head().ledger]
