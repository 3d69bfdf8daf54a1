"""The consortium's log around the steps of a study: a coordinator and agents, in one process."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privacy.log.checkpoints import TreeHead, cosigned_by
from privacy.log.entries import EntryKind
from privacy.log.replay import LogReplay
from privacy.log.store import LogStore
from privacy.wire.checks import Check, explain_check
from privacy.wire.envelope import open_envelope
from privacy.wire.log import LogShown
from privacy.wire.sealed import OpenedSum, SealedStep
from server.inprocess import GridFault
from server.rounds import run_federation
from tests.client.sealed import sealed_values
from tests.pooled_study import COORDINATOR
from tests.server.fakes import RUN, WaitsForEver
from tests.server.sealed import LARGE, REQUIRED, SealedWorld, after


def replayed(world: SealedWorld) -> LogReplay:
    """The coordinator's log, as an auditor reads it."""
    replay = LogReplay(COORDINATOR.public)
    with LogStore(world.folder / "transparency.db") as store:
        for entry in store.entries():
            replay.take(entry)
    return replay


def cosigned(world: SealedWorld) -> tuple[TreeHead, frozenset[int]]:
    """The newest checkpoint, and the sites that have cosigned it."""
    with LogStore(world.folder / "transparency.db") as store:
        note = store.checkpoint()
        assert note is not None
        head = TreeHead.of_text(note.text)
        by_key = store.cosignatures(head.size)
    roster = world.members.roster
    found = {site: by_key[key] for key in by_key if (site := roster.site_of(key)) is not None}
    return head, cosigned_by(head, found, roster)


def test_a_study_ends_with_everything_in_the_log_and_cosigned(
    pooled: Callable[..., SealedWorld],
) -> None:
    """Three sites that all require it can start, and steps cost no message more."""
    world = pooled(log=True, policy=REQUIRED)
    shown, steps = [], []

    def faults(node: int, number: int, request: bytes) -> GridFault | None:
        body = open_envelope(request, limit=LARGE).body
        shown.extend([node] if isinstance(body, LogShown) else [])
        steps.extend([node] if isinstance(body, SealedStep) else [])
        return None

    world.faults = faults
    run_federation(world.federation())
    replay = replayed(world)
    for ledger in world.sites.ledgers.values():
        line = replay.lines[ledger.head().ledger]
        assert line.head == ledger.head()
        assert line.entries == ledger.entries()
    head, sites = cosigned(world)
    assert head.size == replay.size and sites == {1, 2, 3}
    opened = [values for kind, values in replay.facts if kind is EntryKind.STEP]
    sums = [OpenedSum.decode(total) for _, _, total in world.store().steps.sums()]
    assert [one["opened"] for one in opened] == [total.digest().hex() for total in sums]
    sent = {entry.sent.hex() for entry in world.sites.ledgers[1].entries()}
    assert {one["vectors"]["1"] for one in opened} == sent  # type: ignore[index]
    assert len(shown) == 3 * 3  # records, a cosignature, and one after the last step
    assert len(steps) == 3 * 6


def test_the_next_run_goes_on_in_the_same_log(pooled: Callable[..., SealedWorld]) -> None:
    spare = {**sealed_values()["pooled"], "spare_attempts": 9}
    world = pooled(log=True, policy=REQUIRED, pooled=spare)
    run_federation(world.federation())
    before, _ = cosigned(world)
    for site in world.sites.sites:
        world.sites.start(site)
    with LogStore(world.folder / "transparency.db") as store:
        first = list(store.entries())
    run_federation(world.federation(run=RUN + 1))
    head, sites = cosigned(world)
    assert head.size > before.size and sites == {1, 2, 3}
    with LogStore(world.folder / "transparency.db") as store:
        assert list(store.entries())[: len(first)] == first


def test_what_others_left_for_the_log_is_in_it_with_the_next_step_and_cosigned(
    pooled: Callable[..., SealedWorld],
) -> None:
    """A promotion in the middle of a run: the ServerApp has the log, and takes it."""
    world = pooled(log=True, policy=REQUIRED)
    left: list[tuple[EntryKind, dict[str, object]]] = []
    entry = (EntryKind.PROMOTION, {"study": "0" * 64, "number": 1})
    federation = world.federation(tracker=after(world, 1, lambda: left.append(entry)))
    keeper = federation.log
    assert keeper is not None
    keeper._waiting = lambda: left
    run_federation(federation)
    facts = replayed(world).facts
    assert facts.count(entry) == 1
    kinds = [kind for kind, _ in facts]
    steps = [at for at, kind in enumerate(kinds) if kind is EntryKind.STEP]
    assert steps[0] < kinds.index(EntryKind.PROMOTION) < steps[1]
    assert cosigned(world)[1] == {1, 2, 3}


def saved(world: SealedWorld, name: str) -> Path:
    """A copy of all that the site `name` has on disk."""
    copy = world.folder / "yesterday"
    copy.mkdir()
    for file in world.folder.glob(f"{name}*"):
        shutil.copy(file, copy / file.name)
    return copy


def put_back(world: SealedWorld, copy: Path, site: int) -> None:
    """End the site's agent, put its files back, and start it again."""
    world.sites.agents[site].stop(5)
    world.sites.ledgers[site].close()
    for file in world.folder.glob(f"{world.sites.name(site)}*"):
        file.unlink()
    shutil.copytree(copy, world.folder, dirs_exist_ok=True)
    world.sites.start(site)


def test_a_state_folder_put_back_to_yesterday_is_found_before_training_and_named(
    pooled: Callable[..., SealedWorld], events: Any, caplog: pytest.LogCaptureFixture
) -> None:
    world = pooled(log=True, policy=REQUIRED)
    copies: list[Path] = []
    run_federation(world.federation(after(world, 1, lambda: copies.append(saved(world, "north")))))
    put_back(world, copies[0], 1)
    trained = world.sites.trainers[1].calls
    world.clock.latest = world.clock.now + 60.0
    with caplog.at_level(logging.ERROR), pytest.raises(WaitsForEver):
        run_federation(world.federation(run=RUN + 1))
    assert world.sites.trainers[1].calls == trained  # nobody trained for it
    assert explain_check(Check.LOG_OWN_OLDER) in caplog.text
    told = re.search(r"ledger here has (\d+)\..* --others-have-seen (\d+) \(docs", caplog.text)
    assert told and int(told[1]) < int(told[2])  # what to type where no newer copy is left
    waiting = [event["reason"] for event in events("run-waiting")]
    assert any(f"north: {explain_check(Check.LOG_OWN_OLDER)}" in reason for reason in waiting)


def test_a_second_state_folder_that_goes_on_by_itself_is_found(
    pooled: Callable[..., SealedWorld], caplog: pytest.LogCaptureFixture
) -> None:
    """The copy has as many records as the log by the time it is asked, and others."""
    world = pooled(log=True, policy=REQUIRED)
    copies: list[Path] = []
    run_federation(world.federation(after(world, 1, lambda: copies.append(saved(world, "north")))))
    put_back(world, copies[0], 1)
    for number in range(1, 20):
        world.sites.ledgers[1].begin_session(b"\x55" * 32, 1, number, bytes(32))
    world.clock.latest = world.clock.now + 60.0
    with caplog.at_level(logging.ERROR), pytest.raises(WaitsForEver):
        run_federation(world.federation(run=RUN + 1))
    assert explain_check(Check.LOG_OWN_OTHER) in caplog.text


@pytest.mark.parametrize("how", ["older", "forked"])
def test_a_log_that_was_put_back_or_begun_again_is_refused_by_every_site(
    pooled: Callable[..., SealedWorld],
    events: Any,
    how: str,
) -> None:
    world = pooled(log=True, policy=REQUIRED)
    path = world.folder / "transparency.db"

    def keep() -> None:
        with LogStore(path) as store, LogStore(world.folder / "old.db") as old:
            old.append(list(store.entries(0, 2 if how == "forked" else 5)))

    run_federation(world.federation(after(world, 1, keep)))
    calls = [trainer.calls for trainer in world.sites.trainers.values()]
    for file in world.folder.glob("transparency.db*"):
        file.unlink()
    shutil.copy(world.folder / "old.db", path)
    for site in world.sites.sites:
        world.sites.start(site)
    world.clock.latest = world.clock.now + 60.0
    with pytest.raises(WaitsForEver):
        run_federation(world.federation(run=RUN + 1))
    assert [trainer.calls for trainer in world.sites.trainers.values()] == calls
    waiting = " ".join(event["reason"] for event in events("run-waiting"))
    for name in world.nodes:
        assert f"{name}: It has cosigned a log that this one does not continue" in waiting


def test_a_coordinator_that_is_killed_goes_on_with_the_log(
    pooled: Callable[..., SealedWorld],
) -> None:
    class Killed(BaseException):
        pass

    for place in (2, 5, 8, 11):
        world = pooled(log=True, policy=REQUIRED, folder=f"killed-{place}")
        seen: list[int] = []

        def faults(node: int, number: int, request: bytes, seen=seen, place=place) -> Any:
            if isinstance(open_envelope(request, limit=LARGE).body, SealedStep):
                seen.append(node)
                if len(seen) == place:
                    raise Killed
            return None

        world.faults = faults
        with pytest.raises(Killed):
            run_federation(world.federation())
        world.faults = None
        run_federation(world.federation())
        replay = replayed(world)
        head, sites = cosigned(world)
        assert head.size == replay.size and sites == {1, 2, 3}
        for ledger in world.sites.ledgers.values():
            assert replay.lines[ledger.head().ledger].head == ledger.head()


def test_a_lost_step_is_in_the_log_and_the_next_attempt_is_shown_it(
    pooled: Callable[..., SealedWorld],
) -> None:
    world = pooled(log=True, policy=REQUIRED)
    lost: list[int] = []

    def restart() -> None:
        if not lost:
            lost.append(1)
            world.sites.start(2)  # its keys are gone: a new session

    run_federation(world.federation(after(world, 1, restart)))
    replay = replayed(world)
    refusals = [values for kind, values in replay.facts if kind is EntryKind.REFUSAL]
    assert refusals and all(values["site"] == "harbour" for values in refusals)
    _, sites = cosigned(world)
    assert sites == {1, 2, 3}


def test_a_consortium_without_a_log_steps_only_where_no_site_requires_one(
    pooled: Callable[..., SealedWorld],
) -> None:
    world = pooled()
    run_federation(world.federation())
    strict = pooled(policy=REQUIRED, folder="strict")
    strict.clock.latest = strict.clock.now + 1800.0
    with pytest.raises(Exception, match="log"):
        run_federation(strict.federation())
    assert all(not ledger.entries() for ledger in strict.sites.ledgers.values())
