"""The command line and environment of a hospital's network-facing processes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from client.agent.apart import private_paths
from client.settings import GatewaySettings, SiteSettings
from craftsfl.processes.accounts import SystemAccount
from craftsfl.processes.environment import CERTIFICATES, environment
from craftsfl.processes.flower.commands import LOOPBACK
from craftsfl.processes.flower.credentials import make_secret
from craftsfl.processes.flower.supernode import SuperNode
from craftsfl.processes.supervisor import Command, claim_port
from privacy.errors import ConfigError

SECRET = "runtime.secret"  # of a SuperNode's local Runtime API, in its home


def gateway_of(site: SiteSettings) -> GatewaySettings:
    """The [gateway] table of `site`; raises `ConfigError` if there is none."""
    if site.gateway is None:
        raise ConfigError(
            "site.toml has no [gateway] table.",
            "Add it, or run only the agent: craftsfl site serve FILE --only agent",
        )
    return site.gateway


def gateway_commands(
    site: SiteSettings,
    logs: Path,
    account: SystemAccount | None = None,
    *,
    one_user: bool = False,
    prefix: str = "",
) -> list[Command]:
    """What connects `site` to its coordinator: the gateway, or a SuperNode and its SuperExec.

    `account`: whom root starts it as. `one_user`: the agent's user, so that the gateway has to be
    shut in, or end. The names of the files in `logs` begin with `prefix`. A SuperNode needs
    `make_runtime_secret` first.
    """
    own = gateway_of(site)
    if own.kind == "gateway":
        command = _gateway(site, own, logs / f"{prefix}gateway.log", account)
        return [replace(command, argv=(*command.argv, "--one-user")) if one_user else command]
    return SuperNode(
        name=site.name,
        superlink=own.superlink,
        authority=own.root_certificates,
        key=own.key,
        agent_socket=site.socket_path(),
        home=own.home,
        port=claim_port(LOOPBACK, None),
        secret=own.home / SECRET,
        variables=own.environment,
        account=account,
    ).commands(logs, prefix)


def make_runtime_secret(home: Path) -> None:
    """Write the secret of a SuperNode's Runtime API into `home`: a new one for each start.

    Called as the user of the SuperNode, to whom the file belongs.
    """
    (home / SECRET).unlink(missing_ok=True)
    make_secret(home / SECRET)


def _gateway(
    site: SiteSettings, own: GatewaySettings, log: Path, account: SystemAccount | None
) -> Command:
    authority = own.root_certificates
    argv = (
        *(sys.executable, "-P", "-m", "client.gateway"),
        *("--superlink", own.superlink),
        *(("--root-certificates", str(authority)) if authority else ()),
        *("--key", str(own.key)),
        *("--socket", str(site.socket_path())),
        *("--home", str(own.home)),
        *("--fastest", str(own.fastest_look), "--slowest", str(own.slowest_look)),
        *("--largest", str(own.largest_message)),
        *(word for path in private_paths(site) for word in ("--private", str(path))),
    )
    user = account.variables if account else {}
    env = environment(own.home, user, allowed=(*CERTIFICATES, *own.environment))
    name = account.name if account else None
    return Command(f"{site.name} gateway", argv, env, log, name)
