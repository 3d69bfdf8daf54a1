"""Two units for systemd: the agent without a network, the gateway without the agent's files.

Pure: from the site's settings to texts. What systemd takes away comes on top of what each process
gives up by itself, and tries at each start (`client.agent.isolation`, `client.gateway.shut_in`).
MemoryDenyWriteExecute is left out: Python's ctypes makes executable memory when it is imported.
"""

# Why: docs/adr/0058-the-hospitals-desk.md, docs/adr/0018-two-users-no-network.md

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from client.agent.apart import private_paths
from client.agent.own_ledger import CREDENTIAL
from client.settings import SiteSettings, load_site
from craftsfl.site.airlock import check_shared_socket, meeting_place
from privacy.errors import ConfigError, DeploymentError
from privacy.files import write_public_once

AGENT_UNIT: Final = "craftsfl-agent.service"
GATEWAY_UNIT: Final = "craftsfl-gateway.service"
_VERIFY_SECONDS: Final = 60.0
_ONE_WORD: Final = re.compile(r"[A-Za-z0-9_.-]+")  # systemd would read others as two folders
# By default, five ends within ten seconds would be the last: a hospital that is gone by morning.
_ALWAYS: Final = "StartLimitIntervalSec=0"
_BOTH: Final = (
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "ProtectSystem=strict",
    "PrivateTmp=yes",
    "ProtectProc=invisible",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "SystemCallArchitectures=native",
    "KeyringMode=private",
    "RemoveIPC=yes",
    "UMask=0077",
    "LimitCORE=0",
    "Restart=always",
    "RestartSec=2",
    # Settings that are refused are for a person to mend; starting again would refuse them again.
    "RestartPreventExitStatus=1 2",
    "TimeoutStopSec=20",
)


@dataclass(frozen=True, slots=True)
class ServedSite:
    """A site as its units see it: all paths are absolute."""

    settings: SiteSettings
    file: Path  # site.toml
    program: Path  # the craftsfl to start


def units(site: ServedSite) -> dict[str, str]:
    """The text of each unit, by its file name.

    Raises `ConfigError` where site.toml does not name two users and a socket that both can use.
    """
    settings, node = site.settings, site.settings.gateway
    if node is None or settings.agent.user is None or node.user is None:
        raise ConfigError(
            "The two units need two users, and site.toml does not name both.",
            'Set user in [agent] and in [gateway], for instance "craftsfl" and "craftsfl-net" '
            "(docs/hospital.md, Install).",
        )
    check_shared_socket(settings)
    return {AGENT_UNIT: _agent(site, node.user), GATEWAY_UNIT: _gateway(site, node.user)}


def _agent(site: ServedSite, group: str) -> str:
    settings = site.settings
    own, user = settings.identity, settings.agent.user or ""
    # Written there: the key's marker, and the roster with signatures that come as messages.
    keys = [] if own is None else [own.key.parent, own.roster.parent]
    lines = [
        f"User={user}",
        f"Group={group}",  # so that the socket belongs to the gateway's group
        *_meeting(meeting_place(settings)),
        f"ExecStart={_serve(site, 'agent')}",
        "PrivateNetwork=yes",
        # Unix sockets, and what finds out that there is nothing but the loopback device.
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "IPAddressDeny=any",
        f"ProtectHome={_home([settings.data.folder, settings.agent.state, *keys, site.file])}",
        f"ReadWritePaths={_words([settings.agent.state, *keys])}",
        *(["PrivateDevices=yes"] if settings.agent.device == "cpu" else []),
        *_credential(settings),
        *_BOTH,
    ]
    return _unit(f"The site agent of {settings.name}: data and keys, no network", [_ALWAYS], lines)


def _gateway(site: ServedSite, user: str) -> str:
    settings, node = site.settings, site.settings.gateway
    own = [] if node is None else [node.home, node.key]
    closed = [*private_paths(settings), settings.policy]
    if settings.identity is not None:
        closed.append(settings.identity.key.with_name(f"{settings.identity.key.name}.ledger"))
    lines = [
        f"User={user}",
        f"ExecStart={_serve(site, 'gateway')}",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
        f"ProtectHome={_home([*own, site.file])}",
        f"ReadWritePaths={_words(own[:1])}",
        f"InaccessiblePaths={_words(closed, optional=True)}",
        "PrivateDevices=yes",
        "TasksMax=128",
        "MemoryMax=2G",
        "# If the coordinator's address is fixed, nothing else can be reached (a name server at",
        "# that address, or the name in /etc/hosts):",
        "# IPAddressDeny=any",
        "# IPAddressAllow=192.0.2.7",
        *_BOTH,
    ]
    first = (
        _ALWAYS,
        f"After={AGENT_UNIT} network-online.target",
        f"Wants={AGENT_UNIT} network-online.target",
    )
    return _unit(f"The gateway of {settings.name}: network, no data", first, lines)


def _unit(what: str, first: Sequence[str], service: Iterable[str]) -> str:
    parts = [
        ("Unit", [f"Description={what}", "Documentation=man:craftsfl", *first]),
        ("Service", list(service)),
        ("Install", ["WantedBy=multi-user.target"]),
    ]
    return "\n".join("\n".join([f"[{name}]", *lines, ""]) for name, lines in parts)


def _meeting(socket: Path) -> list[str]:
    """The socket's folder: made by systemd below /run, else written to."""
    folder = socket.parent
    if folder.parent == Path("/run") and _ONE_WORD.fullmatch(folder.name):
        return [f"RuntimeDirectory={folder.name}", "RuntimeDirectoryMode=2750"]
    return [f"ReadWritePaths={_words([folder])}"]


def _credential(settings: SiteSettings) -> list[str]:
    """The passphrase as a credential: its file may then be root's alone."""
    own = settings.identity
    if own is None or own.passphrase_file is None:
        return []
    return [f"LoadCredential={CREDENTIAL}:{_escaped(own.passphrase_file)}"]


def _serve(site: ServedSite, part: str) -> str:
    return f"{_words([site.program])} site serve {_words([site.file])} --only {part}"


def _home(paths: Iterable[Path]) -> str:
    """Whether home folders may be seen: only if something of the site lies there."""
    there = any(path.is_relative_to(home) for path in paths for home in ("/home", "/root"))
    return "read-only" if there else "yes"


def _words(paths: Iterable[Path], *, optional: bool = False) -> str:
    """Paths as systemd reads a list of words; `optional` ones need not be there."""
    mark = "-" if optional else ""
    return " ".join(f'"{mark}{_escaped(path)}"' for path in dict.fromkeys(paths))


def _escaped(path: Path) -> str:
    text = str(path)
    if any(ord(letter) < 32 for letter in text):
        raise ConfigError(f"{text!r} holds a control character.", "Name the path without it.")
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")


def _write(path: Path, text: bytes) -> None:
    """A new file; one that holds the same stays. `FileExistsError` if it holds anything else."""
    if path.exists() and path.read_bytes() == text:
        return
    try:
        write_public_once(path, text)
    except FileExistsError as error:
        raise FileExistsError(error.errno, error.strerror, str(path)) from None


def write_units(site_toml: Path, folder: Path, program: Path) -> str:
    """Write both units to `folder`; returns what to say, with what systemd-analyze finds.

    Raises `ConfigError` or `DeploymentError`.
    """
    settings = load_site(site_toml)
    texts = units(ServedSite(settings, site_toml.absolute(), program.absolute()))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            _write(folder / name, text.encode("utf-8"))
    except FileExistsError as error:
        raise ConfigError(
            f"{error.filename} is there already, and is another one: nothing was written over it.",
            "Compare the two: write to a new folder with -o.",
        ) from None
    except OSError as error:
        raise DeploymentError(
            f"{folder} cannot be written: {error.strerror}.", "Name another folder with -o."
        ) from None
    files = [folder / name for name in texts]
    return (
        f"Written: {', '.join(map(str, files))}.\n{verified(files)}\n{_absent(settings)}"
        f"Next, as root: cp {shlex.join(map(str, files))} /etc/systemd/system/, systemctl "
        f"daemon-reload, systemctl enable --now {AGENT_UNIT} {GATEWAY_UNIT}. Then: "
        f"craftsfl site check {shlex.quote(str(site_toml))}"
    )


def _absent(settings: SiteSettings) -> str:
    """The folders to write to that are not there: systemd would start neither unit."""
    node = settings.gateway
    wanted = [(settings.agent.state, settings.agent.user)]
    wanted += [] if node is None else [(node.home, node.user)]
    return "".join(
        f"{path} is not there yet, and systemd demands it. As root: install -d -m 700 -o {user} "
        f"{shlex.quote(str(path))}\n"
        for path, user in wanted
        if not path.exists()
    )


def verified(files: Sequence[Path]) -> str:
    """What `systemd-analyze verify` says of the units, where it is."""
    program = shutil.which("systemd-analyze")
    if program is None:
        return "systemd-analyze is not here, so nothing has checked them."
    argv = [program, "verify", "--man=no", *map(str, files)]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=_VERIFY_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return "systemd-analyze did not answer, so nothing has checked them."
    names = {file.name for file in files}
    said = [line for line in done.stderr.splitlines() if any(name in line for name in names)]
    return "\n".join(said) if said else "systemd-analyze verify finds nothing wrong with them."
