"""What has to keep the agent apart before it opens any data: the network, and the SuperNode's user.

Both are refusals, not warnings, and what overrules them is spelled out: `allow_agent_network` in
policy.toml, `--one-user-no-airlock` on the command line.
"""

from __future__ import annotations

import logging
import os
import pwd

from client.agent.isolation import Confinement, Network
from client.settings import Policy, SiteSettings
from privacy.error_ids import ErrorId
from privacy.errors import PolicyError

ONE_USER = "--one-user-no-airlock"
ONE_USER_HELP = (
    "Run agent and SuperNode as one user: the coordinator's code can then read the patients' "
    "data and every key. For synthetic or public data only."
)
HOW = (
    "Give the two parts two users (docs/hospital.md, Install and serve). For synthetic or public "
    f"data: {ONE_USER}"
)

_log = logging.getLogger("craftsfl.agent")


def check_alone(found: Confinement, policy: Policy) -> None:
    """Log what the process is left with; `PolicyError` where it has a network unasked."""
    _log.info("%s", found.text)
    if found.network is not Network.OPEN:
        return
    if not policy.allow_agent_network:
        raise PolicyError(
            "The agent could not be cut off from the network: this system gives it neither a "
            "network namespace nor a system call filter.",
            "Run it on Linux, in a container without a network, or allow unprivileged user "
            "namespaces. Where neither is to be had, allow_agent_network = true in policy.toml.",
            id=ErrorId.AGENT_NETWORK,
        )
    _log.warning("THE AGENT HAS THE MACHINE'S NETWORK: allow_agent_network is set.")


def check_apart(settings: SiteSettings, *, one_user: bool) -> None:
    """Raise `PolicyError` where only this very user could be the SuperNode's, unless `one_user`."""
    if one_user:
        _log.warning(
            "ONE USER, NO AIRLOCK (%s): the coordinator's code runs as the user who owns data, "
            "ledger and keys, and can read them all.",
            ONE_USER,
        )
        return
    if settings.agent.socket_mode == "0600":
        raise PolicyError(
            'With socket_mode = "0600" only the agent\'s own user gets at the socket, so that the '
            "coordinator's code would run as the user who owns data, ledger and keys.",
            f'{HOW}; the socket is theirs with socket_mode = "0660".',
            id=ErrorId.ONE_USER,
        )
    node = settings.supernode
    if node is not None and node.user is not None and user_id(node.user) == os.geteuid():
        raise PolicyError(
            f"The agent runs as {node.user}, which site.toml names as the SuperNode's user.",
            HOW,
            id=ErrorId.ONE_USER,
        )


def user_id(name: str) -> int | None:
    """The number of a user of this machine; None where there is none of that name."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None
