"""Whose a hospital's files are where agent and gateway are two users; root alone gives them out.

The hospital's folder is the agent's, and the gateway's group may enter and read it: site.toml and
ca.pem lie there. Keys, state and tiles are the agent's alone; supernode.key and home are the
gateway's. Whatever root types afterwards runs as the agent's user, so that nothing there becomes
root's, which the agent could not read.
"""

# Why: docs/adr/0082-whose-file-is-whose.md

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from client.settings import GatewaySettings, SiteSettings
from craftsfl.processes.accounts import SystemAccount, find_account
from privacy.errors import ConfigError, DeploymentError

ENTERED: Final = 0o2750
"""Of the hospital's folder, and the socket's: the owner's, entered by the gateway's group."""
READ_BY_BOTH: Final = 0o644
"""Of site.toml and ca.pem, whatever the umask; the folder around them keeps everybody else out."""
_OWN_FOLDER: Final = 0o700
_OWN_FILE: Final = 0o600
_WRITE: Final = os.W_OK | os.X_OK


@dataclass(frozen=True, slots=True)
class NeededPath:
    """What a user needs: `rights` as `os.access` takes them; a folder may be made when needed."""

    path: Path
    rights: int
    made: bool = False  # by the user itself, where the folder above lets it

    def admitted(self, access: Callable[[Path, int], bool]) -> bool:
        """Whether `access`, of a path and rights, gives what is needed."""
        path = self.path
        while self.made and not os.path.lexists(path) and path != path.parent:
            path = path.parent
        return access(path, self.rights)

    def is_absent(self) -> bool:
        """Whether it is nowhere, as far as this process may look: the gateway then says so."""
        try:
            self.path.lstat()
        except FileNotFoundError:
            return not self.made
        except OSError:
            return False
        return False


def shut(*needs: NeededPath) -> list[Path]:
    """Which of them are there, or may be, and this process's user cannot reach."""
    return [n.path for n in needs if not (n.admitted(os.access) or n.is_absent())]


def gateways_needs(node: GatewaySettings) -> tuple[NeededPath, ...]:
    """What the gateway cannot begin without."""
    authority = [NeededPath(node.root_certificates, os.R_OK)] if node.root_certificates else []
    return NeededPath(node.key, os.R_OK), *authority, NeededPath(node.home, _WRITE, made=True)


def gateway_lacks(node: GatewaySettings) -> list[Path]:
    """Which of them this process's user cannot reach."""
    return shut(*gateways_needs(node))


def lacking(node: GatewaySettings, found: Sequence[Path], gateway: str) -> DeploymentError:
    """The refusal that names what the gateway's user cannot reach, and what to type."""
    own, authority = f"{node.key} {node.home}", node.root_certificates
    read = f"chmod a+r {authority}; " if authority in found else ""
    return DeploymentError(
        f"The gateway's user ({gateway}) cannot reach what it needs: {', '.join(map(str, found))}.",
        f"As root: mkdir -p {node.home}; chown -R {gateway} {own}; {read}and let it enter each "
        f"folder above them that is another user's: chgrp {gateway} FOLDER; chmod 2750 FOLDER. "
        "craftsfl site init makes a new hospital so (docs/hospital.md, Install).",
    )


def lets(path: Path, account: SystemAccount, rights: int) -> bool:
    """Whether modes and owners let `account` do that; `PermissionError` where nobody can look.

    For who cannot try it as that user. Access lists are not looked at: root tries it in earnest.
    """
    groups = set(os.getgrouplist(account.name, account.gid))
    return all(_admits(above, account, groups, os.X_OK) for above in path.parents) and _admits(
        path, account, groups, rights
    )


def _admits(path: Path, account: SystemAccount, groups: set[int], rights: int) -> bool:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return False
    shift = 6 if facts.st_uid == account.uid else 3 if facts.st_gid in groups else 0
    return (facts.st_mode >> shift) & rights == rights


def give_to_users(site: SiteSettings, folder: Path, agent: SystemAccount) -> None:
    """Give each file of the new hospital in `folder` to its user; root's process alone can.

    Makes the state folder, the gateway's home, and the data folder where it is to lie in `folder`.
    Raises `ConfigError`, `DeploymentError`.
    """
    node, own = site.gateway, site.identity
    if node is None or node.user is None or own is None:
        raise ConfigError("site.toml names no two users.", "Begin with craftsfl site init.")
    gateway = find_account(node.user)
    try:
        for path, account, mode in _whose(site, folder, agent, gateway):
            _give(path, account.uid, account.gid, mode)
        _give(folder, agent.uid, gateway.gid, ENTERED)  # last: until here it is root's
    except OSError as error:
        raise DeploymentError(
            f"{error.filename} cannot be given to its user: {error.strerror}.",
            "Remove what was made, and begin again as root, on a disk that knows owners.",
        ) from None


def _whose(
    site: SiteSettings, folder: Path, agent: SystemAccount, gateway: SystemAccount
) -> Iterator[tuple[Path, SystemAccount, int]]:
    node, own = site.gateway, site.identity
    if node is None or own is None:
        return
    folders = [(site.agent.state, agent), (node.home, gateway)]
    if site.data.folder.is_relative_to(folder) and not site.data.folder.exists():
        folders.append((site.data.folder, agent))
    for path, account in folders:
        path.mkdir(mode=_OWN_FOLDER, exist_ok=True)
        yield path, account, _OWN_FOLDER
    marker = own.key.with_name(f"{own.key.name}.ledger")
    yield own.key, agent, _OWN_FILE
    yield marker, agent, _OWN_FILE
    yield node.key, gateway, _OWN_FILE
    yield node.key.with_suffix(".pub"), gateway, READ_BY_BOTH
    yield folder / f"{site.name}.card", agent, READ_BY_BOTH
    yield folder / "site.toml", agent, READ_BY_BOTH


def _give(path: Path, user: int, group: int, mode: int) -> None:
    """Without following a link, or changing a file that has a second name elsewhere."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        facts = os.fstat(file)
        if not stat.S_ISDIR(facts.st_mode) and facts.st_nlink != 1:
            raise OSError(0, "it has a second name elsewhere", str(path))
        os.fchown(file, user, group)
        os.fchmod(file, mode)  # after it: a new owner clears the group's bit
    finally:
        os.close(file)
