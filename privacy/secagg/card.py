"""A site's card: the small public file with which it asks to be listed in the roster.

TOML, so that people can read it: name in studies, organisation, public key. It proves nothing by
itself; the key's fingerprint, read out over the phone, does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field

from privacy.config import SiteName, Strict, load_toml
from privacy.errors import ConfigError
from privacy.files import write_public
from privacy.identity import fingerprint

_TEXT = """\
# Who we are in the consortium's roster. Public. The key's fingerprint, for the phone:
# {fingerprint}
name = {name}
organisation = {organisation}
public_key = "{public_key}"
"""


class SiteCard(Strict):
    """The contents of a card; `public_key` is an Ed25519 key in hex."""

    name: SiteName
    organisation: Annotated[str, Field(min_length=1, max_length=120)]
    public_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @property
    def key(self) -> bytes:
        """The key's 32 bytes."""
        return bytes.fromhex(self.public_key)


def write_card(path: Path, card: SiteCard) -> None:
    """Write `card` to the file; `ConfigError` if it cannot be written."""
    text = _TEXT.format(
        fingerprint=fingerprint(card.key),
        name=json.dumps(card.name),
        organisation=json.dumps(card.organisation, ensure_ascii=False),
        public_key=card.public_key,
    )
    try:
        write_public(path, text.encode("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}.", "Check the path."
        ) from None


def read_card(path: Path) -> SiteCard:
    """The card in the file; `ConfigError` if it is not one."""
    return load_toml(path, SiteCard)
