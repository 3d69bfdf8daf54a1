"""`craftsfl rounds`: admit sites; start, pause, resume and stop a run."""

from __future__ import annotations

import time
from pathlib import Path

from craftsfl.processes.flower.commands import SuperLink
from craftsfl.processes.flower.control import register_node
from craftsfl.processes.flower.credentials import ServerCredentials
from craftsfl.rounds.keeper import Keeper
from craftsfl.rounds.transport import SuperLinkSide
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, CraftsflError, DeploymentError, FederationError
from privacy.study.manifest import load_study
from server.attempts_left import check_attempts_left
from server.clock import SystemClock
from server.event_log import EventLog
from server.events import RunEnded
from server.life import exclusively, is_held
from server.readiness import agreed_roster, check_ready
from server.runs import OpenRun, Runs
from server.settings import ConsortiumSettings, load_consortium
from server.tables import Wish

_OPENSSH = b"ecdsa-sha2-nistp"  # how a public key on a NIST curve begins
_STARTING_SECONDS = 60.0  # that a SuperLink may take until it answers
_WHICH_KEY = "Give the .pub file that craftsfl site init made."


def superlink_of(consortium: ConsortiumSettings) -> SuperLink:
    """The SuperLink that `consortium.toml` describes."""
    if consortium.superlink is None:
        raise ConfigError(
            "consortium.toml has no [superlink] table.",
            "Add it: docs/examples/consortium.toml shows one.",
        )
    link = consortium.superlink
    return SuperLink(
        host=link.host,
        port=link.port,
        folder=link.folder,
        credentials=ServerCredentials(link.authority, link.certificate, link.key),
        secret=link.secret,
        variables=link.environment,
    )


def register_site(settings: Path, public_key: Path) -> str:
    """Admit a SuperNode by its public key; returns its node id."""
    if not public_key.exists():
        raise ConfigError(f"{public_key} does not exist.", _WHICH_KEY)
    if not _is_openssh(public_key):
        raise ConfigError(f"{public_key} is not a SuperNode's public key.", _WHICH_KEY)
    link = superlink_of(load_consortium(settings))
    return str(register_node(link, public_key))


def _is_openssh(public_key: Path) -> bool:
    if public_key.is_dir():
        return False
    with public_key.open("rb") as file:
        return file.read(len(_OPENSSH)).startswith(_OPENSSH)


def keeper_of(settings: Path, logs: Path) -> Keeper:
    """What keeps the open run of `settings` (consortium.toml) alive; call its `tick` often.

    `logs` is the folder of the SuperExec's log, in which its ServerApps have theirs.
    """
    consortium = load_consortium(settings)
    flower = SuperLinkSide(settings, superlink_of(consortium))
    return Keeper(consortium, flower, logs / "serverapp.log")


def start_run(settings: Path, after: int = 0) -> int:
    """Check everything that can be known, then start a run; returns its number.

    The number is above all earlier ones of the study and above `after`. Once the run exists, a
    keeper takes care of it, also if this process ends before its ServerApp has started.
    """
    consortium = load_consortium(settings)
    study = check_ready(consortium)
    check_attempts_left(consortium.database_url(), study)
    flower = SuperLinkSide(settings, superlink_of(consortium))
    _wait_until_it_answers(consortium, flower)
    with Runs(consortium.database_url(), SystemClock()) as runs:
        name = runs.begin(study, after)
        try:
            runs.carried(name, flower.start(name.number))
        except CraftsflError:
            runs.stopped(name)  # no site has heard of it
            raise
    return name.number


def awaited_signatures(settings: Path) -> str:
    """Whose signatures of the roster a run waits for, in words; "" for nobody's."""
    consortium = load_consortium(settings)
    roster = agreed_roster(consortium, load_study(consortium.study))
    if not roster.lacking:
        return ""
    return (
        f"The roster lacks {roster.lacking} signatures. They come by themselves once these "
        f"hospitals have joined and serve: {', '.join(roster.unsigned)}."
    )


def _wait_until_it_answers(consortium: ConsortiumSettings, flower: SuperLinkSide) -> None:
    """Before a run has its number: `rounds serve` may have been started a moment ago.

    Returns at once if nobody serves, and when its patience is over: the start says what is wrong.
    """
    until = time.monotonic() + _STARTING_SECONDS
    while is_held(consortium.keeper_file()) and time.monotonic() < until:
        try:
            flower.ended(1)  # whatever it says of it
        except DeploymentError as error:
            if error.id != ErrorId.SUPERLINK_SILENT:
                return
        else:
            return
        time.sleep(0.5)


def ask_run(settings: Path, wish: Wish) -> str:
    """Store what the operator wants of the open run; returns what will happen, in words.

    Raises `FederationError` if no run is open.
    """
    consortium = load_consortium(settings)
    with Runs(consortium.database_url(), SystemClock()) as runs:
        run = runs.open_run()
        if run is None:
            raise FederationError(
                "No run is open.",
                "See the newest: craftsfl rounds status consortium.toml; or start one: "
                "craftsfl rounds start consortium.toml",
                id=ErrorId.NO_RUN,
            )
        stopping = run.wish in (Wish.STOP, Wish.STOP_NOW)
        if stopping and wish in (Wish.PAUSE, Wish.RUN):
            raise FederationError(
                f"Run {run.name.number} was told to stop, which is for good.",
                "Start the next one when it has: craftsfl rounds start consortium.toml",
                id=ErrorId.RUN_STOPPED,
            )
        runs.ask(run.name, wish)
        if wish in (Wish.STOP, Wish.STOP_NOW) and _ended(consortium, runs, run):
            return f"Run {run.name.number} is stopped."
    return f"Run {run.name.number} {_WILL[wish]}"


_WILL = {
    Wish.RUN: "goes on.",
    Wish.PAUSE: "begins no new attempt; one that is under way ends first.",
    Wish.STOP: "stops as soon as the attempt under way has ended.",
    Wish.STOP_NOW: "stops at once; the attempt under way is lost.",
}


def _ended(consortium: ConsortiumSettings, runs: Runs, run: OpenRun) -> bool:
    """End a run that no ServerApp serves: there is nobody else to do it."""
    with exclusively(consortium.lock_file()) as nobody:
        if nobody:
            runs.stopped(run.name)
            number = str(run.name.number)
            log = EventLog(consortium.events_file(), SystemClock(), run=number)
            log.emit(RunEnded(run.rounds_done or 0))
    return nobody
