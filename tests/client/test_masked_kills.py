"""A masked agent that is killed while its update leaves: what left was charged, and left once.

The agent runs in a forked process that sends itself SIGKILL at the n-th line of the code that
releases a masked update: at every so-manieth of all that one attempt executes.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from bench.fault_site import read_frame, write_frame
from privacy.ledger import AttemptKey, State
from privacy.secagg.server import Stage
from privacy.wire.bodies import Refusal
from privacy.wire.envelope import open_envelope
from privacy.wire.reasons import Reason
from privacy.wire.secagg import Advertise, MaskedInput
from tests.privacy.ledger.ledgers import open_test_ledger

from .fakes import RUN, FakeTrainer, P
from .masked import MaskedAttempt, make_masked_agent
from .studies import make_study

TRIALS = 12
PLACES = {
    "/client/agent/masked_agent.py": {"_exchange", "_masked"},
    "/client/agent/site_agent.py": {"_looked"},
    "/client/agent/admission.py": {"commit"},
    "/privacy/secagg/client.py": {"receive", "provide", "_masked"},
    "/privacy/ledger/sqlite.py": {"commit"},
    "/tests/client/test_masked_kills.py": {"serve"},
}


class Died(Exception):
    """The site gave no answer."""


class Trap:
    """Kills the process at the `point`-th line of `PLACES`; 0: never, only count."""

    def __init__(self, point: int) -> None:
        self.point = point
        self.passed = 0

    def enter(self, frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        for path, names in PLACES.items():
            if code.co_name in names and code.co_filename.endswith(path):
                return self.line
        return None

    def line(self, frame: FrameType, event: str, argument: object) -> Any:
        self.passed += event == "line"
        if event == "line" and self.passed == self.point:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.line


def serve(folder: Path, requests: int, replies: int) -> None:
    trainer = FakeTrainer()
    trainer.result = lambda adapter: np.frombuffer(os.urandom(2 * P), np.uint16).astype(np.float32)
    with open_test_ledger(folder / "ledger.sqlite") as ledger:
        agent = make_masked_agent(ledger, trainer)
        while (data := read_frame(requests)) is not None:
            time.sleep(0.05)  # training has ended when it is asked for: each line counts once
            write_frame(replies, agent.handle(data))
        agent.stop(10)


class Site:
    """A forked agent; keeps every masked update that came from it."""

    def __init__(self, folder: Path, point: int | None = None) -> None:
        requests, self.requests = os.pipe()
        self.replies, replies = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.requests)
            os.close(self.replies)
            trap, status = Trap(point or 0), 1
            try:
                sys.settrace(trap.enter if point is not None else None)
                serve(folder, requests, replies)
                sys.settrace(None)
                (folder / "passed").write_text(str(trap.passed))
                status = 0
            finally:
                os._exit(status)
        os.close(requests)
        os.close(replies)
        self.masked: set[bytes] = set()

    def handle(self, data: bytes) -> bytes:
        try:
            write_frame(self.requests, data)
        except BrokenPipeError:
            raise Died from None
        reply = read_frame(self.replies)
        if reply is None:
            raise Died
        if isinstance(open_envelope(reply, limit=100_000).body, MaskedInput):
            self.masked.add(reply)
        return reply

    def end(self) -> int:
        os.close(self.requests)
        os.close(self.replies)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def states(folder: Path) -> dict[AttemptKey, State]:
    with open_test_ledger(folder / "ledger.sqlite") as ledger:
        return {entry.key: entry.state for entry in ledger.entries()}


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many lines one attempt executes."""
    folder = tmp_path_factory.mktemp("rehearsal")
    site = Site(folder, 0)
    MaskedAttempt().to(Stage.DONE, site)
    assert site.end() == 0
    return int((folder / "passed").read_text())


@pytest.mark.parametrize("trial", range(TRIALS))
def test_what_left_was_charged_and_a_restarted_site_sends_nothing_again(
    tmp_path: Path, lines: int, trial: int
) -> None:
    site, first = Site(tmp_path, 1 + trial * lines // TRIALS), MaskedAttempt()
    with suppress(Died):
        first.to(Stage.DONE, site)
    assert site.end() == -signal.SIGKILL
    assert len(site.masked) <= 1
    before = states(tmp_path)
    if site.masked:
        assert before == {AttemptKey(make_study().digest(), RUN, 1, 1): State.COMMITTED}

    again = Site(tmp_path)
    if first.stage is not Stage.ADVERTISE:
        answer = first.ask(again)
        assert isinstance(answer, Refusal)
        assert answer.reason is Reason.NOT_STARTED
    first_offer = MaskedAttempt().ask(again)
    journalled = AttemptKey(make_study().digest(), RUN, 1, 1) in before
    assert isinstance(first_offer, Refusal if journalled else Advertise)
    MaskedAttempt(attempt=2).to(Stage.DONE, again)
    assert again.end() == 0
    assert len(again.masked) == 1
    assert not again.masked & site.masked
    after = states(tmp_path)
    assert after[AttemptKey(make_study().digest(), RUN, 1, 2)] is State.COMMITTED
    assert all(after[key] is State.COMMITTED for key in before)  # it was under way
