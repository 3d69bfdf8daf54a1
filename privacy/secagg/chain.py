"""The file of a consortium's rosters, `roster.cfl`: the first one and every signed successor.

    16 bytes "craftsfl/rosters", u16 number of rosters, then each: u32 length, SignedRoster

It holds no secret, and whoever hands it on need not be trusted: its reader verifies all of it, from
the first roster through the pinned one to the newest. Every roster in it has its quorum, but for
one: the newest may still lack signatures where it is the pinned one, which a person has confirmed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from privacy.errors import ConfigError, SecAggError
from privacy.files import told_if_unwritable, write_public
from privacy.secagg.history import check_history
from privacy.secagg.roster import Roster, SignedRoster, check_signed, verify_roster
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
    with told_if_unwritable(path, "Check the path."):
        write_public(path, encode_rosters(chain))


def encode_rosters(chain: Sequence[SignedRoster]) -> bytes:
    """The bytes of the file."""
    writer = Writer().fixed(_MAGIC, len(_MAGIC)).u16(len(chain))
    for signed in chain:
        data = signed.encode()
        writer.u32(len(data)).fixed(data, len(data))
    return writer.done()


def in_force(chain: Sequence[SignedRoster], pinned: bytes) -> Roster:
    """The newest roster of `chain`, verified from its first; one of them has the digest `pinned`.

    `pinned` (32 bytes) is what people compared by phone. Successors need no new pin: the members
    of the pinned roster have signed them. Over the whole chain no id and no key may reappear as
    another site's. Raises `SecAggError` at the first fault.
    """
    return _newest(chain, pinned, verify_roster)


@dataclass(frozen=True, slots=True)
class AgreedRoster:
    """A chain whose newest roster may still lack signatures; all that it has are verified."""

    chain: tuple[SignedRoster, ...]

    @property
    def newest(self) -> SignedRoster:
        """With the signatures so far."""
        return self.chain[-1]

    @property
    def roster(self) -> Roster:
        """The newest one."""
        return self.newest.roster

    @property
    def voters(self) -> Roster:
        """Whose members sign the newest one: its predecessor, or the first one itself."""
        return self.chain[-2].roster if len(self.chain) > 1 else self.roster

    @property
    def lacking(self) -> int:
        """How many more signatures it takes; 0 once it is in force."""
        return max(0, self.voters.quorum - len(self.newest.signatures))

    @property
    def unsigned(self) -> tuple[str, ...]:
        """The names of those who may sign it and have not."""
        signed = {key for key, _ in self.newest.signatures}
        return tuple(one.name for one in self.voters.members if one.public_key not in signed)

    def may_sign(self, key: bytes) -> bool:
        """Whether the holder of `key` is among those who sign."""
        return self.voters.site_of(key) is not None

    def signed_by(self, key: bytes) -> bool:
        """Whether the holder of `key` has signed."""
        return key in dict(self.newest.signatures)

    def with_signatures(self, signatures: Iterable[tuple[bytes, bytes]]) -> AgreedRoster:
        """The same with these too, as (key, signature); `SecAggError` for one that is not good."""
        both = {**dict(self.newest.signatures), **dict(signatures)}
        signed = replace(self.newest, signatures=tuple(sorted(both.items())))
        check_signed(signed, self.voters if len(self.chain) > 1 else None)
        return AgreedRoster((*self.chain[:-1], signed))


def agreed(chain: Sequence[SignedRoster], pinned: bytes) -> AgreedRoster:
    """The chain as `in_force` verifies it, or one whose newest roster still lacks signatures.

    That has to be the pinned one, which people have compared. Nobody may act on it while it lacks
    any. Raises `SecAggError`.
    """
    on_its_way = bool(chain) and chain[-1].roster.digest() == pinned
    _newest(chain, pinned, check_signed if on_its_way else verify_roster)
    return AgreedRoster(tuple(chain))


def _newest(
    chain: Sequence[SignedRoster],
    pinned: bytes,
    check: Callable[[SignedRoster, Roster | None], Roster],
) -> Roster:
    """The newest roster, which `check` verifies; all before it are in force."""
    roster: Roster | None = None
    for signed in chain[:-1]:
        roster = verify_roster(signed, roster)
    if chain:
        roster = check(chain[-1], roster)
    if roster is None or all(one.roster.digest() != pinned for one in chain):
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


def decode_rosters(data: bytes) -> tuple[SignedRoster, ...]:
    """The rosters in the bytes of such a file, unverified; `RefusedMessage` or `SecAggError`."""
    reader = Reader(data)
    if len(data) > _MAX_FILE or reader.fixed(len(_MAGIC)) != _MAGIC:
        raise SecAggError("it does not begin like one.")
    chain = tuple(SignedRoster.decode(reader.fixed(reader.u32())) for _ in range(reader.u16()))
    reader.end()
    if not chain:
        raise SecAggError("it is empty.")
    return chain
