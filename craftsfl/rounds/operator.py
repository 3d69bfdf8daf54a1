"""`craftsfl rounds`: admit sites, start a run, watch it."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from craftsfl.privacy_words import epsilon_text
from craftsfl.processes.flower.commands import SuperLink
from craftsfl.processes.flower.control import register_node, start_flower_run
from craftsfl.processes.flower.credentials import ServerCredentials
from craftsfl.rounds.fab import build, stage
from craftsfl.rounds.run_display import RunDisplay
from craftsfl.terminal import output
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, FederationError
from server.settings import ConsortiumSettings, load_consortium
from server.status import PartStatus, RunStatus, read_status

_POLL_SECONDS = 0.5
_STARTING_SECONDS = 60.0
_OPENSSH = b"ecdsa-sha2-nistp"  # how a public key on a NIST curve begins
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
    with public_key.open("rb") as file:
        if not file.read(len(_OPENSSH)).startswith(_OPENSSH):
            raise ConfigError(f"{public_key} is not a SuperNode's public key.", _WHICH_KEY)
    link = superlink_of(load_consortium(settings))
    return str(register_node(link, public_key))


def start_run(settings: Path) -> int:
    """Build the bundle from the installed code and start a run; returns the run id."""
    link = superlink_of(load_consortium(settings))
    with tempfile.TemporaryDirectory(prefix="craftsfl-") as folder:
        bundle = build(stage(Path(folder)))
    return start_flower_run(link, bundle, {"settings": str(settings.resolve())})


def watch_run(settings: Path, run: int) -> RunStatus:
    """Show progress until `run` ends. Raises `FederationError` if it failed."""
    consortium = load_consortium(settings)
    with RunDisplay(consortium.events_file()) as display:
        started = time.monotonic()
        while True:
            display.refresh()
            status = _status_or_none(consortium, run)
            if status is None and time.monotonic() - started > _STARTING_SECONDS:
                raise FederationError(
                    f"Run {run} did not begin within {_STARTING_SECONDS:.0f} s.",
                    "Is the SuperExec running? See its log: craftsfl rounds serve.",
                    id=ErrorId.RUN_NOT_BEGUN,
                )
            if status is not None and status.state in ("finished", "failed"):
                break
            time.sleep(_POLL_SECONDS)
        display.refresh()
    if status.state == "failed":
        raise _failed(status)
    return status


def _failed(status: RunStatus) -> FederationError:
    """The failure that the run recorded, with its next step and id."""
    failure = status.failure
    if failure is None:  # under an older coordinator, which kept a single text
        return FederationError(f"Run {status.run} failed: {status.message}", id=ErrorId.RUN_FAILED)
    return FederationError(
        f"Run {status.run} failed: {failure.message}", failure.hint, id=failure.error
    )


def _status_or_none(consortium: ConsortiumSettings, run: int) -> RunStatus | None:
    try:
        return read_status(consortium.database_url(), run)
    except FederationError:
        return None


def show_status(settings: Path, run: int | None, *, as_json: bool) -> None:
    """Print a run's state from the round state, as tables or JSON."""
    status = read_status(load_consortium(settings).database_url(), run)
    if as_json:
        print(json.dumps(asdict(status), allow_nan=True))  # noqa: T201 - this is the output
        return
    console = output()
    console.print(
        f"[bold]{status.study}[/] run {status.run}: {status.state}, "
        f"round {status.rounds_done} of {status.rounds}. {escape(status.message)}"
    )
    console.print(_sites(status))
    console.print(_history(status))


def _sites(status: RunStatus) -> Table:
    table = Table("site", "declared patients", "state", "rounds", "ε used", "of budget", "masked")
    for site in status.sites:
        state = f"{site.state}: {site.reason}" if site.reason else site.state
        table.add_row(
            site.name,
            str(site.declared_patients),
            escape(state),
            str(site.rounds),
            epsilon_text(site.epsilon),
            epsilon_text(site.budget),
            "yes" if site.masked else "no",
        )
    return table


def _history(status: RunStatus) -> Table:
    table = Table("round", "attempt", "state", "updates", "seconds", "dropped out")
    for item in status.history:
        dropped = [_dropped(site) for site in item.sites if site.reason]
        state = f"{item.state}: {item.reason}" if item.reason else item.state
        table.add_row(
            str(item.round),
            str(item.attempt),
            escape(state),
            str(item.updates),
            f"{item.seconds:.0f}" if item.seconds is not None else "",
            escape(", ".join(dropped)) or "nobody",
        )
    return table


def _dropped(site: PartStatus) -> str:
    """Who dropped out, at which exchange, and why."""
    where = f" at {site.exchange}" if site.exchange else ""
    kept = "; its update is in the sum" if site.state == "finished" else ""
    return f"{site.name}{where} ({site.reason}{kept})"
