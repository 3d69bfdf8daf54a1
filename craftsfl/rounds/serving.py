"""`craftsfl rounds serve`: SuperLink and SuperExec under one supervisor."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from craftsfl.processes.environment import keep_files_private
from craftsfl.processes.restarts import keep_running
from craftsfl.processes.supervisor import Supervisor, claim_port, ended_by_signals
from craftsfl.rounds.operator import keeper_of, superlink_of
from craftsfl.terminal import say
from server.settings import load_consortium


def serve_consortium(settings_file: Path, *, only: str | None = None) -> None:
    """Run SuperLink and SuperExec (or one of them) until interrupted."""
    consortium = load_consortium(settings_file)
    link = superlink_of(consortium)
    link.prepare()
    keep_files_private(consortium.state)
    logs = link.folder / "logs"
    if only != "superexec":
        claim_port(link.host, link.port)
    commands = {
        "superlink": link.superlink(logs / "superlink.log"),
        "superexec": link.superexec(logs / "superexec.log"),
    }
    chosen = [command for name, command in commands.items() if only in (None, name)]
    say(f"Serving the coordinator on {link.address}. Logs: {logs}. Ctrl-C ends it.")
    say("Hospitals reach /v1/fleet/* of it; everything else asks for this operator's key.")
    keeper = keeper_of(settings_file)
    look = keeper.tick if only != "superlink" else (lambda: None)
    with ended_by_signals(), closing(keeper), Supervisor() as supervisor:
        keep_running(chosen, supervisor, look)
