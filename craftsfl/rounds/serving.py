"""`craftsfl rounds serve`: SuperLink and SuperExec under one supervisor."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

from craftsfl.processes.flower.control import ask_gate
from craftsfl.processes.predecessors import sole_supervisor
from craftsfl.processes.restarts import keep_running
from craftsfl.processes.supervisor import Supervisor, ended_by_signals
from craftsfl.rounds.admissions import Admissions
from craftsfl.rounds.operator import keeper_of, superlink_of
from craftsfl.rounds.preflight import CertificateWatch, check_coordinator, make_folders
from craftsfl.rounds.standstill import StandstillWatch
from craftsfl.terminal import say
from server.life import now_serving
from server.settings import ConsortiumSettings, load_consortium


def serve_consortium(settings_file: Path, *, only: str | None = None) -> None:
    """Run SuperLink and SuperExec (or one of them) until interrupted.

    Everything is checked before anything is started; what an earlier one that was killed has left
    running is ended first. Raises `CraftsflError`.
    """
    consortium = load_consortium(settings_file)
    link = superlink_of(consortium)
    make_folders(consortium, link)
    logs = link.folder / "logs"
    commands = {
        "superlink": link.superlink(logs / "superlink.log"),
        "superexec": link.superexec(logs / "superexec.log"),
    }
    chosen = {name: command for name, command in commands.items() if only in (None, name)}
    with ended_by_signals(), ExitStack() as stack:
        # Each part is held by itself: they may run in two containers that share the folder.
        held = {name: stack.enter_context(sole_supervisor(link.folder, name)) for name in chosen}
        check_coordinator(consortium, link, serves="superlink" in chosen)
        say(f"Serving the coordinator on {link.address}. Logs: {logs}. Ctrl-C ends it.")
        say("Hospitals reach /v1/fleet/* of it; everything else asks for this operator's key.")
        watch = CertificateWatch(link.credentials.certificate, said=True)
        keeper = stack.enter_context(closing(keeper_of(settings_file, logs)))
        admissions = stack.enter_context(closing(Admissions(consortium, link)))
        started: dict[str, int] = {}
        still = stack.enter_context(
            closing(
                StandstillWatch(
                    lambda: ask_gate(link),
                    lambda: started.get("superlink"),
                    lambda: _serverapp(consortium),
                )
            )
        )

        def note(name: str, pid: int) -> None:
            held[name].add(name, pid)
            started[name] = pid

        supervisor = stack.enter_context(Supervisor(note))

        def look() -> None:
            watch.look()
            if "superexec" in chosen:
                admissions.tick()
                keeper.tick()
                still.tick()

        keep_running(list(chosen.values()), supervisor, look)


def _serverapp(consortium: ConsortiumSettings) -> int | None:
    """The process of the run's ServerApp, if one is alive."""
    serving = now_serving(consortium.lock_file())
    return serving.pid if serving else None
