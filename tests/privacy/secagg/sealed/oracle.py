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


def numbers(lanes: list[int], bits: int) -> list[int]:
    """The numbers modulo 2^b of packed lanes: lane j of group g is lane j G + g of the row."""
    groups = len(lanes) // bits
    found = {}
    for group in range(groups):
        whole = sum(lanes[lane * groups + group] << (64 * lane) for lane in range(bits))
        for place in range(64):
            found[place * groups + group] = (whole >> (place * bits)) % 2**bits
    return [found[place] for place in range(64 * groups)]


def packed(row: list[int], bits: int) -> list[int]:
    """The lanes of numbers modulo 2^b, 64 to a group; zeros fill up."""
    groups = -(-len(row) // 64)
    full = [number % 2**bits for number in row] + [0] * (64 * groups - len(row))
    lanes = [0] * (bits * groups)
    for group in range(groups):
        whole = sum(full[place * groups + group] << (place * bits) for place in range(64))
        for lane in range(bits):
            lanes[lane * groups + group] = (whole >> (64 * lane)) % 2**64
    return lanes


def signed(row: list[int], bits: int) -> list[int]:
    return [number - 2**bits if number >= 2 ** (bits - 1) else number for number in row]


def added(rows: list[list[int]], bits: int, proof: int = 3) -> list[int]:
    """What lanes with their proof add up to: numbers modulo 2^b, the proof modulo 2^64."""
    split = len(rows[0]) - proof
    total = [
        sum(column) for column in zip(*(numbers(row[:split], bits) for row in rows), strict=True)
    ]
    proofs = [sum(column) % 2**64 for column in zip(*(row[split:] for row in rows), strict=True)]
    return packed(total, bits) + proofs


def tags(lanes: list[int], bits: int, mk: bytes, constant: bool) -> list[int]:
    made, row = [], signed(numbers(lanes, bits), bits)
    for tag in range(2):
        beta = int.from_bytes(expand(mk, b"beta", bytes([tag]))[:8], "little")
        alphas = words(expand(mk, b"alpha", bytes([tag])), len(row))
        total = sum(alpha * number for alpha, number in zip(alphas, row, strict=True))
        made.append((total + (beta if constant else 0)) % 2**64)
    return made


def mac_key(
    secret: bytes, label_: bytes, session: int, step: int, attempt: int, cohort: tuple[int, ...]
) -> bytes:
    return expand(secret, b"mac", label_, u32(session, step, attempt) + ids(cohort))


def stream(seed: bytes, count: int, bits: int, behind: int) -> tuple[list[int], list[int]]:
    """A stream as numbers read it (words of 16 bits, or 32 where b > 16), and the lanes behind."""
    size, kind = (2, "H") if bits <= 16 else (4, "I")
    lanes = words(seed, count * size // 8 + behind)
    data = struct.pack(f"<{len(lanes)}Q", *lanes)[: count * size]
    return list(struct.unpack(f"<{count}{kind}", data)), lanes[len(lanes) - behind :]


def masked(
    site: int, lanes: list[int], proof: list[int], pairs: dict[int, bytes], label_: bytes, bits: int
) -> list[int]:
    """`pairs`: r_ij(e) by peer."""
    row = numbers(lanes, bits)
    for peer, key in pairs.items():
        way = 1 if peer > site else -1
        short, behind = stream(expand(key, b"mask", label_), len(row), bits, len(proof))
        row = [number + way * word for number, word in zip(row, short, strict=True)]
        proof = [lane + way * word for lane, word in zip(proof, behind, strict=True)]
    return packed(row, bits) + [lane % 2**64 for lane in proof]


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
