"""What has to separate the agent, before it opens any data, from the network and the gateway.

Otherwise the agent refuses to start; it does not merely warn. Each refusal can be overruled, by a
setting that says what it does: `allow_agent_network` in policy.toml, `--one-user-no-airlock` on the
command line.
"""

from __future__ import annotations

import logging
import os
import pwd
from pathlib import Path

from client.agent.isolation import Confinement, NetworkAccess
from client.gateway.trial import try_to_shut_in
from client.settings import Policy, SiteSettings
from privacy.error_ids import ErrorId
from privacy.errors import PolicyError

ONE_USER = "--one-user-no-airlock"
ONE_USER_HELP = (
    "Run agent and gateway as one user: whoever takes over the gateway can then read the "
    "patients' data and every key. For synthetic or public data only."
)
HOW = (
    'Run the two parts as two users who share the socket with socket_mode = "0660" '
    "(docs/hospital.md, Install and serve), or as one ordinary user on a Linux with Landlock, with "
    f'kind = "gateway". For synthetic or public data: {ONE_USER}.'
)

_log = logging.getLogger("craftsfl.agent")


def check_alone(found: Confinement, policy: Policy) -> None:
    """Log what the process has left; `PolicyError` if it has a network that nobody allowed."""
    _log.info("%s", found.text)
    if found.network is not NetworkAccess.OPEN:
        return
    if not policy.allow_agent_network:
        raise PolicyError(
            "The agent could not be cut off from the network: this system gives it neither a "
            "network namespace nor a system call filter.",
            "Run it on Linux, in a container without a network, or allow unprivileged user "
            "namespaces. If neither is possible, set allow_agent_network = true in policy.toml.",
            id=ErrorId.AGENT_NETWORK,
        )
    _log.warning("THE AGENT HAS THE MACHINE'S NETWORK: allow_agent_network is set.")


def check_apart(settings: SiteSettings, *, one_user: bool) -> None:
    """Raise `PolicyError` if the gateway could only run as this same user, unless `one_user`."""
    if one_user:
        _log.warning(
            "ONE USER, NO AIRLOCK (%s): the gateway runs as the user who owns data, ledger and "
            "keys; whoever takes it over can read all of them.",
            ONE_USER,
        )
        return
    node = settings.gateway
    shared = node is not None and node.user is not None and user_id(node.user) == os.geteuid()
    if shared or settings.agent.socket_mode == "0600":
        _log.info("%s", one_users_airlock(settings))


def one_users_airlock(settings: SiteSettings) -> str:
    """What separates a gateway of this same user from the agent, in words; `PolicyError` if nothing
    does.

    The gateway's word is not taken for it. It is code of this installation, which shuts itself in
    before it opens the network and ends if it is not shut in; that it can be, on this machine and
    around these files, is tried here. A stock SuperNode runs whatever the coordinator sends.
    """
    if settings.gateway is None or settings.gateway.kind != "gateway":
        raise _one_user("and a SuperNode is never shut in: the coordinator's code runs in it.")
    if os.geteuid() == 0:
        raise _one_user("and that user would be root.")
    trial = try_to_shut_in(private_paths(settings))
    if not trial.held:
        raise _one_user(f"and here it could not be shut in. {trial.text}")
    return f"One user. {trial.text}"


def private_paths(settings: SiteSettings) -> list[Path]:
    """The agent's files and folders that nobody else may reach: data, state and keys."""
    own = settings.identity
    keys = [] if own is None else [own.key, *([own.passphrase_file] if own.passphrase_file else [])]
    return [settings.data.folder, settings.agent.state, *keys]


def _one_user(why: str) -> PolicyError:
    return PolicyError(
        "The gateway, which faces the network, would run as the user who owns data, ledger and "
        f"keys, {why}",
        HOW,
        id=ErrorId.ONE_USER,
    )


def user_id(name: str) -> int | None:
    """The number of this machine's user `name`; None if there is no such user."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None
