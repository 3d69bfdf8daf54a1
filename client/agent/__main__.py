"""The site agent's process: `python -P -m client.agent --site site.toml`.

Exit status: 0 after SIGTERM or SIGINT, 1 where a person has to change something (the text on
standard error says what), 3 after an unexpected error.
"""

from __future__ import annotations

if __name__ == "__main__":  # before an import starts threads or looks at the environment
    import runpy
    import sys
    from pathlib import Path

    from client.agent.isolation import isolate
    from client.trainer.nursery import expendable, fork_nursery

    score = expendable()
    isolate()
    nursery = fork_nursery(score)
    shadows = Path(__file__).resolve().parents[2] / "privacy" / "shadows.py"
    if words := runpy.run_path(str(shadows))["explain_shadow"]():
        sys.exit(words)

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

from client.agent.apart import ONE_USER, ONE_USER_HELP, check_alone, check_apart
from client.agent.boundary import Failure, configure_logs, contained
from client.agent.gate import AgentGate
from client.agent.generator import tried_ledger
from client.agent.in_force import InForce, policy_digest
from client.agent.isolation import confinement
from client.agent.known_layout import KnownLayout
from client.agent.own_ledger import note_in_register
from client.agent.progress import ProgressSource
from client.agent.ready import ReadyAgent, SiteMemory
from client.agent.release import installed_release
from client.agent.reload import START_AGAIN, is_asked, taken_up
from client.agent.requests import RequestLog
from client.agent.roster_gate import RosterGate
from client.agent.service import serve
from client.agent.site_agent import AgentParts
from client.agent.standing import Standing
from client.agent.startup import LoadedSite, load
from client.agent.state import StateFolder, state_folder
from client.agent.wishes import SiteWish, WishFile
from client.patients import open_patients
from client.trainer.keeper import TrainerKeeper
from client.trainer.orders import MODULE, Orders
from client.trainer.process import Nursery, TrainerProcess
from privacy.errors import CraftsflError
from privacy.ledger import SqliteLedger, load_or_make_key
from privacy.ledger.notes import Note
from privacy.study.pooling import grid_of
from privacy.visible import visible
from privacy.wire.sealed import sealed_size_limit
from privacy.wire.secagg import masked_size_limit
from privacy.wire.signing import SIGNING_BYTES

GRACE_SECONDS = 1.0
SIGNAL_SECONDS = 0.2
SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = logging.getLogger("craftsfl.agent")


def run_agent(
    site_toml: Path, nursery: Nursery, *, trainer: str = MODULE, one_user: bool = False
) -> int:
    """Serve the site of `site_toml` until SIGTERM or SIGINT; returns the exit status.

    `one_user`: the SuperNode may run as this same user, and then nothing keeps the coordinator's
    code away from data and keys. `nursery` starts the trainers, in which the module `trainer` runs.
    They end with this process, whatever they do: nothing of it can leave any more.
    """
    configure_logs()
    order = partial(_ordered, nursery, site_toml.resolve(), trainer)
    try:
        with _interrupted_by_signals() as told:
            status = contained(lambda: _serve_or_explain(site_toml, order, told, one_user))
    except KeyboardInterrupt:
        status = 0
    if isinstance(status, Failure):
        _log.error("The agent ended: %s", status.text)
        return 3
    if status == 0:
        _log.info("Stopped.")
    return status


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold SIGTERM and SIGINT back for a moment; they arrive at its end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve_or_explain(
    site_toml: Path, order: Callable[[LoadedSite], TrainerProcess], told: _Told, one_user: bool
) -> int:
    try:
        while True:
            site = load(site_toml)
            check_alone(confinement(), site.rules.policy)
            check_apart(site.settings, one_user=one_user)
            status = _serve(site, partial(order, site), told)
            if status != START_AGAIN:
                return status
            _log.info("Starting again, with the files as they are now.")
    except CraftsflError as error:
        sys.stderr.write(_explained(error))
        return 1


def _ordered(nursery: Nursery, site_toml: Path, module: str, site: LoadedSite) -> TrainerProcess:
    """Have a trainer of this site's study started."""
    return nursery.start(Orders(str(site_toml), site.rules.study.digest().hex(), module))


def _explained(error: CraftsflError) -> str:
    """As the command line explains an error; `site serve --only agent` shows it to a person."""
    lines = ("Error", error.message), ("Next", error.hint), ("Id", f"{error.id} (docs/errors.md)")
    shown = ((title, visible(text, keep="\n")) for title, text in lines if text)
    return "".join(f"{title}: {text}\n" for title, text in shown)


def _serve(site: LoadedSite, start: Callable[[], TrainerProcess], told: _Told) -> int:
    """Serve until a signal, or until it is to start again; returns the exit status."""
    own = site.settings.agent
    with ExitStack() as stack:
        state = stack.enter_context(state_folder(own.state))
        ledger = stack.enter_context(tried_ledger(state, site))
        site.rules.check_other_studies(ledger.entries())
        taken_up(state.reload)
        _note_what_holds(site, state)
        progress, memory = ProgressSource(), KnownLayout(state.known_layout, site.rules)
        keeper = TrainerKeeper(start, memory.read())
        gate = AgentGate(progress, keeper.ready_for)
        signing = RosterGate.of(site, gate.handle)
        most = max(_longest_message(site), SIGNING_BYTES)
        mode = int(own.socket_mode, 8)
        socket = site.settings.socket_path()
        with _signals_held():  # a socket that is bound is also removed again
            requests = _request_log(state, ledger)
            service = serve(
                requests.noting(signing.handle), progress, socket, limit=most, mode=mode
            )
            stack.callback(service.stop, GRACE_SECONDS)
        with open_patients(state.path):  # the trainer's: made, or found damaged, before it starts
            note_in_register(state, Note.of(ledger.head(), ledger.entries(), site.charge))
        stack.callback(keeper.stop)
        keeper.start()
        parts = AgentParts(site.rules, ledger, keeper, progress, wish=WishFile(state.wish).read)
        standing = Standing(
            ReadyAgent(parts, site.membership, SiteMemory.at(state)), keeper, gate, service, memory
        )
        stack.callback(standing.stop)
        # Neither one endless wait nor an Event: the system may deliver the signal to any thread,
        # Python handles it when the main thread runs again, and an exception that is raised in a
        # finaliser is lost.
        while not told.to_stop:
            standing.update()
            if is_asked(state.reload) and standing.retire():
                return START_AGAIN
            time.sleep(SIGNAL_SECONDS)
    return 0


def _request_log(state: StateFolder, ledger: SqliteLedger) -> RequestLog:
    """The log of requests, signed with the ledger's key."""
    key = load_or_make_key(state.ledger_key, ledger=state.ledger)
    return RequestLog(state.requests, key, lambda: ledger.head().sequence, time.time)


def _note_what_holds(site: LoadedSite, state: StateFolder) -> None:
    """Tell the site's own commands which policy and study this agent has read."""
    wish = WishFile(state.wish).read()
    if wish is not SiteWish.RUN:
        _log.warning("%s To take part again: craftsfl site resume.", wish.words)
    policy = policy_digest(site.settings.policy)
    release = ".".join(map(str, installed_release()))
    with suppress(OSError):  # only `site status` says less
        InForce(policy, site.rules.study.digest().hex(), time.time(), release).write(state.in_force)


def _longest_message(site: LoadedSite) -> int:
    """The most bytes of a message before the adapter's layout is known."""
    study, policy = site.rules.study, site.rules.policy
    if not study.pools_noise:
        return masked_size_limit(len(study.sites), 0, policy.max_parameters)
    lanes = grid_of(study, len(study.sites)).lanes
    return sealed_size_limit(len(study.sites), lanes, study.rounds)


@dataclass
class _Told:
    """Whether SIGTERM or SIGINT came; set by the signal handler."""

    to_stop: bool = False

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """The handler: note it, let no second signal disturb the end, leave what is running."""
        self.to_stop = True
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt


@contextmanager
def _interrupted_by_signals() -> Iterator[_Told]:
    """Turn the first SIGTERM or SIGINT into KeyboardInterrupt; later ones change nothing.

    Only the main thread gets signals; elsewhere the caller handles the shutdown itself.
    """
    told = _Told()
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    before = [signal.signal(number, told.interrupt) for number in SIGNALS]
    try:
        yield told
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)


def main(nursery: Nursery) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m client.agent", description="The site agent.")
    parser.add_argument("--site", type=Path, required=True, help="the site's settings, site.toml")
    parser.add_argument(ONE_USER, action="store_true", dest="one_user", help=ONE_USER_HELP)
    asked = parser.parse_args()
    return run_agent(asked.site, nursery, one_user=asked.one_user)


if __name__ == "__main__":
    exit_status = main(Nursery(*nursery))
    logging.shutdown()
    # Ledger, lock and socket are closed; taking gRPC down would only add time.
    os._exit(exit_status)
