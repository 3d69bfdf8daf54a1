"""The file of a consortium's rosters, `roster.cfl`: the first one and every signed successor.

    16 bytes "craftsfl/rosters", u16 number of rosters, then each: u32 length, SignedRoster

It holds no secret, and whoever hands it on need not be trusted: its reader verifies all of it, from
the first roster through the pinned one to the newest. Every roster in it has its quorum; one that
is still being signed is in a file of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from privacy.errors import ConfigError, SecAggError
from privacy.files import write_public
from privacy.secagg.history import check_history
from privacy.secagg.roster import Roster, SignedRoster, verify_roster
from privacy.wire.codec import Reader, Writer
from privacy.wire.reasons import RefusedMessage

_MAGIC: Final = b"craftsfl/rosters"
_MAX_FILE: Final = 64 << 20  # bytes


def read_rosters(path: Path) -> tuple[SignedRoster, ...]:
    """The rosters in the file, oldest first, unverified; `ConfigError` if it is not such a file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"The roster {path} cannot be read: {error.strerror}.",
            "Take the file that the consortium has signed: craftsfl rounds roster",
        ) from None
    try:
        return decode_rosters(data)
    except (RefusedMessage, SecAggError) as error:
        raise ConfigError(
            f"{path} is not a file of rosters: {error.message}", "Ask for the signed file again."
        ) from None


def write_rosters(path: Path, chain: Sequence[SignedRoster]) -> None:
    """Write all of `chain` to the file, whole or not at all; `ConfigError` if that fails."""
    try:
        write_public(path, encode_rosters(chain))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}.", "Check the path."
        ) from None


def in_force(chain: Sequence[SignedRoster], pinned: bytes) -> Roster:
    """The newest roster of `chain`, verified from its first; one of them has the digest `pinned`.

    `pinned` (32 bytes) is what people compared by phone. Successors need no new pin: the members
    of the pinned roster have signed them. Over the whole chain no id and no key may reappear as
    another site's. Raises `SecAggError` at the first fault.
    """
    roster: Roster | None = None
    known = False
    for signed in chain:
        roster = verify_roster(signed, roster)
        known = known or roster.digest() == pinned
    if roster is None or not known:
        raise SecAggError(
            "The file does not hold the roster that study and policy pin.",
            "Compare the fingerprints by phone: craftsfl rounds roster show FILE",
        )
    check_history(signed.roster for signed in chain)
    return roster


def roster_with(chain: Sequence[SignedRoster], digest: bytes) -> Roster:
    """The roster of `chain` with this digest (32 bytes), unverified; `SecAggError` if none has."""
    for signed in chain:
        if signed.roster.digest() == digest:
            return signed.roster
    raise SecAggError("The file does not hold the roster that was asked for.", "Take another file.")


def encode_rosters(chain: Sequence[SignedRoster]) -> bytes:
    """The bytes of such a file."""
    writer = Writer().fixed(_MAGIC, len(_MAGIC)).u16(len(chain))
    for signed in chain:
        data = signed.encode()
        writer.u32(len(data)).fixed(data, len(data))
    return writer.done()


def decode_rosters(data: bytes) -> tuple[SignedRoster, ...]:
    """The reverse, unverified; `RefusedMessage` or `SecAggError` for other bytes."""
    reader = Reader(data)
    if len(data) > _MAX_FILE or reader.fixed(len(_MAGIC)) != _MAGIC:
        raise SecAggError("it does not begin like one.")
    chain = tuple(SignedRoster.decode(reader.fixed(reader.u32())) for _ in range(reader.u16()))
    reader.end()
    if not chain:
        raise SecAggError("it is empty.")
    return chain
