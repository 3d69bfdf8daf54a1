"""Keys that move on: a pair's key and a site's own for each epoch, one way only.

    expanded(key, tag, parts...) = HKDF-Expand-SHA256 (RFC 5869, 2.3), 32 bytes,
                                   info = domain | tag | each part after its length (u64)
    prk       = HKDF-Extract(constant salt, X25519(session keys of i and j))
    r_ij(0)   = expanded(prk, "pair", sd, kd, min(i, j), max(i, j), key of min, key of max)
    r_ij(e+1) = expanded(r_ij(e), "next")
    nk(0)     = 32 random bytes;  nk(e+1) = expanded(nk(e), "next")

    mask seed = expanded(r_ij(e), "mask", L)
    check     = expanded(r_ij(e), "check", L), the first 8 bytes
    box key   = expanded(r_ij(0), "group", dealer)
    noise     = expanded(nk(e), "noise", L, H(y))

A site moves all of its keys to e before it makes a mask of e, and to e + 1 before anything of e
leaves. So what is in memory opens no past step, and no second vector of e can be made. The
label is an input of the expansion, never a salt: PRF-ODH with HKDF as a random oracle is what this
rests on (Brendel et al. 2017, CRYPTO, section 2; Krawczyk 2010, CRYPTO, for HKDF).

A member that lags behind (it has missed steps) still has the older keys: whoever steals those opens
the masks between it and the others of the steps it has missed, which were of cohorts without it.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from privacy.errors import SecAggError
from privacy.wire.sealed import CHECK_BYTES

ROOT_BYTES: Final = 32

_DOMAIN: Final = b"craftsfl sealed steps 1 "
_SALT: Final = b"craftsfl sealed steps 1 session secrets"
_NONCE: Final = bytes(12)


@dataclass(frozen=True, slots=True, repr=False)
class EpochKeys:
    """All keys of one site at `epoch`: r_ij by peer, and nk. No text shows them."""

    epoch: int
    pairs: Mapping[int, bytes]
    noise: bytes

    def at(self, epoch: int) -> EpochKeys:
        """The keys of a later epoch, or these; `SecAggError` for one that has passed."""
        if epoch < self.epoch:
            raise SecAggError(f"The keys have moved on to epoch {self.epoch}: {epoch} has passed.")
        pairs, noise = dict(self.pairs), self.noise
        for _ in range(epoch - self.epoch):
            pairs = {site: expanded(key, b"next") for site, key in pairs.items()}
            noise = expanded(noise, b"next")
        return EpochKeys(epoch, pairs, noise)


def expanded(key: bytes, tag: bytes, *parts: bytes) -> bytes:
    """HKDF-Expand-SHA256 (RFC 5869, 2.3) to 32 bytes under a key of 32 bytes."""
    info = _DOMAIN + tag + b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return hmac.digest(key, info + b"\x01", "sha256")


def pair_root(secret: bytes, sd: bytes, kd: bytes, first: _End, second: _End) -> bytes:
    """r_ij(0) from the X25519 secret of two sites' session keys; the ends in either order."""
    low, high = sorted((first, second))
    prk = hmac.digest(_SALT, secret, "sha256")
    ids = (low[0].to_bytes(2, "big"), high[0].to_bytes(2, "big"))
    return expanded(prk, b"pair", sd, kd, *ids, low[1], high[1])


def mask_seed(pair_key: bytes, label: bytes) -> bytes:
    """The seed of the mask that a pair has under `label`, from r_ij(e)."""
    return expanded(pair_key, b"mask", label)


def check_of(pair_key: bytes, label: bytes) -> bytes:
    """8 bytes that two sites have in common if they have the same label, from r_ij(e)."""
    return expanded(pair_key, b"check", label)[:CHECK_BYTES]


def noise_seed_of(noise_key: bytes, label: bytes, centres: bytes) -> bytes:
    """The seed of a share of the noise, from nk(e); `centres` is H(y), 32 bytes.

    Other centres have another noise even for a machine that was put back to a snapshot.
    """
    return expanded(noise_key, b"noise", label, centres)


def seal_group(root: bytes, dealer: int, secret: bytes) -> bytes:
    """The group's secret for one peer, 48 bytes: AES-256-GCM under a key used once."""
    return AESGCM(_box_key(root, dealer)).encrypt(_NONCE, secret, None)


def open_group(root: bytes, dealer: int, box: bytes) -> bytes:
    """The reverse of `seal_group`; `SecAggError` when anything was altered."""
    try:
        return AESGCM(_box_key(root, dealer)).decrypt(_NONCE, box, None)
    except InvalidTag:
        raise SecAggError(f"The group's secret from site {dealer} was altered.") from None


_End = tuple[int, bytes]  # a site and its session key


def _box_key(root: bytes, dealer: int) -> bytes:
    # A dealer deals once in a session, so each key seals one secret and its nonce may be constant.
    return expanded(root, b"group", dealer.to_bytes(2, "big"))
