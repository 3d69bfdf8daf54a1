"""A site's card: the small public file with which it asks to be listed in the roster.

TOML, so that people can read it: name in studies, organisation, public key, and the key of its
gateway. The site signs all of it, so that nobody can put another gateway beside its key. Whose key
it is a card cannot prove; the key's fingerprint, read out over the phone, does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, field_validator

from privacy.config import OtherFileError, SiteName, Strict, load_toml
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError
from privacy.files import told_if_unwritable, write_public
from privacy.identity import Identity, fingerprint, verify
from privacy.secagg.keys import digest
from privacy.secagg.roster import MAX_ORGANISATION_BYTES

_TEXT = """\
# Who we are in the consortium's roster. Public. The key's fingerprint, for the phone:
# {fingerprint}
name = {name}
organisation = {organisation}
public_key = "{public_key}"
"""
_NODE = """\
# Our gateway's key, by which the coordinator's SuperLink knows it, and our signature of all this.
node_key = {node_key}
signature = "{signature}"
"""
_CARD: Final = b"card"
_NODE_KEY: Final = r"^ecdsa-sha2-nistp(256|384|521) [A-Za-z0-9+/=]{1,400}$"


class SiteCard(Strict):
    """The contents of a card; `public_key` is an Ed25519 key in hex, `node_key` an OpenSSH one.

    Cards of earlier versions have neither `node_key` nor `signature`.
    """

    name: SiteName
    organisation: Annotated[str, Field(min_length=1, max_length=120)]
    public_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    node_key: Annotated[str, Field(pattern=_NODE_KEY)] | None = None
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")] | None = None

    @field_validator("organisation")
    @classmethod
    def _can_be_listed(cls, organisation: str) -> str:
        """As a roster will want it, told where the card is made."""
        size = len(organisation.encode("utf-8"))
        if size > MAX_ORGANISATION_BYTES:
            raise ValueError(f"it has {size} bytes, and a roster takes {MAX_ORGANISATION_BYTES}")
        if not organisation.isprintable() or not organisation.strip():
            raise ValueError("it has characters that cannot be printed, or none that can be seen")
        return organisation

    @property
    def key(self) -> bytes:
        """The key's 32 bytes."""
        return bytes.fromhex(self.public_key)

    def signed_part(self) -> bytes:
        """The 32 bytes that the signature covers."""
        texts = (self.name, self.organisation, self.public_key, self.node_key or "")
        return digest(_CARD, *(text.encode("utf-8") for text in texts))

    def signed(self, identity: Identity, node_key: str) -> SiteCard:
        """This card with the site's keys and its signature."""
        card = self.model_copy(
            update={"public_key": identity.public.hex(), "node_key": node_key, "signature": None}
        )
        return card.model_copy(update={"signature": identity.sign(card.signed_part()).hex()})


def write_card(path: Path, card: SiteCard) -> None:
    """Write `card` to the file; `ConfigError` if it cannot be written."""
    text = _TEXT.format(
        fingerprint=fingerprint(card.key),
        name=json.dumps(card.name),
        organisation=json.dumps(card.organisation, ensure_ascii=False),
        public_key=card.public_key,
    )
    if card.node_key is not None:
        text += _NODE.format(node_key=json.dumps(card.node_key), signature=card.signature)
    with told_if_unwritable(path, "Check the path."):
        write_public(path, text.encode("utf-8"))


def read_card(path: Path) -> SiteCard:
    """The card in the file; `ConfigError` if it is not one, or not as its site signed it."""
    try:
        card = load_toml(path, SiteCard)
    except ConfigError as error:
        if error.id == ErrorId.SETTINGS_MISSING or isinstance(error, OtherFileError):
            raise
        raise ConfigError(error.message, _AGAIN) from None  # it is signed: nobody may correct it
    if card.signature is None:
        if card.node_key is not None:
            raise ConfigError(f"{path} is not signed.", _AGAIN)
        return card
    if not verify(card.key, bytes.fromhex(card.signature), card.signed_part()):
        raise ConfigError(f"{path} was changed after its hospital signed it.", _AGAIN)
    return card


_AGAIN: Final = "Ask the hospital for its card again, as craftsfl site init made it."
