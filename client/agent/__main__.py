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

    isolate()
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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from client.agent.apart import ONE_USER, ONE_USER_HELP, check_alone, check_apart
from client.agent.boundary import Failure, configure_logs, contained
from client.agent.isolation import confinement
from client.agent.own_ledger import note_in_register, open_ledger
from client.agent.progress import ENCODING, LOADING, READY, ProgressEvent, ProgressSource
from client.agent.ready import ReadyAgent, SiteMemory
from client.agent.service import serve
from client.agent.site_agent import AgentParts, SiteAgent
from client.agent.startup import LoadedSite, TrainerFactory, load, load_data, load_trainer
from client.agent.state import state_folder
from client.agent.withdrawals import ConsentingTrainer
from client.agent.work import still_training
from client.patients import open_patients
from privacy.errors import CraftsflError
from privacy.ledger.notes import Note
from privacy.visible import visible
from privacy.wire.envelope import refuse
from privacy.wire.reasons import Reason
from privacy.wire.secagg import masked_size_limit

PATIENCE_SECONDS = 8.0  # of a message for an agent that still loads; the forwarder waits for 15
STOP_SECONDS = 4.0  # for training to reach the end of a physical batch; the whole exit takes < 10 s
GRACE_SECONDS = 1.0
SIGNAL_SECONDS = 0.2
SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = logging.getLogger("craftsfl.agent")


class Gate:
    """Makes a message wait for the agent for a while, then answers NOT_READY.

    Being asked again costs the site a whole client process, on the cores that load the model.
    """

    def __init__(self) -> None:
        self._agent: SiteAgent | None = None
        self._opened = threading.Event()

    def open(self, agent: SiteAgent) -> None:
        """From now on `agent` answers, also those who wait."""
        self._agent = agent
        self._opened.set()

    def handle(self, data: bytes) -> bytes:
        """The agent's answer to a sealed message, or a refusal."""
        self._opened.wait(PATIENCE_SECONDS)
        agent = self._agent
        return refuse(data, Reason.NOT_READY) if agent is None else agent.handle(data)


def run_agent(
    site_toml: Path, *, trainer: TrainerFactory = load_trainer, one_user: bool = False
) -> int:
    """Serve the site of `site_toml` until SIGTERM or SIGINT; returns the exit status.

    `one_user`: the SuperNode may run as this same user, and then nothing keeps the coordinator's
    code away from data and keys. `trainer` makes the resident trainer from settings and data. Ends
    the process itself if a physical batch takes longer than the time to stop: nothing of it can
    leave any more.
    """
    configure_logs()
    try:
        with _interrupted_by_signals() as told:
            status = contained(lambda: _serve_or_explain(site_toml, trainer, told, one_user))
    except KeyboardInterrupt:
        status = 0
    if isinstance(status, Failure):
        _log.error("The agent ended: %s", status.text)
        return 3
    if status == 0:
        _log.info("Stopped.")
    if still_training():
        os._exit(status)
    return status


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold SIGTERM and SIGINT back for a moment; they arrive at its end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _before_rounds(phase: str, done: int = 0, total: int = 0) -> ProgressEvent:
    return ProgressEvent(0, 0, 0, phase, done, total)


def _serve_or_explain(site_toml: Path, trainer: TrainerFactory, told: _Told, one_user: bool) -> int:
    try:
        site = load(site_toml)
        check_alone(confinement(), site.rules.policy)
        check_apart(site.settings, one_user=one_user)
        _serve(site, trainer, told)
    except CraftsflError as error:
        sys.stderr.write(_explained(error))
        return 1
    return 0


def _explained(error: CraftsflError) -> str:
    """As the command line explains an error; `site serve --only agent` shows it to a person."""
    lines = ("Error", error.message), ("Next", error.hint), ("Id", f"{error.id} (docs/errors.md)")
    shown = ((title, visible(text, keep="\n")) for title, text in lines if text)
    return "".join(f"{title}: {text}\n" for title, text in shown)


def _serve(site: LoadedSite, trainer: TrainerFactory, told: _Told) -> None:
    own, policy = site.settings.agent, site.rules.policy
    with ExitStack() as stack:
        state = stack.enter_context(state_folder(own.state))
        ledger = stack.enter_context(open_ledger(state, site.rules.name, site.own, site.charge))
        site.rules.check_other_studies(ledger.entries())
        gate, progress = Gate(), ProgressSource()
        most = masked_size_limit(len(site.rules.study.sites), 0, policy.max_parameters)
        mode = int(own.socket_mode, 8)
        socket = site.settings.socket_path()
        with _signals_held():  # a socket that is bound is also removed again
            service = serve(gate.handle, progress, socket, limit=most, mode=mode)
            stack.callback(service.stop, GRACE_SECONDS)
        progress.publish(_before_rounds(LOADING))

        def on_encoded(done: int, total: int) -> None:
            progress.publish(_before_rounds(ENCODING, done, total))

        patients = stack.enter_context(open_patients(state.path))
        note_in_register(state, Note.of(ledger.head(), ledger.entries(), site.charge))
        data = load_data(site, state, patients)
        resident = ConsentingTrainer(
            trainer(site, data, state, on_encoded), data, patients, state.cache
        )
        resident.apply()  # who withdrew while the tiles were encoded is still in the cache
        parts = AgentParts(site.rules, ledger, resident, progress)
        agent = ReadyAgent(parts, site.membership, SiteMemory.at(state)).make()
        service.set_limit(agent.limit)
        stack.callback(agent.stop, STOP_SECONDS)
        gate.open(agent)
        service.set_ready(True)
        progress.publish(_before_rounds(READY))
        _log.info("Ready.")
        # Neither one endless wait nor an Event: the system may deliver the signal to any thread,
        # Python handles it when the main thread runs again, and an exception that is raised in a
        # finaliser is lost.
        while not told.to_stop:
            time.sleep(SIGNAL_SECONDS)
            resident.apply()


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


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m client.agent", description="The site agent.")
    parser.add_argument("--site", type=Path, required=True, help="the site's settings, site.toml")
    parser.add_argument(ONE_USER, action="store_true", dest="one_user", help=ONE_USER_HELP)
    asked = parser.parse_args()
    return run_agent(asked.site, one_user=asked.one_user)


if __name__ == "__main__":
    exit_status = main()
    logging.shutdown()
    # Ledger, lock and socket are closed; taking torch and gRPC down would only add seconds.
    os._exit(exit_status)
