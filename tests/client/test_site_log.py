"""A site as a witness: what it signs, and what keeps it from training, whoever says it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from client.agent import log_file
from privacy.identity import verify
from privacy.log.batches import RecordBatch
from privacy.log.checkpoints import Cosignature, TreeHead, signed_checkpoint
from privacy.log.entries import EntryKind, LogEntry
from privacy.log.heads import HeadsTable
from privacy.log.news import LogProofs, read_news
from privacy.log.notes import SignedNote
from privacy.log.store import LogStore
from privacy.secagg.sealed.log_words import answer_signed, shown_signed
from privacy.wire.bodies import Body, Running
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.checks import Check
from privacy.wire.log import LogAnswer, LogFields, LogShown
from privacy.wire.reasons import Reason
from privacy.wire.sealed import Sealed
from privacy.wire.secagg import SecAggRefusal
from server.log_keeper import LogKeeper
from tests.client.fakes import refused
from tests.client.sealed import MEMBERS, SealedSites, TinyCoordinator
from tests.pooled_study import COORDINATOR

KEYS = {site: MEMBERS.roster.members[site - 1] for site in (1, 2, 3)}


@dataclass
class Witnesses:
    """Three sites, a coordinator of a few lines, and its log."""

    folder: Path
    policy: dict[str, Any] = field(default_factory=lambda: {"log": "required"})

    def __post_init__(self) -> None:
        self.sites = SealedSites(self.folder, policy=self.policy, witnesses=True)
        self.tiny = TinyCoordinator(self.sites)
        self.keeper = self.kept("log.db")

    def kept(self, name: str) -> LogKeeper:
        store, clock = LogStore(self.folder / name), self.sites.unix.time
        keeper = LogKeeper(store, COORDINATOR, lambda: [MEMBERS.signed], self.sites.study, clock)
        keeper.begin()
        return keeper

    def shown(self, site: int, log: LogFields | None = None) -> LogShown:
        ledger = self.sites.ledgers[site].head().ledger
        fields = log or self.keeper.news(self.keeper.cosigned(KEYS[site]))
        made = LogShown(self.sites.study.digest(), self.keeper.since(ledger), fields)
        return replace(made, signature=COORDINATOR.sign(shown_signed(made)))

    def show(self, site: int, log: LogFields | None = None) -> LogAnswer:
        shown = self.shown(site, log)
        answer = self.tiny.ask(site, shown)
        assert isinstance(answer, LogAnswer), answer
        key = KEYS[site].public_key
        assert verify(key, answer.signature, answer_signed(answer, shown, key))
        return answer

    def meet(self) -> None:
        """Everybody's records, then everybody's cosignatures."""
        for _ in range(2):
            head = self.keeper.checkpoint()
            answers = {site: self.show(site) for site in KEYS}
            cosigned = [(KEYS[site], one.log.cosignature) for site, one in answers.items()]
            self.keeper.take_cosignatures(head, cosigned)
            records = [(KEYS[site], one.log.head) for site, one in answers.items()]
            assert not self.keeper.take_records(one for one in records if one[1])
        assert self.keeper.common(KEYS.values()) == self.keeper.checkpoint().size

    def ready(self) -> None:
        self.tiny.open()
        self.meet()

    def log(self) -> dict[str, bytes]:
        """What the next step says of the log."""
        news = self.keeper.news(self.keeper.common(KEYS.values()))
        return fields_of(news)

    def refused(self, check: Check, site: int = 1, **log: bytes) -> None:
        """Refused for this, and nothing has been written or trained."""
        before = (len(self.sites.ledgers[site].chain()), self.sites.trainers[site].calls)
        answer = self.tiny.send(self.tiny.step(**log), site)
        assert isinstance(answer, SecAggRefusal) and answer.check is check, answer
        assert (len(self.sites.ledgers[site].chain()), self.sites.trainers[site].calls) == before

    def whole(self) -> dict[int, Sealed]:
        """One step, and what came of it, which the log takes."""
        step = self.tiny.begun(**self.log())
        head = TreeHead.of_text(SignedNote.decode(step.checkpoint).text)
        self.sites.sleep(self.sites.study.cohort.reply_slot)
        answers = self.tiny.send_all(step)
        self.tiny.take(self.tiny.added(step, answers))
        sealed = {site: one for site, one in answers.items() if isinstance(one, Sealed)}
        assert not self.keeper.take_records((KEYS[site], one.head) for site, one in sealed.items())
        cosigned = [(KEYS[site], one.cosignature) for site, one in sealed.items()]
        assert len(self.keeper.take_cosignatures(head, cosigned)) == 3
        return sealed


def fields_of(log: LogFields) -> dict[str, bytes]:
    return {"head": log.head, "checkpoint": log.checkpoint, "cosignature": log.cosignature}


@pytest.fixture
def witnesses(tmp_path: Path) -> Iterator[Witnesses]:
    made = Witnesses(tmp_path)
    yield made
    made.sites.close()


def test_what_a_site_writes_at_a_step_comes_up_with_its_vector(witnesses: Witnesses) -> None:
    witnesses.ready()
    for _ in range(3):
        for site, sealed in witnesses.whole().items():
            batch = RecordBatch.decode(sealed.head)
            ledger = witnesses.sites.ledgers[site]
            assert batch.head == ledger.head() and len(batch.items) == 3  # intent, charge, sent
            assert Cosignature.decode(sealed.cosignature)
    for site in KEYS:
        row = witnesses.keeper.replay.row(KEYS[site].public_key)
        assert row == witnesses.sites.ledgers[site].head().checkpoint


def test_nothing_is_trained_before_the_own_newest_record_is_in_the_log(
    witnesses: Witnesses,
) -> None:
    witnesses.ready()
    witnesses.whole()
    witnesses.tiny.open()  # a new session, with a record of its own
    witnesses.refused(Check.LOG_ABSENT, **witnesses.log())
    witnesses.meet()
    assert witnesses.tiny.send(witnesses.tiny.step(**witnesses.log()), 1) == Running()


def test_a_session_counts_only_under_a_checkpoint_that_this_process_cosigned(
    witnesses: Witnesses,
) -> None:
    """Else an old checkpoint with old cosignatures would do for a ledger of that time."""
    witnesses.ready()
    witnesses.sites.agents[1]._site_log._covered = 0
    witnesses.refused(Check.LOG_ABSENT, **witnesses.log())


def test_without_a_log_nothing_is_trained_where_it_is_required(witnesses: Witnesses) -> None:
    witnesses.ready()
    witnesses.refused(Check.LOG_MISSING)


def test_a_log_that_was_there_once_cannot_be_left_out(tmp_path: Path) -> None:
    """A coordinator whose log was put back or forked would else say nothing of it."""
    found = Witnesses(tmp_path, {"log": "when-present"})
    found.tiny.open()
    assert found.tiny.send(found.tiny.step(), 1) == Running()  # it has none yet
    found.sites.close()
    (tmp_path / "later").mkdir()
    found = Witnesses(tmp_path / "later", {"log": "when-present"})
    found.ready()
    found.refused(Check.LOG_MISSING)
    found.sites.close()


def test_too_few_cosignatures_are_named_and_stop_only_who_requires_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for policy, log in (("required", tmp_path / "a"), ("when-present", tmp_path / "b")):
        log.mkdir()
        found = Witnesses(log, {"log": policy})
        found.ready()
        proofs = LogProofs.decode(found.log()["cosignature"])
        assert set(proofs.cosignatures) == {1, 2, 3}
        own = replace(proofs, cosignatures={1: proofs.cosignatures[1]})
        exchanged = replace(proofs, cosignatures={2: proofs.cosignatures[1]})
        for few in (own, exchanged):
            fields = {**found.log(), "cosignature": few.encode()}
            if policy == "required":
                with caplog.at_level(logging.WARNING):
                    found.refused(Check.LOG_QUORUM, **fields)
                assert "these have not: harbour, hillside" in caplog.text
        if policy == "when-present":
            fields = {**found.log(), "cosignature": own.encode()}
            assert found.tiny.send(found.tiny.step(**fields), 1) == Running()
        found.sites.close()


def forked(witnesses: Witnesses, name: str, *facts: dict[str, object]) -> LogKeeper:
    """Another log that goes on from a copy of this one."""
    for file in witnesses.folder.glob("log.db*"):
        shutil.copy(file, witnesses.folder / file.name.replace("log.db", name))
    keeper = witnesses.kept(name)
    for one in facts:
        keeper.write(EntryKind.RECIPE, one)
    return keeper


def test_an_older_and_a_forked_log_are_refused_over_restarts_too(witnesses: Witnesses) -> None:
    witnesses.ready()
    old = forked(witnesses, "old.db")
    witnesses.whole()
    witnesses.whole()
    other = forked(witnesses, "other.db")
    other._store._database.execute("PRAGMA user_version")  # it is a log of its own from here on
    for restart in (False, True):
        if restart:
            witnesses.sites.start(1)
            witnesses.tiny.open()
        shown = witnesses.show(1, old.news(old.cosigned(KEYS[1])))
        assert shown.check in (Check.LOG_OLDER, Check.LOG_OWN_OLDER) and not shown.log
    last = witnesses.sites.agents[1]._site_log._memory.last(witnesses.keeper.replay.origin)
    assert last is not None
    for number in range(40):
        old.write(EntryKind.RECIPE, {"fork": number})
    longer = old.news(0)
    forged = LogProofs.decode(longer.cosignature)
    for proofs, check in (
        (forged, Check.LOG_BEHIND),
        (replace(forged, old=last.head.size, consistency=(bytes(32),) * 4), Check.LOG_FORKED),
    ):
        table = witnesses.keeper.replay.table()
        entry = LogEntry(EntryKind.HEADS, 1, table.encode()).encode()
        fields, head = _as_newest(old, entry, proofs)
        assert witnesses.show(1, fields).check == check
        assert head.size > last.head.size


def _as_newest(keeper: LogKeeper, entry: bytes, proofs: LogProofs) -> tuple[LogFields, TreeHead]:
    """A checkpoint over `entry` as the newest one, whatever it says."""
    store = keeper._store
    store.append([entry])
    head = TreeHead(keeper.replay.origin, store.size, store.root(store.size))
    proofs = replace(proofs, inclusion=store.inclusion(store.size - 1, store.size))
    note = signed_checkpoint(head, COORDINATOR)
    return LogFields(entry, note.encode(), proofs.encode()), head


@pytest.mark.parametrize(
    ("row", "check"),
    [
        ("own, newer", Check.LOG_OWN_OLDER),
        ("own, other", Check.LOG_OWN_OTHER),
        ("own, another record", Check.LOG_OWN_OTHER),
        ("peer, older", Check.OLDER_LEDGER),
        ("peer, other", Check.OTHER_LEDGER),
        ("peer, gone", Check.OLDER_LEDGER),
    ],
)
def test_a_table_that_says_something_else_of_a_ledger_is_not_cosigned(
    witnesses: Witnesses, row: str, check: Check
) -> None:
    witnesses.ready()
    whose, how = row.split(", ")
    key = KEYS[1 if whose == "own" else 2].public_key
    rows = dict(witnesses.keeper.replay.table().rows)
    true = rows.pop(key)
    wrong = {
        "newer": Checkpoint(true.ledger, true.length + 1, bytes(32)),
        "other": Checkpoint(b"\7" * 16, true.length, true.hash),
        "another record": Checkpoint(true.ledger, true.length, bytes(32)),
        "older": Checkpoint(true.ledger, true.length - 1, bytes(32)),
    }
    if how != "gone":
        rows[key] = wrong[how]
    entry = LogEntry(EntryKind.HEADS, 1, HeadsTable(rows).encode()).encode()
    size = witnesses.keeper.checkpoint().size
    proofs = LogProofs(size, (), (), {})
    fields, head = _as_newest(witnesses.keeper, entry, proofs)
    consistency = witnesses.keeper._store.consistency(size, head.size)
    proven = replace(LogProofs.decode(fields.cosignature), consistency=consistency)
    answer = witnesses.show(1, replace(fields, cosignature=proven.encode()))
    assert (answer.check, answer.log.cosignature) == (check, b"")


def test_what_the_log_has_not_signed_or_proven_is_refused(witnesses: Witnesses) -> None:
    witnesses.ready()
    good = witnesses.log()
    note = SignedNote.decode(good["checkpoint"])
    head = TreeHead.of_text(note.text)
    proofs = LogProofs.decode(good["cosignature"])
    by_north = signed_checkpoint(head, MEMBERS.identities["north"])
    table = LogEntry.decode(good["head"])
    for bad in (
        {"checkpoint": by_north.encode()},
        {"checkpoint": b"x"},
        {"head": LogEntry(EntryKind.HEADS, 1, table.body).encode()},
        {"head": b""},
        {"cosignature": b""},
        {"cosignature": replace(proofs, inclusion=proofs.inclusion[1:]).encode()},
    ):
        witnesses.refused(Check.LOG_WRONG, **{**good, **bad})
    assert witnesses.tiny.send(witnesses.tiny.step(**good), 1) == Running()


def test_two_logs_for_two_sites_make_no_sum(witnesses: Witnesses) -> None:
    """Each continues what its sites have cosigned; the label tells them apart."""
    witnesses.ready()
    other = forked(witnesses, "other.db", {"split": 1})
    common = witnesses.keeper.common(KEYS.values())
    slot = witnesses.sites.study.cohort.reply_slot
    one = witnesses.tiny.step(slot=slot, **fields_of(witnesses.keeper.news(common)))
    two = witnesses.tiny.step(slot=slot, **fields_of(other.news(common)))
    assert one.label != two.label
    answers: dict[int, Body] = {}
    for site, step in ((1, one), (2, one), (3, two)):
        assert witnesses.tiny.send(step, site) == Running()
    witnesses.sites.sleep(slot)
    for site, step in ((1, one), (2, one), (3, two)):
        answers[site] = witnesses.tiny.send(step, site)
    assert witnesses.tiny.added(one, answers).lanes[witnesses.tiny.sealed.lanes] != 0


def test_the_log_is_shown_by_the_coordinator_alone(witnesses: Witnesses) -> None:
    """Whoever else asks learns nothing of the ledger."""
    witnesses.tiny.open()
    shown = witnesses.shown(1)
    for bad in (
        replace(shown, signature=bytes(64)),
        replace(shown, since=shown.since + 1),
        replace(shown, study_digest=bytes(32)),
    ):
        answer = witnesses.tiny.ask(1, bad)
        assert isinstance(answer, SecAggRefusal) and answer.check is Check.SIGNATURE
    news = read_news(shown.log, witnesses.keeper.replay.origin, COORDINATOR.public)
    assert news.table == HeadsTable({})


def test_nothing_is_cosigned_that_the_disk_has_not(
    witnesses: Witnesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an agent that is started again would cosign what contradicts it."""
    witnesses.ready()
    witnesses.tiny.open()
    assert not witnesses.keeper.take_records([(KEYS[1], witnesses.show(1).log.head)])
    size = witnesses.keeper.checkpoint().size
    with monkeypatch.context() as patch:
        patch.setattr(log_file, "write_private", no_space)
        answer = witnesses.tiny.ask(1, witnesses.shown(1))
    assert refused(answer) is Reason.INTERNAL
    last = witnesses.sites.agents[1]._site_log._memory.last(witnesses.keeper.replay.origin)
    assert last.head.size < size
    assert witnesses.show(1).check == 0


def no_space(path: Path, data: bytes) -> None:
    raise OSError(28, "No space left on device")
