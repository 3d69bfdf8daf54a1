"""The gateway's process: `python -P -m client.gateway --superlink HOST:PORT --key FILE …`.

Exit status: 0 after SIGTERM or SIGINT, 1 where a person has to change something (a line says
what), 2 for a wrong option. It does not end for anything that happens on the network.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything of ours is imported
    import runpy
    import sys
    from pathlib import Path

    shadows = Path(__file__).resolve().parents[2] / "privacy" / "shadows.py"
    if words := runpy.run_path(str(shadows))["explain_shadow"]():
        sys.exit(words)

import contextlib
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from client.gateway.confinement import Lock, Surroundings, confine
from client.gateway.memory import NodeFile
from client.gateway.options import GatewayOptions, first_hop, load_key, load_tls, parse_options
from client.gateway.trouble import FleetTrouble
from privacy.error_ids import ErrorId
from privacy.errors import CraftsflError, PolicyError

if TYPE_CHECKING:
    from client.gateway.fleet import FleetLink

_LEAVING_SECONDS = 3.0


class _Ended(BaseException):
    """A signal has asked this process to end."""


def run_gateway(options: GatewayOptions) -> None:
    """Carry messages until a signal ends it. Raises `CraftsflError` for unusable settings."""
    key, tls, memory = load_key(options.key), load_tls(options.authority), NodeFile(options.home)
    lock = _shut_in(options, memory)
    # Only now: flwr brings numpy, numpy starts threads, and Landlock takes only one.
    from client.gateway.courier import Agent, Courier
    from client.gateway.desk import Desk, Names
    from client.gateway.fleet import FleetLink

    names = Names(options.superlink, str(options.socket), str(_public_half(options.key)))
    link = FleetLink(options.superlink, tls, key)
    agent = Agent(lock.agent.forward, lock.agent.knock, options.largest)
    courier = Courier(link, agent, Desk(names, write_line), memory, options.pace)
    try:
        courier.run()
    finally:
        _leave(link)


def _shut_in(options: GatewayOptions, memory: NodeFile) -> Lock:
    """Shut this process in; `PolicyError` if it has to be and is not."""
    host, port = first_hop(options.superlink)
    readable = (options.key, *([options.authority] if options.authority else []))
    lock = confine(
        Surroundings(
            readable,
            options.socket,
            host,
            port,
            options.largest,
            remembered=(memory.descriptor,),
            private=options.private,
        )
    )
    write_line(lock.held.text)
    if options.one_user and not lock.held.is_airlock:
        raise PolicyError(
            f"The gateway runs as the agent's user, and is not shut in. {lock.held.text}",
            "Run the two parts as two users (docs/hospital.md, Install and serve).",
            id=ErrorId.ONE_USER,
        )
    return lock


def write_line(text: str) -> None:
    """One line of the log, with the time; none where its disk is full, which ends nothing."""
    line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n"
    with contextlib.suppress(OSError):
        os.write(1, line.encode("utf-8", "backslashreplace"))


def _leave(link: FleetLink) -> None:
    """Say goodbye, so that Flower admits the next process at once; not for long."""
    if not link.node:
        return

    def goodbye() -> None:
        try:
            link.leave()
        except FleetTrouble:
            return  # the next process goes on as the same node

    farewell = threading.Thread(target=goodbye, daemon=True)
    farewell.start()
    farewell.join(_LEAVING_SECONDS)


def _public_half(key: Path) -> Path:
    return key.with_suffix(".pub")


def _end(number: int, frame: FrameType | None) -> None:
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    raise _Ended


def main(arguments: Sequence[str]) -> int:
    """Run; returns the exit status."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    options = parse_options(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    try:
        run_gateway(options)
    except _Ended:
        return 0
    except CraftsflError as error:
        from client.gateway.desk import DESK_MARK

        write_line(f"{DESK_MARK}The gateway cannot start. {error}")
        return 1
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)  # a goodbye that hangs must not hold up the exit
