"""Sealed steps recomputed from docs/secure-aggregation.md, independently of the product's code.

SHA-256 and HMAC from the standard library, AES-256-CTR for streams, Python's integers for lanes.
"""

import hashlib
import hmac
import struct

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.privacy.secagg.oracle import agree, h, ids, public, sign, u16, words

DOMAIN = b"craftsfl sealed steps 1 "
SALT = b"craftsfl sealed steps 1 session secrets"


def u32(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}I", *numbers)


def u64(number: int) -> bytes:
    return struct.pack(">Q", number)


def expand(key: bytes, tag: bytes, *parts: bytes) -> bytes:
    info = DOMAIN + tag + b"".join(u64(len(part)) + part for part in parts)
    return hmac.new(key, info + b"\x01", hashlib.sha256).digest()


def moved(key: bytes, epochs: int) -> bytes:
    for _ in range(epochs):
        key = expand(key, b"next")
    return key


def session_key(site: int, sd: bytes, private: bytes, seed: bytes, records: int) -> bytes:
    body = u16(site) + public(private) + bytes([site]) * 16 + u64(records) + b"\1" * 32
    return body + sign(seed, h("session-key", sd, body))


def root(private: bytes, peer: bytes, sd: bytes, kd: bytes, i: int, j: int) -> bytes:
    """r_ij(0) from i's private and j's public key."""
    prk = hmac.new(SALT, agree(private, peer), hashlib.sha256).digest()
    (low, first), (high, second) = sorted(((i, public(private)), (j, peer)))
    return expand(prk, b"pair", sd, kd, u16(low), u16(high), first, second)


def group(
    dealer: int, secret: bytes, roots: dict[int, bytes], sd: bytes, kd: bytes, seed: bytes
) -> bytes:
    body = u16(dealer) + h("session-group-secret", sd, kd, secret) + u16(len(roots))
    for peer, key in sorted(roots.items()):
        box = AESGCM(expand(key, b"group", u16(dealer))).encrypt(bytes(12), secret, None)
        body += u16(peer) + box
    return body + sign(seed, h("session-group-signed", sd, kd, body))


def label(
    sd: bytes,
    kd: bytes,
    gd: bytes,
    numbers: tuple[int, int, int, int, int],
    cohort: tuple[int, ...],
    shape: tuple[int, int],
    digests: tuple[bytes, ...],
) -> bytes:
    """`numbers`: step, attempt, e, form, slot. `digests`: study, roster, terms, base, layout,
    frozen, adapter, state, sums."""
    step, attempt, epoch, form, slot = numbers
    lanes, bits = shape
    packed = u16(1) + u32(step, attempt, epoch) + bytes([form]) + u64(slot) + ids(cohort)
    return h("label", packed + u32(lanes) + bytes([bits]), sd, kd, gd, *digests)


def fields(lane: int, bits: int) -> list[int]:
    """The numbers of a lane, the lowest bits first, two's complement."""
    found = []
    for _ in range(64 // bits):
        low = lane % 2**bits
        number = low - 2**bits if low >= 2 ** (bits - 1) else low
        found.append(number)
        lane = (lane - number) >> bits
    return found


def tags(lanes: list[int], bits: int, mk: bytes, constant: bool) -> list[int]:
    made = []
    for tag in range(2):
        beta = int.from_bytes(expand(mk, b"beta", bytes([tag]))[:8], "little")
        total = beta if constant else 0
        for field in range(64 // bits):
            alphas = words(expand(mk, b"alpha", bytes([tag, field])), len(lanes))
            rows = [fields(lane, bits)[field] for lane in lanes]
            total += sum(alpha * number for alpha, number in zip(alphas, rows, strict=True))
        made.append(total % 2**64)
    return made


def mac_key(
    secret: bytes, label_: bytes, session: int, step: int, attempt: int, cohort: tuple[int, ...]
) -> bytes:
    return expand(secret, b"mac", label_, u32(session, step, attempt) + ids(cohort))


def masked(site: int, lanes: list[int], pairs: dict[int, bytes], label_: bytes) -> list[int]:
    """`pairs`: r_ij(e) by peer."""
    result = list(lanes)
    for peer, key in pairs.items():
        stream = words(expand(key, b"mask", label_), len(lanes))
        way = 1 if peer > site else -1
        result = [lane + way * word for lane, word in zip(result, stream, strict=True)]
    return [lane % 2**64 for lane in result]


def sealed(
    label_: bytes, lanes: list[int], checks: list[bytes], nonce: bytes, note: bytes, seed: bytes
) -> bytes:
    """The body of a Sealed with `note` as its checkpoint, head and cosignature empty."""
    data = struct.pack(f"<{len(lanes)}Q", *lanes)
    shown = u16(len(checks)) + b"".join(checks)
    signed = h(
        "sealed",
        *(label_, identity(seed), hashlib.sha256(data).digest(), shown, nonce),
        *(b"", note, b""),
    )
    body = label_ + u32(len(lanes)) + data + shown + nonce
    return body + u16(0) + u16(len(note)) + note + u16(0) + sign(seed, signed)


def identity(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
