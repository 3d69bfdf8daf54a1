"""A consortium's rosters as a file: the first one and every successor, oldest first.

    15 bytes "craftsfl/roster", u16 number of rosters, then each: u32 length, SignedRoster

The file holds no secret and goes from hand to hand; nobody has to be trusted for it. Whoever reads
it verifies all of it, up to the roster that is pinned and from there to the newest one. One that
is still being signed is the last of such a file, and is refused until its quorum is there.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from privacy.errors import ConfigError, SecAggError, WireError
from privacy.secagg.roster import Roster, SignedRoster, verify_roster
from privacy.wire.codec import Reader, Writer

_MAGIC: Final = b"craftsfl/roster"
_MAX_FILE: Final = 16 << 20  # bytes: over a hundred rosters of a thousand sites


def write_chain(path: Path, chain: Sequence[SignedRoster]) -> None:
    """Replace `path` by `chain`, whole or not at all; `ConfigError` where that cannot be done."""
    writer = Writer().fixed(_MAGIC, len(_MAGIC)).u16(len(chain))
    for signed in chain:
        data = signed.encode()
        writer.u32(len(data)).fixed(data, len(data))
    try:
        with tempfile.NamedTemporaryFile(dir=path.absolute().parent, delete=False) as stream:
            stream.write(writer.done())
        written = Path(stream.name)
        written.chmod(0o644)
        os.replace(written, path)  # noqa: PTH105 - no reader ever sees half a file
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.", "Check it.") from None


def read_chain(path: Path) -> tuple[SignedRoster, ...]:
    """The rosters in `path`, not yet verified; `ConfigError` if it is no such file."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_FILE + 1)
    except OSError as error:
        raise ConfigError(
            f"The roster {path} cannot be read: {error.strerror}.",
            "Take the file that the consortium has signed.",
        ) from None
    try:
        return _chain(data)
    except (WireError, SecAggError) as error:
        raise ConfigError(
            f"{path} is no file of rosters: {error.message}", "Ask whoever sent it for another."
        ) from None


def verified_chain(chain: Sequence[SignedRoster]) -> tuple[Roster, ...]:
    """All rosters of `chain`, each verified against the one before; `SecAggError` at a fault.

    They are worth what the first one is worth, unless one of them is pinned.
    """
    found: list[Roster] = []
    for signed in chain:
        found.append(verify_roster(signed, found[-1] if found else None))
    return tuple(found)


def pinned_roster(path: Path, digest: bytes) -> Roster:
    """The newest roster in `path`, where one of the file has the pinned `digest` (32 bytes).

    Successors of it need no new pin: the members of the pinned one have signed them. Raises
    `ConfigError` for another file, `SecAggError` for signatures that do not hold.
    """
    rosters = verified_chain(read_chain(path))
    if digest not in [roster.digest() for roster in rosters]:
        raise ConfigError(
            f"{path} does not hold the roster that the study names.",
            "Compare `roster` in study.toml with: craftsfl rounds roster show FILE",
        )
    return rosters[-1]


def _chain(data: bytes) -> tuple[SignedRoster, ...]:
    reader = Reader(data)
    if len(data) > _MAX_FILE or reader.fixed(len(_MAGIC)) != _MAGIC:
        raise SecAggError("it does not begin like one.")
    chain = tuple(SignedRoster.decode(reader.fixed(reader.u32())) for _ in range(reader.u16()))
    reader.end()
    if not chain:
        raise SecAggError("it is empty.")
    return chain
