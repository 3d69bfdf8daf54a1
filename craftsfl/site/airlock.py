"""What separates a hospital's agent from its gateway: two users, or a gateway that shuts itself in.

With two users, whether the second can reach what belongs to the first is tried as that user.
"""

# Why: docs/adr/0018-two-users-no-network.md, docs/adr/0032-one-users-airlock.md

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from client.agent.apart import HOW, one_users_airlock, private_paths
from client.settings import SiteSettings
from craftsfl.processes.accounts import ROOT, SystemAccount, find_account
from craftsfl.site.whose import ENTERED, NeededPath, gateway_lacks, lacking, shut
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, DeploymentError, PolicyError


@dataclass(frozen=True)
class Users:
    """The users as whom root starts the two parts of a site."""

    agent: SystemAccount
    gateway: SystemAccount


def separation(site: SiteSettings) -> Users | str:
    """The two users as whom root starts the parts; or, in words, what separates one user's.

    Raises `PolicyError` if nothing does, `ConfigError` for settings that cannot work.
    """
    named = site.agent.user is not None or (site.gateway and site.gateway.user) is not None
    if os.geteuid() == ROOT or named:
        return two_users(site)
    return one_users_airlock(site)


def two_users(site: SiteSettings, *, make: bool = True) -> Users:
    """The two users in site.toml; root's process alone can use them.

    Makes their socket's folder, unless `make` is false. Raises `PolicyError` if nothing would
    separate the coordinator's code from the patients' data, `ConfigError` for users and sockets
    that cannot work, `DeploymentError` where the gateway's user cannot reach what it needs.
    """
    node = site.gateway
    if os.geteuid() != ROOT or node is None or site.agent.user is None or node.user is None:
        raise PolicyError(
            "Agent and gateway would run as one user: whoever takes over the gateway, which faces "
            "the network, could read the patients' data, the ledger and every key.",
            HOW,
            id=ErrorId.ONE_USER,
        )
    users = Users(find_account(site.agent.user), find_account(node.user))
    if users.agent.uid == users.gateway.uid:
        raise PolicyError(
            f"{users.agent.name} is both the agent's and the gateway's user.",
            HOW,
            id=ErrorId.ONE_USER,
        )
    check_shared_socket(site)
    if make:
        _make_meeting_place(meeting_place(site), users)
    check_unreachable(_tried_by(users.gateway, lambda: reachable(site)), users.gateway.name)
    if lacks := _tried_by(users.gateway, lambda: gateway_lacks(node)):
        raise lacking(node, lacks, users.gateway.name)
    _check_meeting_place(meeting_place(site).parent, users)
    return users


def check_gateway(site: SiteSettings) -> str | None:
    """For a gateway that is started alone: None if another user's agent is out of its reach.

    If this user is the agent's, in words what separates them; `PolicyError` if nothing does.
    """
    if os.geteuid() == ROOT:
        raise PolicyError(
            "The gateway would run as root, who can read everything.",
            "Name its user in site.toml ([gateway] user), or start it as that user.",
        )
    own = [site.agent.state, *([site.agent.socket] if site.agent.socket else [])]
    own += [site.identity.key] if site.identity else []
    if site.agent.socket_mode == "0600" or any(_owner(path) == os.geteuid() for path in own):
        return one_users_airlock(site)
    check_shared_socket(site)
    check_unreachable(reachable(site), "this user")
    if site.gateway is not None and (lacks := gateway_lacks(site.gateway)):
        raise lacking(site.gateway, lacks, _own_name())
    return None


def reachable(site: SiteSettings) -> list[Path]:
    """Which of the agent's data, state and keys the system lets this process's user open."""
    return [
        path for path in private_paths(site) if os.access(path, os.R_OK) or os.access(path, os.X_OK)
    ]


def check_unreachable(found: Sequence[Path | str], user: str) -> None:
    """Raise `PolicyError`, naming what the gateway's user can reach, if there is anything."""
    if found:
        raise PolicyError(
            f"The gateway's user ({user}) can reach what only the agent may: "
            f"{', '.join(map(str, found))}.",
            f"chmod -R go-rwx {' '.join(map(str, found))}; or a group without that user.",
        )


def meeting_place(site: SiteSettings) -> Path:
    """The agent's socket; `ConfigError` if site.toml names none that two users could share."""
    if site.agent.socket is None:
        raise ConfigError(
            "site.toml names no socket that two users could share.",
            'Set socket in [agent], for instance to "/run/craftsfl/agent.sock".',
        )
    return site.agent.socket


def check_shared_socket(site: SiteSettings) -> None:
    """Raise `ConfigError` unless site.toml names a socket that two users can share."""
    meeting_place(site)
    if site.agent.socket_mode == "0600":
        raise ConfigError(
            'socket_mode = "0600" keeps the gateway\'s user out.',
            'Set socket_mode = "0660" in [agent].',
        )


def _make_meeting_place(socket: Path, users: Users) -> None:
    """Make the socket's folder if it is missing: the agent writes, the gateway's group enters.

    Because of the folder's set-group-ID bit, the socket will belong to that group.
    """
    folder = socket.parent
    if folder.exists():
        return
    try:
        folder.mkdir(mode=0o700)
        os.chown(folder, users.agent.uid, users.gateway.gid)
        folder.chmod(ENTERED)
    except OSError as error:
        raise DeploymentError(
            f"{folder} cannot be created: {error.strerror}.", "Create it."
        ) from None


def _check_meeting_place(folder: Path, users: Users) -> None:
    """Raise `DeploymentError` unless the agent may listen in a folder that is there, and the
    gateway enter it.
    """
    if not folder.exists():
        return
    for account, rights in ((users.agent, os.W_OK | os.X_OK), (users.gateway, os.X_OK)):
        need = NeededPath(folder, rights)
        if _tried_by(account, partial(shut, need)):
            raise DeploymentError(
                f"{folder}, where agent and gateway meet, is not as two users need it: "
                f"{account.name} has too few rights.",
                f"As root: chown {users.agent.name}:{users.gateway.name} {folder}; chmod 2750 "
                f"{folder}; or remove it, and site serve makes it.",
            )


def _tried_by(account: SystemAccount, look: Callable[[], Sequence[Path]]) -> list[Path]:
    """What `look` finds as another user: in a child process, since there is no way back."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            account.become()
            os.write(write, b"\0".join(os.fsencode(path) for path in look()))
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        found = stream.read()
    if os.waitpid(child, 0)[1] != 0:
        raise DeploymentError(f"This process cannot become {account.name}.", "Start it as root.")
    return [Path(os.fsdecode(path)) for path in found.split(b"\0") if path]


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # in a container
        return str(os.geteuid())


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:
        return None
