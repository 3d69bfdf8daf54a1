"""How a site stands at this moment, from its files and its socket; changes nothing.

Works whether or not the agent runs, and for whoever may read the state folder. What cannot be read
is said to be so, instead of being left out.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from client.agent.in_force import policy_digest, read_in_force
from client.agent.own_ledger import read_own_ledger
from client.agent.reload import is_asked
from client.agent.requests import Recorded, RequestsRead, read_requests
from client.agent.startup import RuledSite, load_rules
from client.agent.state import StateFolder, lock_is_held
from client.agent.wishes import SiteWish, WishFile
from client.gateway.desk import DESK_MARK
from client.settings import SiteSettings, load_site
from craftsfl.processes.accounts import ROOT
from craftsfl.processes.agent_watch import AgentState, AgentWatch
from craftsfl.site.budget.statement import Line, statement_of
from craftsfl.site.site_file import as_agents_user
from privacy.errors import CraftsflError
from privacy.ledger import LedgerView, State
from privacy.visible import visible
from privacy.wire.checks import Check, explain_check
from privacy.wire.reasons import Reason, guidance_of

MOST_REFUSED: Final = 5
_PATIENCE: Final = 3.0  # seconds for the agent's first word
_LOOK: Final = 0.05
_TAIL: Final = 64 * 1024  # bytes of a log
_LONGEST: Final = 300  # characters of a line


@dataclass(frozen=True, slots=True)
class SiteStanding:
    """How a site stands. Texts are for people, and name no patient."""

    site: str
    study: str
    rounds: int
    unit: str
    alive: bool
    now: AgentState  # an empty phase where nobody answers
    wish: SiteWish
    budget: Line | None
    most: int  # attempts that the whole study may charge
    refused: tuple[Recorded, ...]  # the newest last
    connection: str
    notes: tuple[str, ...]


def at_roots_desk(site_toml: Path) -> tuple[Path, str | None]:
    """site.toml for the agent's user, who this process is from now on if root began it; and what
    only root could read before, the gateway's last word. Raises `ConfigError`.
    """
    heard = connection_of(load_site(site_toml)) if os.geteuid() == ROOT else None
    return as_agents_user(site_toml), heard


def standing_of(
    site_toml: Path, *, patience: float = _PATIENCE, heard: str | None = None
) -> SiteStanding:
    """How the site of `site_toml` stands; raises `ConfigError` where its files cannot be read.

    `heard`: the gateway's last word, where somebody else has read it.
    """
    site = load_rules(site_toml)
    settings, study = site.settings, site.rules.study
    state = StateFolder(settings.agent.state)
    alive = lock_is_held(state.agent_lock)
    notes: list[str] = []
    view = _ledger(state, settings, notes)
    return SiteStanding(
        site=settings.name,
        study=study.name,
        rounds=study.rounds,
        unit="step" if study.pools_noise else "round",
        alive=alive,
        now=_phase(settings, patience) if alive else AgentState(),
        wish=WishFile(state.wish).read(),
        budget=_line(site, view, notes),
        most=site.rules.charges.most,
        refused=_refused(requests_of(state, view, notes)),
        connection=heard or connection_of(settings),
        notes=(*notes, *_in_force(site, state, alive=alive)),
    )


def _phase(settings: SiteSettings, patience: float) -> AgentState:
    watch = AgentWatch(settings.socket_path())
    end = time.monotonic() + patience
    try:
        while not watch.state.phase and time.monotonic() < end:
            time.sleep(_LOOK)
        return watch.state
    finally:
        watch.close()


def _ledger(state: StateFolder, settings: SiteSettings, notes: list[str]) -> LedgerView | None:
    try:
        return read_own_ledger(state, settings)
    except CraftsflError as error:
        notes.append(str(error))
        return None


def _line(site: RuledSite, view: LedgerView | None, notes: list[str]) -> Line | None:
    if view is None and notes:
        return None
    try:
        return statement_of(site.rules, () if view is None else view.entries()).present
    except CraftsflError as error:
        notes.append(str(error))
        return None


def requests_of(state: StateFolder, view: LedgerView | None, notes: list[str]) -> RequestsRead:
    """The log of requests; what is wrong with it is added to `notes`."""
    if view is None:
        return RequestsRead(())
    try:
        found = read_requests(state.requests, view.head().public_key)
    except OSError as error:
        notes.append(f"The log of requests cannot be read: {error.strerror}.")
        return RequestsRead(())
    if found.fault:
        notes.append(f"The log of requests is not as the agent wrote it. {found.fault}")
    if missing := unrecorded(found, view):
        notes.append(
            f"The ledger has charged {missing} attempts that the log of requests does not hold: "
            "lines of it were removed, or could not be written."
        )
    return found


def unrecorded(found: RequestsRead, view: LedgerView) -> int:
    """How many attempts were charged since the log began that it has no request for."""
    if not found.records:
        return 0
    since = found.records[0].request.ledger
    asked = {(r.request.run, r.request.round, r.request.attempt) for r in found.records}
    later = [e for e in view.entries() if e.state is State.COMMITTED and e.sequence > since]
    return sum((e.key.run, e.key.round, e.key.attempt) not in asked for e in later)


def _refused(found: RequestsRead) -> tuple[Recorded, ...]:
    return tuple(r for r in found.records if r.request.reason)[-MOST_REFUSED:]


def reason_words(reason: str) -> str:
    """What the name of a refusal's reason means, for the hospital; "" for none."""
    if reason in Reason.__members__:
        return guidance_of(Reason[reason]).happened
    if reason in Check.__members__:
        return explain_check(Check[reason])
    return ""


def connection_of(settings: SiteSettings) -> str:
    """The last word of the gateway to this desk, with its time; or why there is none."""
    if settings.gateway is None:
        return "This site.toml has no [gateway]; look at the log of whatever runs it."
    log = settings.gateway.home / "logs" / "gateway.log"
    try:
        lines = tail_of(log)
    except PermissionError:
        return f"{log} belongs to the gateway's user; run this as root, or look there."
    except OSError:
        return f"No gateway has written {log} yet: craftsfl site serve starts it."
    found = next((line for line in reversed(lines) if DESK_MARK in line), "")
    when, _, words = found.partition(DESK_MARK)
    return f"{when}{words}" if words else "The gateway has said nothing yet."


def tail_of(log: Path) -> Sequence[str]:
    """The last lines of a log, harmless on a terminal; raises `OSError`."""
    if log.is_symlink() or not log.is_file():  # the gateway's user may have put it there
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(log))
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        text = file.read(_TAIL).decode("utf-8", "replace")
    return [visible(line, most=_LONGEST) for line in text.split("\n") if line.strip()]


def _in_force(site: RuledSite, state: StateFolder, *, alive: bool) -> list[str]:
    """What the running agent works with that the files do not say any more."""
    if is_asked(state.reload) and alive:
        return ["The agent starts again with the edited files once no attempt is open."]
    known = read_in_force(state.in_force)
    if known is None or not alive:
        return []
    notes = []
    if known.policy != policy_digest(site.settings.policy):
        notes.append(
            f"policy.toml was edited after the agent started ({when(known.since)}), and the agent "
            "works with the earlier one. craftsfl site reload site.toml lets it take effect."
        )
    if known.study != site.rules.study.digest().hex():
        notes.append(
            "study.toml is another study than the agent's. craftsfl site reload site.toml lets it "
            "take effect."
        )
    return notes


def when(unix: float) -> str:
    """A moment, in UTC."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
