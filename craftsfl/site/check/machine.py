"""The machine: room, files, socket, separation, versions, and what it trains on."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from client.agent.apart import one_users_airlock, private_paths
from client.agent.isolation import NetworkAccess
from client.agent.own_ledger import passphrase
from client.settings import GatewaySettings, Policy, SiteSettings
from craftsfl.processes.accounts import ROOT, SystemAccount, find_account
from craftsfl.site.airlock import check_shared_socket, check_unreachable, two_users
from craftsfl.site.check.finding import Checked, CheckId, Fact, Finding
from craftsfl.site.whose import NeededPath, gateways_needs, lacking, lets
from craftsfl.version import installed_version
from privacy.errors import CraftsflError
from privacy.files import hint_for, read_secret
from privacy.identity import LOST_KEY
from privacy.ledger.marker import Marker

_LITTLE: Final = 2 << 30  # bytes of free space: encoded tiles, a ledger, logs
_LARGEST_KEY: Final = 1 << 16
_LONGEST_SOCKET: Final = 100  # bytes of its path, as the agent's service demands
_OTHERS: Final = 0o077
_TRIAL_SECONDS: Final = 30.0
_CUT_OFF: Final = (
    "from client.agent.isolation import confinement, isolate; isolate(); "
    "print(confinement().network.value)"
)
EXTRA: Final = "site"


def check_room(site: SiteSettings) -> Iterator[Checked]:
    """Free space where the state folder lies, and whose the folder is."""
    state = site.agent.state
    there = _existing(state)
    free = shutil.disk_usage(there).free
    words = f"{free / 2**30:.1f} GB are free at {there}"
    yield Finding(CheckId.DISK, f"{words}.") if free < _LITTLE else Fact("disk", words)
    facts = there.stat()
    if not os.access(there, os.W_OK | os.X_OK):
        yield Finding(CheckId.STATE_FOLDER, f"This user may not write into {there}.")
    elif there == state and os.geteuid() not in (ROOT, facts.st_uid):
        yield Finding(CheckId.STATE_FOLDER, f"{state} belongs to another user.")
    elif there == state and stat.S_IMODE(facts.st_mode) & _OTHERS:
        mode = stat.S_IMODE(facts.st_mode)
        yield Finding(CheckId.STATE_FOLDER, f"Others can enter {state} (mode {mode:04o}).")


def check_private_files(site: SiteSettings) -> Iterator[Checked]:
    """Keys and passphrase files: there, and nobody else's."""
    own, gateway = site.identity, site.gateway
    # The gateway's may be another user's, whose folder this one cannot look into: absent counts.
    if gateway is not None and os.access(gateway.key.parent, os.X_OK) and not gateway.key.exists():
        words = f"{gateway.key} does not exist: the gateway cannot say which node it is."
        yield Finding(CheckId.PRIVATE_FILES, words, "Restore it from its backup.")
    if own is None:
        return
    try:
        read_secret(own.key, _LARGEST_KEY)
    except OSError as error:
        cure = LOST_KEY if isinstance(error, FileNotFoundError) else ""
        words = f"{own.key}: {error.strerror}."
        yield Finding(CheckId.PRIVATE_FILES, words, hint_for(error, cure))
    try:
        passphrase(own.passphrase_file)  # root may have read it, if it is root's alone
    except CraftsflError as error:
        yield Finding(CheckId.PRIVATE_FILES, error.message, error.hint)
    try:
        Marker(own.key).read()
    except CraftsflError as error:
        yield Finding(CheckId.PRIVATE_FILES, error.message, error.hint)


def check_socket(site: SiteSettings) -> Iterator[Checked]:
    """Whether the agent could listen on its socket, and the gateway reach it."""
    try:
        socket = site.socket_path()
        if site.agent.socket_mode == "0660":
            check_shared_socket(site)
    except CraftsflError as error:
        yield Finding(CheckId.SOCKET, error.message, error.hint)
        return
    length = len(os.fsencode(socket))
    if length > _LONGEST_SOCKET:
        words = f"The socket's path has {length} bytes; {_LONGEST_SOCKET} can be bound."
        yield Finding(CheckId.SOCKET, words, "Set a shorter one as socket in [agent].")
    elif site.agent.user is not None and not socket.parent.exists():
        yield Fact(
            "socket", f"{socket}: root's `site serve`, or the agent's unit, makes its folder"
        )
    elif not os.access(_existing(socket.parent), os.W_OK | os.X_OK) and not _is_socket(socket):
        words = f"This user may not make {socket}."
        yield Finding(
            CheckId.SOCKET,
            words,
            "The folder has to be the agent's user's, with a group of the gateway's and mode 2750.",
        )
    else:
        yield Fact("socket", f"{socket}, mode {site.agent.socket_mode}")


def check_airlock(site: SiteSettings) -> Iterator[Checked]:
    """Whether anything keeps the gateway from what belongs to the agent."""
    if site.gateway is None:
        yield Fact("airlock", "no [gateway] in this site.toml; whatever runs it has to be apart")
        return
    try:
        if os.geteuid() == ROOT:
            users = two_users(site, make=False)
            yield Fact("airlock", f"two users, {users.agent.name} and {users.gateway.name}")
        elif site.agent.socket_mode == "0600":
            yield Fact("airlock", one_users_airlock(site))
        else:
            yield from _by_modes(site.gateway, site)
    except CraftsflError as error:
        yield Finding(CheckId.AIRLOCK, error.message, error.hint)


def _by_modes(node: GatewaySettings, site: SiteSettings) -> Iterator[Checked]:
    """What only root can try as the gateway's user, read off owners and modes."""
    if node.user is None:
        yield Fact(
            "airlock", "site.toml names no user of the gateway; whatever it is has to be apart"
        )
        return
    user = find_account(node.user)
    private = [p for p in private_paths(site) if _lets_any(p, user)]
    check_unreachable(private, user.name)
    if lacks := [n.path for n in gateways_needs(node) if not _is_let(n, user)]:
        raise lacking(node, lacks, user.name)
    yield Fact("airlock", "two users, by their files' modes; root's check tries it as the gateway")


def _lets_any(path: Path, user: SystemAccount) -> bool:
    return lets(path, user, os.R_OK) or lets(path, user, os.X_OK)


def _is_let(need: NeededPath, user: SystemAccount) -> bool:
    """Whether the user has it; what this process cannot see is the gateway's own, and counts."""
    try:
        return need.admitted(lambda path, rights: lets(path, user, rights)) or need.is_absent()
    except PermissionError:
        return True


def check_network(policy: Policy) -> Iterator[Checked]:
    """Whether this system can cut the agent off from the network, tried in a process of its own."""
    argv = [sys.executable, "-P", "-c", _CUT_OFF]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=_TRIAL_SECONDS, check=False
        )
        left = done.stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        left = ""
    if left and left != NetworkAccess.OPEN.value:
        yield Fact("agent's network", left)
    elif policy.allow_agent_network:
        yield Fact("agent's network", "the machine's whole network; allow_agent_network is set")
    else:
        words = f"The agent would have {left or 'an unknown network'}, and would not start."
        yield Finding(CheckId.AGENT_NETWORK, words)


def check_versions() -> Iterator[Checked]:
    """Everything that the extra `site` needs: installed, and of a version that fits."""
    from packaging.requirements import Requirement

    faults = []
    for text in _requirements():
        needed = Requirement(text)
        if needed.marker is not None and not needed.marker.evaluate({"extra": EXTRA}):
            continue
        try:
            version = metadata.version(needed.name)
        except metadata.PackageNotFoundError:
            faults.append(f"{needed.name} is missing")
            continue
        if not needed.specifier.contains(version, prereleases=True):
            faults.append(f"{needed.name} is {version}, not {needed.specifier}")
    if faults:
        yield Finding(CheckId.VERSIONS, f"{'; '.join(faults)}.")
    yield Fact("versions", f"craftsfl {installed_version()}, Python {platform.python_version()}")


def _requirements() -> list[str]:
    try:
        return metadata.requires("craftsfl") or []
    except metadata.PackageNotFoundError:  # run from a checkout that was never installed
        return []


def check_device(site: SiteSettings) -> Iterator[Checked]:
    """Which device the model would train on; imports torch."""
    from model.devices import pick_device

    wanted = site.agent.device
    try:
        device = pick_device(wanted)
    except CraftsflError as error:
        yield Finding(CheckId.DEVICE, error.message, error.hint)
        return
    if wanted == "auto" and device.type == "cpu":
        yield Finding(CheckId.CPU_ONLY, "No GPU was found: this site trains on the CPU.")
    yield Fact("device", _device_words(device.type, device.index or 0))


def _device_words(kind: str, index: int) -> str:
    if kind != "cuda":
        return f"{kind}, {os.cpu_count() or 1} cores"
    import torch

    memory = torch.cuda.get_device_properties(index).total_memory
    return f"{torch.cuda.get_device_name(index)}, {memory / 2**30:.0f} GB"


def _existing(folder: Path) -> Path:
    return folder if folder.exists() or folder == folder.parent else _existing(folder.parent)


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False
