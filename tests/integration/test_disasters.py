"""What takes minutes: a cut link, a wrong clock, an expired certificate, a coordinator that hangs.

A real study of short masked rounds goes on meanwhile (`bench.plane`). Each is survived, and named
within a minute at the desk that can do something about it.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench.plane_faults import ledgers_of
from bench.plane_study import PLANE_SITES, PlaneStudy
from bench.small_flower import SmallFlower, echo_script
from craftsfl.processes.gateway_command import gateway_commands
from server.events import LoggedEvent, RoundFinished
from tests.integration.far_site import FAR_SITE, Authority, HarmedPlane, cable
from tests.integration.test_gateway import told, wait_for_line

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

NAMED = 60.0  # seconds within which the right desk is told
CUT, HANGS, VALID = 360.0, 120.0, 100.0
ROUNDS = PlaneStudy(rounds=400, attempts=6)


def soon(what: Callable[[], object], seconds: float, why: Callable[[], object]) -> float:
    """Wait until `what` is true, for at most `seconds`; how long it took."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < seconds, why()
        time.sleep(0.1)
    return time.monotonic() - began


def round_ended(logged: LoggedEvent) -> bool:
    return isinstance(logged.event, RoundFinished)


def goes_on(plane: HarmedPlane, seconds: float) -> None:
    """Two more rounds end: the first may have been under way."""
    plane.events()
    for _ in range(2):
        assert plane.wait_for(round_ended, seconds) is not None, plane.operators_desk()


def ledgers_are_clean(plane: HarmedPlane) -> None:
    """Nothing left a site twice; only attempts that the disaster ended were charged without use."""
    failed = {
        (logged.event.round, logged.event.attempt)
        for logged in plane.all_events()
        if type(logged.event).__name__ in ("RoundFailed", "RoundStarted")
    }
    books = ledgers_of(plane, failed)
    assert not books.double
    assert not books.uncaused


@pytest.fixture
def plane(tmp_path: Path) -> HarmedPlane:
    return HarmedPlane(tmp_path, ROUNDS)


def test_a_link_that_is_cut_for_six_minutes(plane: HarmedPlane) -> None:
    with cable() as line:
        plane.far, plane.authority = line, Authority(line.here)
        try:
            plane.start()
            goes_on(plane, 120)
            line.cut()
            cut = time.monotonic()
            away = "The SuperLink at", "No SuperLink at"
            soon(
                lambda: any(line.startswith(away) for line in plane.desk(FAR_SITE)),
                NAMED,
                lambda: plane.desk(FAR_SITE),
            )
            time.sleep(max(0.0, cut + CUT - time.monotonic()))
            connected = sum("Connected to" in line for line in plane.desk(FAR_SITE))
            line.mend()
            soon(
                lambda: sum("Connected to" in said for said in plane.desk(FAR_SITE)) > connected,
                NAMED,
                lambda: plane.desk(FAR_SITE),
            )
            goes_on(plane, 120)
        finally:
            plane.stop()
    ledgers_are_clean(plane)


def test_a_coordinator_that_hangs_for_two_minutes(plane: HarmedPlane) -> None:
    try:
        plane.start()
        goes_on(plane, 120)
        parts = [p for part in ("superlink", "serverapp") for p in plane.processes(part)]
        assert len(parts) >= 2
        for process in parts:
            process.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        for site in PLANE_SITES:
            soon(
                lambda site=site: any("does not answer" in line for line in plane.desk(site)),
                NAMED + stopped - time.monotonic(),
                lambda site=site: plane.desk(site),
            )
        time.sleep(max(0.0, stopped + HANGS - time.monotonic()))
        for process in parts:
            process.send_signal(signal.SIGCONT)
        goes_on(plane, 120)
    finally:
        plane.stop()
    ledgers_are_clean(plane)


def test_a_certificate_that_expires_during_a_run(plane: HarmedPlane) -> None:
    plane.authority, plane.lifetime = Authority(), VALID
    written = time.monotonic()
    try:
        plane.start()
        goes_on(plane, 60)
        time.sleep(max(0.0, written + VALID + 5 - time.monotonic()))
        (superlink,) = plane.processes("superlink")
        superlink.kill()  # every connection has to be made anew
        for site in PLANE_SITES:
            soon(
                lambda site=site: any("has expired" in line for line in plane.desk(site)),
                NAMED,
                lambda site=site: plane.desk(site),
            )
        soon(lambda: "expired" in plane.operators_desk(), NAMED, plane.operators_desk)
        plane.authority.sign(plane.tls, 86_400.0)
        for process in plane.processes("superlink"):
            process.kill()
        goes_on(plane, 180)
    finally:
        plane.stop()
    ledgers_are_clean(plane)


# The gateway on a machine whose clock is moved while it runs: SHIFT holds seconds, as a double.
MOVED = """
import datetime, mmap, os, struct, sys, time
file = os.open(sys.argv.pop(1), os.O_RDONLY)
shift, real_time, Real = mmap.mmap(file, 8, prot=mmap.PROT_READ), time.time, datetime.datetime
def ahead():
    return struct.unpack("d", shift[:8])[0]
class Shifted(Real):
    @classmethod
    def now(cls, tz=None):
        return Real.now(tz) + datetime.timedelta(seconds=ahead())
time.time, datetime.datetime = lambda: real_time() + ahead(), Shifted
from client.gateway.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "ahead, words", [(600.0, "ahead of the coordinator's"), (-600.0, "behind the coordinator's")]
)
def test_a_clock_that_is_set_ten_minutes_off_during_a_run(
    tmp_path: Path, ahead: float, words: str
) -> None:
    file = tmp_path / "shift"
    file.write_bytes(struct.pack("d", 0.0))
    with SmallFlower(tmp_path / "flower") as flower, file.open("r+b") as opened:
        shift = mmap.mmap(opened.fileno(), 8)
        site = flower.site("north")
        flower.register(site)
        flower.start_agent(site, lambda data: data)
        (command,) = gateway_commands(site, flower.folder / "logs", prefix="north-")
        rest = command.argv[command.argv.index("client.gateway") + 1 :]
        argv = (sys.executable, "-P", "-c", MOVED, str(file), *rest)
        started = flower.supervisor.start(replace(command, argv=argv))
        wait_for_line(flower, "north", "Connected to", 30)
        assert flower.run(echo_script(1, 3))["failed"] == 0
        shift[:8] = struct.pack("d", ahead)
        wait_for_line(flower, "north", words, NAMED)
        asked = flower.begin(echo_script(1, 3))
        time.sleep(5)
        assert not asked.exists()
        connected = sum("Connected to" in line for line in told(flower, "north"))
        shift[:8] = struct.pack("d", 0.0)
        soon(
            lambda: sum("Connected to" in line for line in told(flower, "north")) > connected,
            NAMED,
            lambda: told(flower, "north"),
        )
        assert flower.wait_for(asked)["failed"] == 0
        assert started.exit_code() is None
        os.kill(started.process.pid, 0)
