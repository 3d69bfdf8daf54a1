"""A site agent in its own process that can be killed anywhere, for `bench.ledger_faults`.

Agent, state folder, key and ledger are real; only the trainer is quick. Its updates and its masks
are random, so that an attempt that leaves twice shows in the bytes.
A site is forked from a warm parent without torch, and answers messages over two pipes.
"""

from __future__ import annotations

import logging
import os
import resource
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from client.agent.own_ledger import open_ledger
from client.agent.site_agent import AgentParts
from client.agent.state import state_folder
from client.agent.work import still_training
from client.policy import SiteRules
from client.settings import Policy
from craftsfl.simulation.members import SimulatedMembers
from model.layout import Layout, LayoutEntry
from privacy.errors import CraftsflError
from privacy.study.manifest import Study
from privacy.wire.codec import Vector

_SITE: Final = "north"
MEMBERS: Final = SimulatedMembers.seeded((_SITE, "south", "east"), consortium="faults")
LAYOUT: Final = Layout((LayoutEntry("unet.down.lora_A", (1, 6), "float32"),))
ATTEMPTS: Final = 8
FAULT_STUDY: Final = Study.model_validate(
    {
        "name": "faults",
        "rounds": 12,
        "base": {"digest": "sha256:" + "ab" * 32, "source": "tiny"},
        "adapter": {"targets": ["attn2.to_q"], "rank": 1, "alpha": 2.0},
        "training": {
            "sampling_rate": 0.5,
            "steps": 4,
            "tiles_per_patient": 2,
            "draws_per_tile": 1,
            "clipping_norm": 1.0,
            "noise_multiplier": 4.0,
            "optimizer": "sgd",
            "learning_rate": 0.1,
        },
        "privacy": {"delta": 1e-5, "attempts": ATTEMPTS},
        "aggregation": {"strategy": "fedavg"},
        "secure_aggregation": {"roster": MEMBERS.roster.digest().hex(), "bound": 65536.0},
        "cohort": {"min_sites": 3, "round_deadline": 60.0, "reply_slot": 60.0},
        "sites": [{"name": name, "declared_patients": 10} for name in MEMBERS.identities],
        "samples": {"prompts": ["glands"], "seeds": [1]},
    }
)
_POLICY: Final = Policy(
    epsilon=1000.0,
    study_epsilon=1000.0,
    delta=1e-5,
    studies=("any",),
    bases=("any",),
    mechanisms=("local",),
    roster=MEMBERS.roster.digest().hex(),
    max_attempts=ATTEMPTS,
)
RULES: Final = SiteRules(_SITE, FAULT_STUDY, _POLICY)
READY, REFUSED, CRASHED, HUNG = b"ready", 10, 11, 12  # the first frame; exit statuses
PATIENCE: Final = 30.0  # seconds without an answer, after which a site counts as stuck
_FASTER: Final = 30_000.0  # the agent's clock: the study's time slots take milliseconds here
_STEP_SECONDS: Final = 0.0005

Place = Literal["ledger", "training", "release"]
_PLACES: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {  # parts of paths, functions
    "ledger": (("/privacy/ledger/", "/privacy/transaction"), ()),
    "training": ((), ("train", "_run", "_train", "_outcome", "_note", "_conclude")),
    "release": (
        (),
        ("_exchange", "_masked", "_looked", "_without_update", "commit", "_serve", "write_frame"),
    ),
}
_OWN: Final = ("/client/agent/", "/bench/fault_site.py")


class QuickTrainer:
    """Takes a few milliseconds for a random update."""

    layout = LAYOUT

    def train(self, adapter: Vector, *, progress: Any, should_stop: Any) -> Vector:  # noqa: ANN401
        """See `client.training.RoundTrainer`."""
        _work(progress, should_stop)
        drawn = np.frombuffer(os.urandom(2 * adapter.size), np.uint16)
        return drawn.astype(np.float32)

    def clipped_sum(
        self,
        adapter: Vector,
        step: int,
        *,
        progress: Any,  # noqa: ANN401
        should_stop: Any,  # noqa: ANN401
    ) -> NDArray[np.int64]:
        """See `client.training.RoundTrainer`."""
        _work(progress, should_stop)
        drawn = np.frombuffer(os.urandom(2 * adapter.size), np.uint16)
        return drawn.astype(np.int64)

    def withdraw(self, patients: Collection[int]) -> None:
        """Nobody is here."""


def _work(progress: Any, should_stop: Any) -> None:  # noqa: ANN401
    steps = FAULT_STUDY.training.steps
    for step in range(steps):
        if should_stop():
            raise RuntimeError("stopped")
        time.sleep(_STEP_SECONDS)
        progress(step + 1, steps)


class _Clock:
    """Fast seconds that stop while the site trains: traced or not, no update is late."""

    def __init__(self) -> None:
        self._last, self._now = time.monotonic(), 0.0

    def __call__(self) -> float:
        now = time.monotonic()
        if not still_training():
            self._now += (now - self._last) * _FASTER
        self._last = now
        return self._now


@dataclass
class Trap:
    """Sends SIGKILL to its own process at the `point`-th line executed in `place`."""

    place: Place
    point: int  # 0: never, only count
    passed: int = 0

    def arm(self) -> None:
        """For this thread and all threads that it starts."""
        threading.settrace(self._enter)
        sys.settrace(self._enter)

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:  # noqa: ANN401
        paths, functions = _PLACES[self.place]
        file = frame.f_code.co_filename
        if functions:
            here = frame.f_code.co_name in functions and any(own in file for own in _OWN)
        else:
            here = any(part in file for part in paths)
        return self._line if here else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:  # noqa: ANN401
        if event == "line":
            self.passed += 1
            if self.passed == self.point:
                os.kill(os.getpid(), signal.SIGKILL)
        return self._line


class ForkedSite:
    """The parent's end of a forked site, which answers until it dies or is stopped."""

    def __init__(
        self, folder: Path, *, trap: Trap | None = None, file_limit: int | None = None
    ) -> None:
        self._deadline = float("inf")
        self._hung = False
        requests, self._requests = os.pipe()
        self._replies, replies = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._requests)
            os.close(self._replies)
            _child(folder, requests, replies, trap, file_limit)
        os.close(requests)
        os.close(replies)

    def kill_after(self, seconds: float) -> None:
        """Send SIGKILL after `seconds`, whatever is being asked at that moment."""
        self._deadline = time.monotonic() + seconds

    def ready(self) -> bool:
        """Wait until the ledger is open; False if it died or refused."""
        return self._answer() == READY

    def ask(self, data: bytes) -> bytes | None:
        """The agent's answer; None if it has died, or was killed because it hung."""
        try:
            write_frame(self._requests, data)
        except BrokenPipeError:
            return None
        return self._answer()

    def stop(self) -> int:
        """Let the site end by itself; its exit status, negative for a signal, or HUNG."""
        os.close(self._requests)
        end = time.monotonic() + PATIENCE
        done, status = os.waitpid(self.pid, os.WNOHANG)
        while not done:
            if time.monotonic() > end:
                self._hung = True
                self.kill()
            time.sleep(0.0005)
            done, status = os.waitpid(self.pid, os.WNOHANG)
        os.close(self._replies)
        return HUNG if self._hung else os.waitstatus_to_exitcode(status)

    def kill(self) -> None:
        """SIGKILL, now."""
        os.kill(self.pid, signal.SIGKILL)

    def _answer(self) -> bytes | None:
        wait = max(0.0, self._deadline - time.monotonic())
        if not select.select([self._replies], [], [], min(PATIENCE, wait))[0]:
            self._hung = wait >= PATIENCE
            self.kill()
        return read_frame(self._replies)


def write_frame(file: int, data: bytes) -> None:
    """A length and the bytes in one write: a pipe accepts this few entirely or not at all."""
    os.write(file, len(data).to_bytes(4, "big") + data)


def read_frame(file: int) -> bytes | None:
    """What `write_frame` wrote; None at the end."""
    length = os.read(file, 4)
    return os.read(file, int.from_bytes(length, "big")) if len(length) == 4 else None


def _child(
    folder: Path, requests: int, replies: int, trap: Trap | None, file_limit: int | None
) -> None:
    """The forked site; never returns."""
    status = CRASHED
    try:
        logging.disable()
        if file_limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
        if trap is not None:
            trap.arm()
        status = _serve(folder, requests, replies)
        sys.settrace(None)
        if trap is not None and trap.point == 0:
            (folder / "passed").write_text(str(trap.passed))
    except BaseException:  # noqa: BLE001 - a fork must not go on as its parent, whatever happens
        traceback.print_exc()
    finally:
        os._exit(status)


def _serve(folder: Path, requests: int, replies: int) -> int:
    try:
        with state_folder(folder) as state, open_ledger(state, _SITE) as ledger:
            state.cache.mkdir(exist_ok=True)  # as the agent does next; it marks the folder as used
            clock = _Clock()
            agent = MEMBERS.agent(_SITE, AgentParts(RULES, ledger, QuickTrainer(), clock=clock))
            write_frame(replies, READY)
            while (data := read_frame(requests)) is not None:
                write_frame(replies, agent.handle(data))
            agent.stop(PATIENCE)
    except CraftsflError as error:
        write_frame(replies, error.message.encode())
        return REFUSED if error.hint else CRASHED
    except BrokenPipeError:
        return 0
    return 0
