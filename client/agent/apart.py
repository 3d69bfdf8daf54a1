"""What has to separate the agent, before it opens any data, from the network and the gateway.

Otherwise the agent refuses to start; it does not merely warn. Each refusal can be overruled, by a
setting that says what it does: `allow_agent_network` in policy.toml, `--one-user-no-airlock` on the
command line.
"""

from __future__ import annotations

import logging
import os
import pwd

from client.agent.isolation import Confinement, NetworkAccess
from client.settings import Policy, SiteSettings
from privacy.error_ids import ErrorId
from privacy.errors import PolicyError

ONE_USER = "--one-user-no-airlock"
ONE_USER_HELP = (
    "Run agent and gateway as one user: whoever takes over the gateway can then read the "
    "patients' data and every key. For synthetic or public data only."
)
HOW = (
    "Run the two parts as two users (docs/hospital.md, Install and serve). For synthetic or public "
    f"data: {ONE_USER}."
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
    if settings.agent.socket_mode == "0600":
        raise PolicyError(
            'With socket_mode = "0600" only the agent\'s own user can reach the socket, so the '
            "gateway would have to run as the user who owns data, ledger and keys.",
            f'{HOW} Two users share the socket with socket_mode = "0660".',
            id=ErrorId.ONE_USER,
        )
    node = settings.gateway
    if node is not None and node.user is not None and user_id(node.user) == os.geteuid():
        raise PolicyError(
            f"The agent runs as {node.user}, which site.toml names as the gateway's user.",
            HOW,
            id=ErrorId.ONE_USER,
        )


def user_id(name: str) -> int | None:
    """The number of this machine's user `name`; None if there is no such user."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None
