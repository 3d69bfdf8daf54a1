"""What secure aggregation hashes and signs. `H` is `privacy.secagg.keys.digest`: SHA-256 over a
domain's tag and length-prefixed parts; sets of sites are ascending u16, after their number.

    od          = H("offer", Offer)
    advertise   : H("advertise", od, the first 154 bytes of Advertise)
    th          = H("advertisements", od, Advertisements)
    input       : H("masked-input", th, U2, SHA-256(lanes))
    consistency : H("consistency", th, U2, U3)
    roster      : H("roster", Roster)
    facts       : H("site-facts", run and node as u64, SiteFacts)

Lines with a colon are the 32 bytes that an Ed25519 signature (RFC 8032) covers. `od` holds run,
round, attempt, model and recipe, and is in every other line, so nothing of one attempt has a
meaning in another. Facts hold the study's digest; another site's facts, relayed by a node, name the
wrong node, and those from another run the wrong run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np

from privacy.secagg.keys import digest
from privacy.wire.bodies import SiteFacts
from privacy.wire.codec import Vector, Writer
from privacy.wire.offer import Offer
from privacy.wire.secagg import Advertise, Advertisements, Lanes, lane_bytes

_OFFER: Final = b"offer"
_ADVERTISE: Final = b"advertise"
_ADVERTISEMENTS: Final = b"advertisements"
_MASKED_INPUT: Final = b"masked-input"
_CONSISTENCY: Final = b"consistency"
_ROSTER: Final = b"roster"
_MODEL: Final = b"model"
_FACTS: Final = b"site-facts"


def offer_digest(offer: Offer) -> bytes:
    """od, 32 bytes: everything that must have been offered to all sites alike."""
    return digest(_OFFER, offer.encode())


def advertised(od: bytes, entry: Advertise) -> bytes:
    """What the signature of an advertisement covers."""
    return digest(_ADVERTISE, od, entry.signed_part())


def transcript(od: bytes, advertisements: Advertisements) -> bytes:
    """th, 32 bytes: the offer and all keys."""
    return digest(_ADVERTISEMENTS, od, advertisements.encode())


def masked_input(th: bytes, sharers: Sequence[int], lanes: Lanes) -> bytes:
    """What the signature of a masked input covers; `sharers` is U2."""
    hashed = hashlib.sha256(lane_bytes(lanes)).digest()
    return digest(_MASKED_INPUT, th, _ids(sharers), hashed)


def consistency(th: bytes, sharers: Sequence[int], survivors: Sequence[int]) -> bytes:
    """What a consistency signature covers: U2 and U3."""
    return digest(_CONSISTENCY, th, _ids(sharers), _ids(survivors))


def roster_digest(canonical: bytes) -> bytes:
    """The digest that pins a roster and that its members sign."""
    return digest(_ROSTER, canonical)


def round_model(base: bytes, layout: bytes, adapter: Vector) -> bytes:
    """The digest of a round's model: base and layout (32 bytes each), adapter float32 [P]."""
    return digest(_MODEL, base, layout, np.ascontiguousarray(adapter, dtype="<f4").tobytes())


def site_facts(run: int, node: int, facts: SiteFacts) -> bytes:
    """What a site signs about itself when a server greets it as `node` (u64) of `run` (u64)."""
    return digest(_FACTS, Writer().u64(run).u64(node).done(), facts.encode())


def _ids(sites: Sequence[int]) -> bytes:
    writer = Writer().u16(len(sites))
    for site in sites:
        writer.u16(site)
    return writer.done()
