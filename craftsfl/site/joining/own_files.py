"""`craftsfl site init`: keys, site.toml and the card. Never writes over anything."""

# Why: docs/adr/0057-first-hour.md, docs/adr/0082-whose-file-is-whose.md

from __future__ import annotations

import json
import os
import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from client.settings import SiteSettings, load_site
from client.site_init import SiteKeys, init_site
from craftsfl.passphrase import identity_in
from craftsfl.processes.accounts import ROOT, SystemAccount, find_account
from craftsfl.processes.flower.credentials import make_supernode_key
from craftsfl.site.whose import give_to_users
from privacy.config import check
from privacy.errors import ConfigError
from privacy.files import write_public
from privacy.home import from_home
from privacy.secagg.card import SiteCard, write_card

SITE_TOML: Final = "site.toml"
AUTHORITY: Final = "ca.pem"
NOWHERE: Final = "nowhere.invalid:9"
"""The coordinator's address before there is an invitation."""


@dataclass(frozen=True)
class SiteDraft:
    """What was typed; `folder` is the hospital's own."""

    folder: Path
    name: str
    organisation: str = ""
    data: Path | None = None
    passphrase: bytes | None = None
    users: tuple[str, str] | None = None  # the agent's and the gateway's


def make_site(draft: SiteDraft) -> SiteKeys:
    """Make everything that needs no invitation yet. Raises `ConfigError`, and makes nothing then.

    A second time in one folder is refused: rosters name the site's key.
    """
    settings = draft.folder / SITE_TOML
    if settings.exists():
        raise ConfigError(
            f"{settings} exists already: nothing was made or changed.",
            "A hospital keeps its keys. To be invited with them, send its card again (it is made "
            f"anew by craftsfl site card {shlex.quote(str(settings))}); to make another hospital, "
            "choose another folder.",
        )
    text = _site_text(draft)
    check(tomllib.loads(text), SiteSettings, where="site init", hint="Correct the option.")
    agent = _agent_of(draft.users)
    keys = init_site(
        draft.folder,
        draft.name,
        make_supernode_key,
        organisation=draft.organisation,
        passphrase=draft.passphrase,
    )
    write_public(settings, text.encode("utf-8"))
    if agent is not None:
        give_to_users(load_site(settings), draft.folder.absolute(), agent)
    return keys


def _agent_of(users: tuple[str, str] | None) -> SystemAccount | None:
    """The agent's user, if there are two; `ConfigError` where their files cannot be given them."""
    if users is None:
        return None
    if os.geteuid() != ROOT:
        raise ConfigError(
            "Only root can give each of two users its files: nothing was made.",
            "Run this as root (sudo); or leave out both users, for one.",
        )
    agent, _ = map(find_account, users)
    return agent


def card_again(settings_file: Path, organisation: str) -> Path:
    """Write the card of a hospital that has its keys, for instance from an earlier version."""
    site = load_site(settings_file)
    if site.identity is None or site.gateway is None:
        raise ConfigError(
            f"{settings_file} names no identity, or no gateway's key.",
            "A card shows both: complete site.toml, or begin with craftsfl site init.",
        )
    public = site.gateway.key.with_suffix(".pub")
    try:
        node_key = " ".join(public.read_text("ascii").split()[:2])
    except (OSError, ValueError):
        raise ConfigError(
            f"The gateway's public key {public} cannot be read.",
            f"Make it from the private one: ssh-keygen -y -f {site.gateway.key} > {public}",
        ) from None
    values = {"name": site.name, "organisation": organisation or site.name, "public_key": "0" * 64}
    card = check(values, SiteCard, where="site card").signed(
        identity_in(site.identity.key), node_key
    )
    path = settings_file.absolute().parent / f"{site.name}.card"
    write_card(path, card)
    return path


def with_gateway(text: str, superlink: str, *, authority: bool) -> str:
    """The text of site.toml, whose gateway reaches the coordinator at `superlink`.

    `authority`: whether a file has the authority that signed the coordinator's certificate.
    """
    line = f"superlink = {json.dumps(superlink)}"
    named = "root_certificates" in tomllib.loads(text).get("gateway", {})
    if authority and not named:
        line += f'\nroot_certificates = "{AUTHORITY}"'
    text = re.sub(r"(?m)^superlink\s*=.*$", lambda _: line, text, count=1)
    return text if authority else re.sub(rf'(?m)^root_certificates = "{AUTHORITY}"\n', "", text)


def with_confirmed_ids(text: str) -> str:
    """The text of site.toml, in which a person has confirmed that ids are persons'."""
    return re.sub(
        r"(?m)^(\s*patient_ids_confirmed\s*=\s*)false", lambda match: match[1] + "true", text
    )


def _site_text(draft: SiteDraft) -> str:
    data = str(from_home(draft.data).absolute()) if draft.data is not None else "tiles"
    agent, gateway = "", ""
    if draft.users is not None:
        agent = (
            f'user = {json.dumps(draft.users[0])}\nsocket = "/run/craftsfl/agent.sock"\n'
            'socket_mode = "0660"\n'
        )
        gateway = f"user = {json.dumps(draft.users[1])}\n"
    passphrase = '# passphrase_file = "/run/credentials/craftsfl/passphrase"\n'
    return _TEMPLATE.format(
        name=json.dumps(draft.name),
        data=json.dumps(data),
        agent=agent,
        passphrase=passphrase if draft.passphrase else "",
        gateway=gateway,
        nowhere=json.dumps(NOWHERE),
    )


_TEMPLATE: Final = """\
# A hospital's site.toml: where things are, made by `craftsfl site init`. Relative paths start at
# this file's folder. `craftsfl site join` completes it.
name = {name}
study = "study.toml"
policy = "policy.toml"

[data]
folder = {data}
patient_ids_confirmed = false    # craftsfl site join asks

[agent]
state = "state"                  # back up all of it; never restore an older ledger
{agent}
[identity]
key = "site.key"
roster = "roster.cfl"
{passphrase}
[gateway]
superlink = {nowhere}  # craftsfl site join puts the coordinator's address here
root_certificates = "ca.pem"
key = "supernode.key"
home = "gateway"
{gateway}"""
