"""Keys of secure aggregation: X25519 pairs, what is derived from them, and sealed shares.

    derive(secret, salt, info) = HKDF-SHA256 (RFC 5869), 32 bytes
    digest(tag, part, ...)     = SHA-256 over tag and parts, each after its length (u64)
    pair seed                  = derive(X25519(mask keys), th, "mask" | min(i, j) | max(i, j))
    self seed                  = derive(b_i, th, "self" | i)
    commitment                 = digest("commitment", b_i, i, od)
    sealed shares              = AES-256-GCM under derive(X25519(encryption keys), th,
                                 "share" | i | j), nonce 0, additional data th | i | j

`th` is the transcript's hash and `od` the offer's (32 bytes each), `i` and `j` are site numbers
(u16, big-endian). A sealing key is used for one message from i to j in one attempt: `th` is new
in each and the direction is part of the key, so its nonce may be constant.

Public keys have to be canonical and of large order. X25519 ignores the highest bit and reduces
modulo 2^255 - 19 (RFC 7748, section 5), so without that rule one key would have several
spellings and "no key is repeated" could be circumvented.
"""

from __future__ import annotations

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privacy.errors import SecAggError
from privacy.wire.secagg import KEY_BYTES, SEALED_BYTES, SHARE_BYTES

SHARE_PAIR_BYTES: Final = 2 * SHARE_BYTES  # share of the mask key | share of b_i

_DOMAIN: Final = b"craftsfl secure aggregation 1 "
_MASK_TAG: Final = _DOMAIN + b"mask"
_SELF_TAG: Final = _DOMAIN + b"self"
_SHARE_TAG: Final = _DOMAIN + b"share"
_COMMITMENT_TAG: Final = b"commitment"

_NONCE: Final = bytes(12)
_FIELD: Final = 2**255 - 19
# The canonical coordinates of points of order 1, 2, 4 and 8 on the curve and its twist
# (Bernstein, https://cr.yp.to/ecdh.html, "How do I validate Curve25519 public keys?").
_LOW_ORDER: Final = frozenset(
    {
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        _FIELD - 1,
    }
)


class KeyPair:
    """An X25519 key pair that lives for one attempt. Its text never shows the private half."""

    def __init__(self, private: bytes) -> None:
        if len(private) != KEY_BYTES:
            raise SecAggError(f"A private key has {len(private)} bytes, not {KEY_BYTES}.")
        self._private = private
        self._key = X25519PrivateKey.from_private_bytes(private)
        self.public: Final = self._key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> KeyPair:
        """A new pair from the system's randomness."""
        return cls(os.urandom(KEY_BYTES))

    @property
    def private(self) -> bytes:
        """The private half, 32 bytes: what is shared among the peers."""
        return self._private

    def exchange(self, peer_public: bytes) -> bytes:
        """The X25519 secret with a peer, 32 bytes; `SecAggError` as in `check_public`."""
        check_public(peer_public)
        try:
            return self._key.exchange(X25519PublicKey.from_public_bytes(peer_public))
        except ValueError:  # all zero: a second line of defence behind the list
            raise _refused_key() from None

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public.hex()})"


def check_public(public: bytes) -> None:
    """Refuse (`SecAggError`) a public key that is not 32 bytes, not canonical, or of low order."""
    value = int.from_bytes(public, "little")
    if len(public) != KEY_BYTES or value >= _FIELD or value in _LOW_ORDER:
        raise _refused_key()


def derive(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869): 32 bytes from `secret`."""
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(secret)


def digest(tag: bytes, *parts: bytes) -> bytes:
    """SHA-256 of a domain's tag and the parts, each after its length: no two lists look alike."""
    state = hashes.Hash(hashes.SHA256())
    for part in (_DOMAIN + tag, *parts):
        state.update(len(part).to_bytes(8, "big"))
        state.update(part)
    return state.finalize()


def pair_seed(mask: KeyPair, peer_public: bytes, th: bytes, i: int, j: int) -> bytes:
    """The mask seed that sites i and j both derive; see `pair_sign`."""
    secret = mask.exchange(peer_public)
    return derive(secret, th, _MASK_TAG + _number(min(i, j)) + _number(max(i, j)))


def pair_sign(i: int, j: int) -> int:
    """How site i applies its mask with j: +1 when j > i, else -1, so that the two cancel."""
    if i == j:
        raise SecAggError(f"Site {i} has no mask with itself.")
    return 1 if j > i else -1


def self_seed(b: bytes, th: bytes, i: int) -> bytes:
    """The seed of site i's own mask, from its secret b (32 bytes)."""
    return derive(b, th, _SELF_TAG + _number(i))


def commitment(b: bytes, i: int, od: bytes) -> bytes:
    """What site i publishes about its secret b before it shares it: hides b, binds to it."""
    return digest(_COMMITMENT_TAG, b, _number(i), od)


def seal_shares(secret: bytes, th: bytes, i: int, j: int, shares: bytes) -> bytes:
    """Site i's two shares for site j (66 bytes), sealed: 82 bytes.

    `secret` is `KeyPair.exchange` of the encryption keys; it serves both directions. Never seal
    two different messages for one (th, i, j): the key is for a single use.
    """
    if len(shares) != SHARE_PAIR_BYTES:
        raise SecAggError(f"A pair of shares has {len(shares)} bytes, not {SHARE_PAIR_BYTES}.")
    context = _number(i) + _number(j)
    return _sealing(secret, th, context).encrypt(_NONCE, shares, th + context)


def open_shares(secret: bytes, th: bytes, i: int, j: int, sealed: bytes) -> bytes:
    """The two shares that site i sealed for site j; `SecAggError` when anything was altered."""
    context = _number(i) + _number(j)
    try:
        if len(sealed) != SEALED_BYTES:
            raise InvalidTag
        return _sealing(secret, th, context).decrypt(_NONCE, sealed, th + context)
    except InvalidTag:
        raise SecAggError(f"The shares from site {i} for site {j} were altered.") from None


def _sealing(secret: bytes, th: bytes, context: bytes) -> AESGCM:
    return AESGCM(derive(secret, th, _SHARE_TAG + context))


def _number(site: int) -> bytes:
    if not 0 <= site < 1 << 16:
        raise SecAggError(f"{site} is not a site number (0 to 65535).")
    return site.to_bytes(2, "big")


def _refused_key() -> SecAggError:
    return SecAggError("A public key is not a canonical X25519 key of large order.")
