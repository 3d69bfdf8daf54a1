"""A hospital's state folder is put back, or there are two: found before training, by processes.

Everything is put back together, marker and heads too, so that nothing at the hospital itself can
know: only the consortium's log, which the others have cosigned.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.plane import Plane
from bench.plane_site import RELEASED, SITE_KEY, SITE_LEDGER
from bench.plane_study import PlaneStudy
from privacy.identity import load_identity
from privacy.ledger import SqliteLedger, load_or_make_key, read_ledger
from privacy.ledger.anchors import Anchors
from privacy.wire.checks import Check, explain_check
from server.event_lines import LoggedEvent
from server.events import RoundFinished, RunFinished, RunWaiting

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]
HARMED = "north"
STUDY = PlaneStudy(rounds=40, attempts=6, mode="pooled")


def goes_on_by_itself(folder: Path) -> None:
    """The second folder writes records of its own, more than the log has of the first."""
    path = folder / SITE_LEDGER
    key = load_or_make_key(folder / "ledger.key", ledger=path)
    anchors = Anchors(load_identity(folder / SITE_KEY))
    with SqliteLedger(path, key, site=HARMED, anchors=anchors) as ledger:
        for number in range(1, 400):
            ledger.begin_session(b"\x55" * 32, 1, number, bytes(32))


def book(folder: Path) -> tuple[int, str]:
    """How many attempts the hospital has begun, and what has left it."""
    return len(read_ledger(folder / SITE_LEDGER).entries()), (folder / RELEASED).read_text()


def finished(plane: Plane, more: int) -> None:
    for _ in range(more):
        found = plane.wait_for(lambda one: isinstance(one.event, RoundFinished | RunFinished), 150)
        assert found is not None
        assert isinstance(found.event, RoundFinished), found


@pytest.mark.parametrize(
    ("harm", "check"),
    [(None, Check.LOG_OWN_OLDER), (goes_on_by_itself, Check.LOG_OWN_OTHER)],
    ids=["put back to yesterday", "two that go on"],
)
def test_a_state_folder_that_is_not_the_newest_trains_nothing(
    tmp_path: Path, harm: Callable[[Path], None] | None, check: Check
) -> None:
    first, folder, copy = Plane(tmp_path, STUDY), tmp_path / HARMED, tmp_path / "yesterday"
    try:
        first.start()
        finished(first, 1)
    finally:
        first.stop()
    shutil.copytree(folder, copy, symlinks=True)

    second = Plane(tmp_path, STUDY)
    try:
        second.go_on()
        finished(second, 2)
    finally:
        second.stop()
    assert book(folder)[0] > book(copy)[0]
    shutil.rmtree(folder)
    shutil.copytree(copy, folder, symlinks=True)
    if harm is not None:
        harm(folder)
    before = book(folder)

    third = Plane(tmp_path, STUDY)

    def told(one: LoggedEvent) -> bool:
        event = one.event
        named = isinstance(event, RunWaiting) and f"{HARMED}: " in event.reason
        return isinstance(event, RoundFinished) or named

    try:
        third.go_on()
        found = third.wait_for(told, 240)
        assert found is not None
        assert isinstance(found.event, RunWaiting), found
        # The site's own look into the log, or the coordinator's memory of its ledger: whichever is
        # first, before anything is begun.
        words = [explain_check(one) for one in (check, Check.OTHER_LEDGER)]
        assert any(one in found.event.reason for one in words), found
        assert book(folder) == before  # nothing was begun, and nothing left
    finally:
        third.stop()
