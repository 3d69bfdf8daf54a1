"""Flower's SuperLink behind our gate: `python -P -m …superlink_program`, its arguments unchanged.

The app, its settings and its lifespan are Flower's own; only the last step of `flower-superlink`,
in which uvicorn serves that app, is ours.
"""

from __future__ import annotations

import contextlib
import importlib
import resource
import socket
import sys
from typing import Final

from craftsfl.processes.flower.commands import EVERYWHERE_6
from craftsfl.processes.flower.direct import DirectCalls, direct_calls
from craftsfl.processes.flower.gate import OperatorGate
from craftsfl.processes.flower.looks import LookReader, QuietLooks
from craftsfl.processes.flower.nodes import (
    has_no_message,
    looking_node,
    nodes_pushed_to,
    sender_of,
    shown_node_key,
    signed_by_a_node,
)
from craftsfl.processes.flower.operator_key import operator_key
from craftsfl.processes.lifeline import end_with_parent

_LAST_REQUESTS_SECONDS: Final = 5
_NOT_STARTED: Final = 3  # as uvicorn's own command ends


def main() -> None:
    """Serve until a signal ends it."""
    end_with_parent()
    _allow_many_connections()
    import uvicorn
    from flwr.supercore.http_logging import get_uvicorn_log_config
    from flwr.supercore.logger import console_handler
    from flwr.superlink.main import create_app

    from craftsfl.processes.flower.connections import IDLE_SECONDS, BoundedConnection

    # By name: the package has a function of the same name.
    stock = importlib.import_module("flwr.superlink.cli.flower_superlink")
    config = stock._parse_superlink_lifespan_config()
    if config.superexec_auth_secret is None or config.certificates is None:
        sys.exit("This SuperLink takes --superexec-auth-secret-file and certificates.")
    app = create_app(config, stock.SuperLinkLifespan)
    key = operator_key(config.superexec_auth_secret)
    signed = signed_by_a_node(app.state.linkstate_factory)
    reader = LookReader(shown_node_key, looking_node, nodes_pushed_to, has_no_message)
    inner = QuietLooks(DirectCalls(app, direct_calls(app)), reader)
    settings = uvicorn.Config(
        OperatorGate(inner, key, signed, sender_of),
        host=config.host,
        port=config.port,
        ssl_certfile=config.ssl_certfile,
        ssl_keyfile=config.ssl_keyfile,
        log_config=get_uvicorn_log_config(console_handler.level),
        access_log=False,  # ten lines a second for every hospital, and as many as a stranger wants
        http=BoundedConnection,
        ws="none",
        timeout_keep_alive=int(IDLE_SECONDS),
        server_header=False,
        timeout_graceful_shutdown=_LAST_REQUESTS_SECONDS,
    )
    server = uvicorn.Server(settings)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=_both_families(config.host, config.port))
    if not server.started:
        sys.exit(_NOT_STARTED)


def _both_families(host: str, port: int) -> list[socket.socket] | None:
    """For "::" a socket that takes IPv4 too: the one that uvicorn makes takes IPv6 alone."""
    if host != EVERYWHERE_6:
        return None
    return [socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True)]


def _allow_many_connections() -> None:
    """Raise the number of open files to what the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
