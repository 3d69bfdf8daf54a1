"""An attempt recomputed from the specification, independently of the product's code.

SHA-256 and HMAC from the standard library, HKDF written out (RFC 5869), the mask stream by
AES-256-CTR, Shamir by evaluating the polynomial. Only X25519, Ed25519, AES and GCM are shared.
"""

import hashlib
import hmac
import struct

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

DOMAIN = b"craftsfl secure aggregation 1 "
PRIME = 2**256 + 297
CHUNK = 256 * 1024


def u16(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}H", *numbers)


def ids(sites) -> bytes:
    return u16(len(sites), *sites)


def h(tag: str, *parts: bytes) -> bytes:
    data = b""
    for part in (DOMAIN + tag.encode(), *parts):
        data += struct.pack(">Q", len(part)) + part
    return hashlib.sha256(data).digest()


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    extracted = hmac.new(salt, secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def public(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree(private: bytes, peer: bytes) -> bytes:
    key = X25519PrivateKey.from_private_bytes(private)
    return key.exchange(X25519PublicKey.from_public_bytes(peer))


def sign(seed: bytes, message: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)


def advertise(site: int, od: bytes, secrets: tuple[bytes, bytes, bytes], seed: bytes) -> bytes:
    """218 bytes from the private share key, the private mask key and b; a ledger of one record."""
    share, mask, b = secrets
    body = u16(site) + public(share) + public(mask) + h("commitment", b, u16(site), od)
    body += bytes([site]) * 16 + (1).to_bytes(8, "big") + b"\1" * 32
    return body + sign(seed, h("advertise", od, body))


def words(seed: bytes, count: int) -> list[int]:
    data = b""
    for chunk in range(-(-8 * count // CHUNK)):
        counter = chunk.to_bytes(12, "big") + (2).to_bytes(4, "big")
        stream = Cipher(algorithms.AES256(seed), modes.CTR(counter)).encryptor()
        data += stream.update(bytes(min(CHUNK, 8 * count - chunk * CHUNK)))
    return list(struct.unpack(f"<{count}Q", data))


def sealed(secret: bytes, th: bytes, i: int, j: int, plain: bytes) -> bytes:
    key = hkdf(secret, th, DOMAIN + b"share" + u16(i, j))
    return AESGCM(key).encrypt(bytes(12), plain, th + u16(i, j))


def opened(secret: bytes, th: bytes, i: int, j: int, data: bytes) -> bytes:
    key = hkdf(secret, th, DOMAIN + b"share" + u16(i, j))
    return AESGCM(key).decrypt(bytes(12), data, th + u16(i, j))


def shamir(shares: dict[int, bytes]) -> bytes:
    """Lagrange interpolation at 0, over all shares given."""
    total = 0
    for x, share in shares.items():
        weight = 1
        for other in shares:
            if other != x:
                weight = weight * other * pow(other - x, -1, PRIME) % PRIME
        total += weight * int.from_bytes(share, "big")
    return (total % PRIME).to_bytes(32, "big")


def masked(
    site: int,
    sharers: list[int],
    secrets: tuple[bytes, bytes, bytes],
    mask_keys: dict[int, bytes],
    th: bytes,
    lanes: list[int],
) -> list[int]:
    """Exchange 2: lanes + own stream + streams with higher ids - streams with lower ids."""
    _, mask, b = secrets
    result = [
        lane + word
        for lane, word in zip(
            lanes, words(hkdf(b, th, DOMAIN + b"self" + u16(site)), len(lanes)), strict=True
        )
    ]
    for peer in sharers:
        if peer == site:
            continue
        info = DOMAIN + b"mask" + u16(min(site, peer), max(site, peer))
        stream = words(hkdf(agree(mask, mask_keys[peer]), th, info), len(lanes))
        sign_ = 1 if peer > site else -1
        result = [lane + sign_ * word for lane, word in zip(result, stream, strict=True)]
    return [lane % 2**64 for lane in result]
