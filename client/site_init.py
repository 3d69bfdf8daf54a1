"""The keys of a new hospital, made where they stay, and what to send to whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from privacy.config import check
from privacy.errors import ConfigError
from privacy.identity import fingerprint, make_identity
from privacy.secagg.card import SiteCard, write_card

IDENTITY = "site.key"
SUPERNODE = "supernode.key"


@dataclass(frozen=True)
class SiteKeys:
    """What a new site has: two private files, one to send, and what to read out over the phone."""

    identity: Path  # private, Ed25519
    supernode: Path  # private, NIST P-384
    card: Path  # for the operator: both public keys, signed
    fingerprint: str


def init_site(
    folder: Path,
    name: str,
    make_supernode_key: Callable[[Path], Path],
    *,
    organisation: str = "",
    passphrase: bytes | None = None,
) -> SiteKeys:
    """Make both keys of the site `name` in `folder`, private files with mode 0600.

    `make_supernode_key` writes the key pair of the network's side (a private file, and its public
    half, which it returns). `organisation` is how people call the site. Raises `ConfigError`, and
    makes nothing, for a name that studies do not take and where any of the files is there already.
    """
    files = [folder / file for file in (IDENTITY, SUPERNODE, "supernode.pub", f"{name}.card")]
    draft = {"name": name, "organisation": organisation or name, "public_key": "0" * 64}
    card = check(draft, SiteCard, where="site init", hint="Correct the option and try again.")
    there = next((file for file in files if file.exists()), None)
    if there is not None:
        raise ConfigError(
            f"{there} exists already.",
            "Rosters name a site's key: keep it. To make another, choose another folder.",
        )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be made: {error.strerror}.", "Check the path."
        ) from None
    identity = make_identity(files[0], passphrase)
    public = make_supernode_key(files[1])
    write_card(files[3], card.signed(identity, _node_key(public)))
    return SiteKeys(files[0], files[1], files[3], fingerprint(identity.public))


def _node_key(public: Path) -> str:
    """The gateway's public key in one line, without a comment."""
    return " ".join(public.read_text("ascii").split()[:2])
