"""The one file with which a coordinator's operator invites hospitals to a study.

TOML: where the coordinator is, who signed its certificate, the rosters, the study. It proves
nothing by itself; its fingerprint, compared by phone, covers all of it. Guarantees, each with a
test: whatever differs in address, authority, newest roster, its signatures aside, or study makes
another fingerprint; a file that is not one, or whose study pins another roster, is refused.
"""

# Why: docs/adr/0057-first-hour.md

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from privacy.config import OtherFileError, Strict, UnreadableFileError, check, load_toml
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, SecAggError
from privacy.files import told_if_unwritable, write_public
from privacy.identity import fingerprint
from privacy.secagg.chain import AgreedRoster, agreed, decode_rosters, encode_rosters, roster_with
from privacy.secagg.keys import digest
from privacy.strict_toml import read_toml
from privacy.study.agreement import check_membership
from privacy.study.manifest import Study
from privacy.wire.reasons import RefusedMessage

_TAG: Final = b"invitation"
_AGAIN: Final = "Ask the operator for the file again: craftsfl rounds add makes it."
_TEXT: Final = """\
# An invitation to a study, for `craftsfl site join`. Compare its fingerprint by phone.
format = 1
superlink = {superlink}
authority = {authority}
rosters = {rosters}
study = {study}
"""


class _InvitationFile(Strict):
    format: Literal[1]
    superlink: Annotated[str, Field(pattern=r"^[^\s:/]+:\d{1,5}$")]
    authority: Annotated[str, Field(max_length=65536)]
    rosters: Annotated[str, Field(max_length=1 << 24)]
    study: Annotated[str, Field(max_length=1 << 20)]


@dataclass(frozen=True, slots=True)
class Invitation:
    """`superlink`: host:port. `authority`: certificates in PEM, "" for a public authority's.

    `study_text` is the study's file, as it was written.
    """

    superlink: str
    authority: str
    rosters: AgreedRoster
    study: Study
    study_text: str

    def digest(self) -> bytes:
        """32 bytes, over everything that a hospital takes from it."""
        texts = (self.superlink.encode("utf-8"), self.authority.encode("utf-8"))
        return digest(_TAG, *texts, self.rosters.roster.digest(), self.study.digest())

    def fingerprint(self) -> str:
        """The digest in digits, to be compared by phone.

        Whoever writes invitations could look for two of one fingerprint, one for each hospital:
        2^50 tries for 99 bits. So a try takes 32 MB and a tenth of a second (scrypt, RFC 7914).
        """
        slow = hashlib.scrypt(
            self.digest(), salt=_TAG, n=1 << 15, r=8, p=1, maxmem=1 << 26, dklen=32
        )
        return fingerprint(slow)


def invitation_of(superlink: str, authority: str, rosters: AgreedRoster, text: str) -> Invitation:
    """An invitation to the study in `text`. Raises `ConfigError` or `SecAggError`."""
    study = _study(text)
    chain = rosters.chain
    pinned = bytes.fromhex(study.secure_aggregation.roster)
    check_membership(study, roster_with(chain, pinned))
    return Invitation(superlink, authority, agreed(chain, pinned), study, text)


def write_invitation(path: Path, invitation: Invitation) -> None:
    """Write the file; `ConfigError` if it cannot be written."""
    text = _TEXT.format(
        superlink=json.dumps(invitation.superlink),
        authority=json.dumps(invitation.authority),
        rosters=json.dumps(base64.b64encode(encode_rosters(invitation.rosters.chain)).decode()),
        study=json.dumps(invitation.study_text, ensure_ascii=False),
    )
    with told_if_unwritable(path, "Check the path."):
        write_public(path, text.encode("utf-8"))


def read_invitation(path: Path) -> Invitation:
    """The invitation in the file, verified as far as a file can be.

    Raises `ConfigError` for anything but an invitation, `SecAggError` for rosters that do not hold.
    """
    try:
        read = load_toml(path, _InvitationFile)
        chain = decode_rosters(base64.b64decode(read.rosters, validate=True))
        return invitation_of(read.superlink, read.authority, AgreedRoster(chain), read.study)
    except (RefusedMessage, binascii.Error):
        raise _unusable(path, "its rosters are damaged") from None
    except ConfigError as error:
        if isinstance(error, (OtherFileError, UnreadableFileError)):
            raise
        raise _unusable(path, error.message.removeprefix(f"{path}: ").rstrip(".")) from None
    except SecAggError as error:
        raise _unusable(path, error.message.rstrip(".")) from None


def _study(text: str) -> Study:
    try:
        values = read_toml(text)
    except (ValueError, RecursionError):
        raise ConfigError("The study is not valid TOML.", _AGAIN) from None
    return check(values, Study, where="its study", hint=_AGAIN)


def _unusable(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"{path} is no invitation that can be used: {why}.", _AGAIN, id=ErrorId.INVITATION_UNUSABLE
    )
