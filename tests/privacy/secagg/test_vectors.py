"""One whole attempt with known randomness: every byte against the specification, and pinned.

Four sites (2, 5, 8, 11), t = 3; site 8 falls silent after it has shared its keys.
"""

import hashlib
import json
import struct
from dataclasses import dataclass
from hashlib import shake_256
from pathlib import Path

import numpy as np
import pytest

from privacy.secagg.server import Stage
from privacy.wire.bodies import Body
from tests.privacy.secagg import oracle
from tests.privacy.secagg.consortium import World, counting, exchange, site_ids, total

SITES = site_ids(4)
SILENT = 8
LEFT = [2, 5, 11]


@dataclass
class Attempt:
    down: dict[tuple[str, int], Body]
    up: dict[tuple[str, int], Body]
    lanes: dict[int, np.ndarray]
    sum: np.ndarray


@pytest.fixture(scope="module")
def attempt() -> Attempt:
    world = World(SITES)
    server, clients, lanes = world.server(), world.clients(), world.lanes()
    down: dict[tuple[str, int], Body] = {}
    up: dict[tuple[str, int], Body] = {}
    while server.stage is not Stage.DONE:
        if server.stage is Stage.INPUT:
            del clients[SILENT]
            for site, client in clients.items():
                client.provide(lanes[site].copy())
        seen: list[tuple[int, Body]] = []
        stage = server.stage.value
        down.update({(stage, site): body for site, body in server.requests().items()})
        exchange(server, clients, seen=seen)
        up.update({(stage, site): body for site, body in seen})
    return Attempt(down, up, lanes, server.result().lanes)


def secrets_of(site: int) -> tuple[bytes, bytes, bytes]:
    random = counting(f"site {site} attempt 1")
    return random(32), random(32), random(32)


def seed_of(site: int) -> bytes:
    return shake_256(f"identity {site}".encode()).digest(32)


@pytest.fixture(scope="module")
def od(attempt) -> bytes:
    return oracle.h("offer", attempt.down["advertise", 2].encode())


@pytest.fixture(scope="module")
def th(attempt, od) -> bytes:
    entries = [oracle.advertise(s, od, secrets_of(s), seed_of(s)) for s in SITES]
    return oracle.h("advertisements", od, oracle.u16(4) + b"".join(entries))


def test_exchange_0_advertises_the_keys(attempt, od):
    for site in SITES:
        expected = oracle.advertise(site, od, secrets_of(site), seed_of(site))
        assert attempt.up["advertise", site].encode() == expected


def test_exchange_1_shares_the_secrets(attempt, th):
    plain: dict[int, dict[int, bytes]] = {}
    for receiver in LEFT:
        own = secrets_of(receiver)[0]
        for sender, sealed in attempt.down["masked input", receiver].shares:
            secret = oracle.agree(own, oracle.public(secrets_of(sender)[0]))
            shares = oracle.opened(secret, th, sender, receiver, sealed)
            assert oracle.sealed(secret, th, sender, receiver, shares) == sealed
            plain.setdefault(sender, {})[SITES.index(receiver) + 1] = shares
    # Site 8 dealt to all three that are left: its secrets come back.
    _, mask, b = secrets_of(SILENT)
    assert oracle.shamir({x: shares[:33] for x, shares in plain[SILENT].items()}) == mask
    assert oracle.shamir({x: shares[33:] for x, shares in plain[SILENT].items()}) == b


def test_exchange_2_masks_and_signs(attempt, th):
    mask_keys = {site: oracle.public(secrets_of(site)[1]) for site in SITES}
    for site in LEFT:
        lanes = [int(lane) for lane in attempt.lanes[site]]
        expected = oracle.masked(site, list(SITES), secrets_of(site), mask_keys, th, lanes)
        data = struct.pack(f"<{len(expected)}Q", *expected)
        signed = oracle.h("masked-input", th, oracle.ids(SITES), hashlib.sha256(data).digest())
        signature = oracle.sign(seed_of(site), signed)
        count = struct.pack(">I", len(expected))
        assert attempt.up["masked input", site].encode() == count + data + signature


def test_exchange_3_signs_the_survivors(attempt, th):
    signed = oracle.h("consistency", th, oracle.ids(SITES), oracle.ids(LEFT))
    for site in LEFT:
        assert attempt.down["consistency", site].encode() == oracle.ids(LEFT)
        assert attempt.up["consistency", site].encode() == oracle.sign(seed_of(site), signed)


def test_exchange_4_gives_one_share_of_each(attempt):
    for place, owner in enumerate(SITES):
        shares = {SITES.index(site) + 1: attempt.up["unmask", site].shares[place] for site in LEFT}
        _, mask, b = secrets_of(owner)
        assert oracle.shamir(shares) == (mask if owner == SILENT else b)


def test_the_sum_is_the_survivors(attempt):
    assert np.array_equal(attempt.sum, total(attempt.lanes, LEFT))


def test_no_byte_has_changed_since_version_2(attempt):
    """Every message in hex, in vectors.json: a change of any of them is a new version."""
    found = {
        f"{way}, {stage}, site {site}": body.encode().hex()
        for way, bodies in (("down", attempt.down), ("up", attempt.up))
        for (stage, site), body in bodies.items()
    }
    assert len(found) == 5 * 4 + 5 * 3
    assert found == json.loads((Path(__file__).parent / "vectors.json").read_text())
