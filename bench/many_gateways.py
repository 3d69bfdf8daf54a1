"""Many gateways in one process against one real SuperLink, idle and in a round.

Rows: `gateways`, `state` (idle, round), `seconds` that were watched; for each second of them the
processor time of the SuperLink (`superlink_cores`), of the coordinator's ServerApp with its start
(`serverapp_cores`) and of all gateways (`gateways_cores`); `median` and `p95` seconds of a small
message there and back (null while idle), `messages`. Each gateway is a thread with the courier and
the connection of the real process; its agent answers at once. In a round, all are asked at once,
again and again.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil

from bench.output import BenchRow, parser, print_rows
from bench.small_flower import SmallFlower, echo_script
from client.forwarded import AtTheSocket, Forwarded
from client.gateway.courier import Agent, Courier
from client.gateway.desk import Desk, Names
from client.gateway.fleet import FleetLink
from client.gateway.memory import NodeFile
from client.gateway.options import load_key, load_tls
from client.gateway.pace import Pace

_IDLE_SECONDS: Final = 20.0
_LARGEST: Final = 1 << 20
_LONGEST_SECONDS: Final = 900.0


class _Stopped(Exception):
    """Ends a courier's loop."""


class ManyGateways:
    """The threads; `stop` ends them."""

    def __init__(self, flower: SmallFlower, count: int) -> None:
        self._stopped = threading.Event()
        self._connected = threading.Semaphore(0)
        couriers = [self._courier(flower, f"site-{number}") for number in range(count)]
        self._threads = [threading.Thread(target=self._run, args=(one,)) for one in couriers]
        for thread in self._threads:
            thread.start()
        for _ in couriers:
            self._connected.acquire()

    def stop(self) -> None:
        """End all of them."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _courier(self, flower: SmallFlower, name: str) -> Courier:
        site = flower.site(name)
        flower.register(site)
        folder = flower.folder / name
        address = f"localhost:{flower.port}"
        tls = load_tls(flower.link.credentials.authority)
        return Courier(
            FleetLink(address, tls, load_key(folder / "supernode.key")),
            Agent(Forwarded, lambda: AtTheSocket.LISTENING, _LARGEST),
            Desk(Names(address, "none", "none"), self._told),
            NodeFile(folder / "gateway"),
            Pace(),
            sleep=self._sleep,
        )

    def _told(self, line: str) -> None:
        if "Connected to" in line:
            self._connected.release()
        elif "listens" not in line:
            print(line, file=sys.stderr)

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise _Stopped

    def _run(self, courier: Courier) -> None:
        with contextlib.suppress(_Stopped):
            courier.run()


def measure_many(count: int, rounds: int) -> list[BenchRow]:
    """`count` gateways, idle and then asked `rounds` times, all at once."""
    with tempfile.TemporaryDirectory() as folder, SmallFlower(Path(folder) / "many") as flower:
        gateways = ManyGateways(flower, count)
        try:
            said: dict[str, object] = {}
            script = echo_script(count, rounds)
            idle = _watched(flower, lambda: time.sleep(_IDLE_SECONDS))
            busy = _watched(flower, lambda: said.update(flower.run(script, _LONGEST_SECONDS)))
        finally:
            gateways.stop()
    seconds = said["seconds"]
    if not isinstance(seconds, list) or said["failed"]:
        raise ValueError(f"some messages had no answer: {said}")
    nothing: BenchRow = {"median": None, "p95": None, "messages": 0}
    answered: BenchRow = {
        "median": statistics.median(seconds),
        "p95": statistics.quantiles(seconds, n=20)[-1],
        "messages": len(seconds),
    }
    return [
        {"gateways": count, "state": "idle", **idle, **nothing},
        {"gateways": count, "state": "round", **busy, **answered},
    ]


def _watched(flower: SmallFlower, action: Callable[[], None]) -> BenchRow:
    """The seconds that `action` took, and who needed how much processor for each of them."""
    began, before = time.monotonic(), _used(flower)
    action()
    seconds, after = time.monotonic() - began, _used(flower)
    cores = {f"{name}_cores": (after[name] - before[name]) / seconds for name in after}
    return {"seconds": seconds, **cores}


def _used(flower: SmallFlower) -> dict[str, float]:
    """The processor time so far, in seconds; of a ServerApp that has ended, too."""
    superexec = psutil.Process(flower.superexec.process.pid)
    ended = superexec.cpu_times()
    running = [child.cpu_times() for child in superexec.children()]
    return {
        "superlink": sum(psutil.Process(flower.superlink.process.pid).cpu_times()[:2]),
        "serverapp": ended.children_user
        + ended.children_system
        + sum(one.user + one.system for one in running),
        "gateways": sum(psutil.Process().cpu_times()[:2]),
    }


def main() -> None:
    """`python -m bench.many_gateways [--json] [--gateways N] [--rounds N]`."""
    arguments = parser("many_gateways", __doc__ or "")
    arguments.add_argument("--gateways", type=int, default=100)
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    rows = measure_many(options.gateways, options.rounds)
    print_rows("many_gateways", rows, as_json=options.json)


if __name__ == "__main__":
    main()
