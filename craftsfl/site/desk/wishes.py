"""`craftsfl site pause`, `resume`, `leave` and `reload`: what they do, and what they say."""

from __future__ import annotations

import shlex
from pathlib import Path

from client.agent.in_force import policy_digest, read_in_force
from client.agent.own_ledger import read_own_ledger
from client.agent.reload import ask_to_reload
from client.agent.startup import RuledSite, load_rules
from client.agent.state import StateFolder, lock_is_held
from client.agent.wishes import SiteWish, WishFile
from client.settings import load_site
from craftsfl.site.budget.statement import statement_of
from privacy.errors import DeploymentError, PolicyError

_OPEN = "An attempt that is open now ends as ever: it is charged, and its update leaves."


def pause(site_toml: Path) -> str:
    """Refuse every new attempt from the agent's next message on; returns what to say."""
    _write(site_toml, SiteWish.PAUSE)
    return (
        f"Paused, also after a restart. New attempts are refused, free of charge. {_OPEN} The "
        "coordinator is told that this site has paused, and a run that needs it waits.\n"
        "Go on: craftsfl site resume site.toml."
    )


def resume(site_toml: Path) -> str:
    """Take part again, after a pause or after leaving."""
    before = _write(site_toml, SiteWish.RUN)
    if before is SiteWish.RUN:
        return "This site was taking part already; nothing was changed."
    again = " The operator may have gone on without this site." if before is SiteWish.LEAVE else ""
    return f"This site takes part again, from the coordinator's next question on.{again}"


def leave(site_toml: Path) -> str:
    """Refuse every new attempt for good, and say what stays."""
    site = load_site(site_toml)
    state = StateFolder(site.agent.state)
    _write(site_toml, SiteWish.LEAVE)
    key = "" if site.identity is None else f" {site.identity.key} with its .ledger file;"
    alive = lock_is_held(state.agent_lock)
    end = "Once `craftsfl site status` shows no open attempt, end the agent." if alive else ""
    return (
        f"This site has left: new attempts are refused, free of charge, also after a restart. "
        f"{_OPEN} {end}\n\n"
        f"What stays: what the model has learnt, bounded by the budget; what was used of it, in "
        f"{state.ledger}. Keep the whole of {state.path} and{key} with them another study counts "
        "what this one has used, and without them nobody can.\n"
        f"What may go: {state.cache} (encoded tiles), the tiles themselves, the base model.\n"
        "Tell the operator. The roster still lists this site; its members sign a successor without "
        "it. To come back: craftsfl site resume site.toml."
    )


def _write(site_toml: Path, wish: SiteWish) -> SiteWish:
    """Write the wish; returns the one before."""
    state = StateFolder(load_site(site_toml).agent.state)
    if not state.path.is_dir():
        raise DeploymentError(
            f"The state folder {state.path} does not exist: no agent has run here.",
            "Check agent.state in site.toml. A site that does not serve takes part in nothing.",
        )
    file = WishFile(state.wish)
    before = file.read()
    file.write(wish)
    return before


def reload(site_toml: Path) -> str:
    """Have the running agent start again with the files as they are, once they are checked.

    Raises `ConfigError`, `PolicyError` or `AccountingError`, and changes nothing, where an agent
    could not start with them.
    """
    site = load_rules(site_toml)
    state = StateFolder(site.settings.agent.state)
    _check_startable(site, state)
    if not lock_is_held(state.agent_lock):
        return "No agent runs here: the files are read when it is started. They are in order."
    known = read_in_force(state.in_force)
    same = (
        known is not None
        and known.policy == policy_digest(site.settings.policy)
        and known.study == site.rules.study.digest().hex()
    )
    ask_to_reload(state.reload)
    edited = "Neither policy.toml nor the study has changed since it started. " if same else ""
    return (
        f"{edited}The files are in order. The agent reads them once nothing of an attempt may "
        "leave any more: at once if none is open, else when it was answered or its time is over. "
        "What was charged stays charged; an attempt that was begun and given up is charged, as at "
        "any start. Until then the earlier policy holds: craftsfl site status "
        f"{shlex.quote(str(site_toml))} says which."
    )


def _check_startable(site: RuledSite, state: StateFolder) -> None:
    site.rules.check()
    site.rules.check_budget()
    view = read_own_ledger(state, site.settings)
    entries = () if view is None else view.entries()
    site.rules.check_other_studies(entries)
    if statement_of(site.rules, entries).refused:
        raise PolicyError(
            "With this policy the study cannot end here: the agent would refuse it from now on.",
            "craftsfl site budget site.toml shows what it costs. Raise the budget, or set "
            "allow_partial = true; to take no more part, craftsfl site pause site.toml.",
        )
