"""Two steps with known randomness: every byte against the specification, and pinned.

Sites 2, 5 and 8, three attempts a step. Step 2 opens with its second attempt, in the form READY.
"""

import json
from dataclasses import dataclass, field
from hashlib import shake_256
from pathlib import Path

import numpy as np
import pytest

from privacy.wire.bodies import Body
from privacy.wire.sealed import SealedStep, StepForm
from tests.privacy.secagg.consortium import counting
from tests.privacy.secagg.oracle import h, ids, public, sign, u16
from tests.privacy.secagg.sealed import oracle
from tests.privacy.secagg.sealed.world import COORDINATOR, SealedWorld, carried

SITES = (2, 5, 8)
PATH = Path(__file__).parent / "vectors.json"


@dataclass
class Course:
    world: SealedWorld
    down: dict[str, Body] = field(default_factory=dict)
    up: dict[str, Body] = field(default_factory=dict)
    vectors: dict[int, dict[int, np.ndarray]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def course() -> Course:
    world = SealedWorld(SITES)
    made = Course(world)
    server = world.open()
    made.down["offer"] = server.offer
    for site in SITES:
        made.up[f"key {site}"] = server._keys[site]
    made.down["keys"], made.up["group"] = server._listed, server._group
    for step, attempt, form in ((1, 1, StepForm.DIRECT), (2, 2, StepForm.READY)):
        world.begin(server, step, attempt, form=form)
        made.down[f"step {step}"] = server.requests()[2]
        world.take_up(server)
        vectors = made.vectors[step] = world.vectors(step)
        world.provide(vectors)
        world.to_slot()
        answers = world.collect(server)
        if form is StepForm.READY:
            made.up.update({f"ready {site}": body for site, body in answers.items()})
            made.down["collect"] = server.requests()[2]
            answers = {
                site: carried(world.clients[site].collect(body))
                for site, body in server.requests().items()
            }
            for site, body in answers.items():
                server.receive(site, body)
        made.up.update({f"sealed {step} {site}": body for site, body in answers.items()})
        world.sums.append(server.result())
    return made


def private(site: int) -> bytes:
    return counting(f"sealed site {site} first")(32)


def dealt() -> bytes:
    """The dealer is site 2; it draws its key, nk(0) and the group's secret, in this order."""
    random = counting("sealed site 2 first")
    return [random(32) for _ in range(3)][2]


def seed_of(site: int) -> bytes:
    return shake_256(f"identity {site}".encode()).digest(32)


@dataclass
class Digests:
    sd: bytes
    kd: bytes
    gd: bytes
    keys: bytes
    group: bytes


@pytest.fixture(scope="module")
def digests(course) -> Digests:
    sd = h("session", course.down["offer"].encode()[:-64])
    entries = [oracle.session_key(site, sd, private(site), seed_of(site), 1) for site in SITES]
    keys = u16(3) + b"".join(entries)
    kd = h("session-keys", sd, keys)
    roots = {peer: pair(2, peer, sd, kd) for peer in (5, 8)}
    group = oracle.group(2, dealt(), roots, sd, kd, seed_of(2))
    return Digests(sd, kd, h("session-group", sd, kd, group), keys, group)


def pair(i: int, j: int, sd: bytes, kd: bytes, epoch: int = 0) -> bytes:
    return oracle.moved(oracle.root(private(i), public(private(j)), sd, kd, i, j), epoch)


def test_the_offer_is_signed_by_the_coordinator(course):
    offer = course.down["offer"].encode()
    assert offer[-64:] == COORDINATOR.sign(h("session-offer", offer[:-64]))


def test_the_set_up(course, digests):
    assert course.down["keys"].encode() == digests.keys
    assert course.up["group"].encode() == digests.group


def labels(course, digests) -> dict[int, bytes]:
    study, made = course.world.study, {}
    for step, attempt, epoch, form in ((1, 1, 1, 0), (2, 2, 5, 1)):
        chain = course.world.chain(course.world.sums[: step - 1])
        made[step] = oracle.label(
            *(digests.sd, digests.kd, digests.gd),
            (step, attempt, epoch, form, course.down[f"step {step}"].slot),
            SITES,
            (study.lanes, study.bits),
            (
                *(study.study_digest, study.roster_digest, study.terms_digest),
                *(study.base, study.layout, study.frozen),
                *(chain.adapter, chain.state, chain.sums),
            ),
        )
    return made


def test_the_labels_and_the_coordinators_signature(course, digests):
    for step, label in labels(course, digests).items():
        asked: SealedStep = course.down[f"step {step}"]
        assert asked.label == label
        assert asked.signature == COORDINATOR.sign(h("step", asked.signed_part()))


def lanes_that_leave(course, digests, step: int, site: int) -> list[int]:
    label, attempt, epoch = labels(course, digests)[step], step, 4 * step - 3
    mk = oracle.mac_key(dealt(), label, 1, step, attempt, SITES)
    packed = [int(lane) for lane in course.vectors[step][site]]
    tags = oracle.tags(packed, course.world.bits, mk, site == 2)
    pairs = {
        peer: pair(site, peer, digests.sd, digests.kd, epoch) for peer in SITES if peer != site
    }
    return oracle.masked(site, packed, [0, *tags], pairs, label, course.world.bits)


def checks_of(course, digests, step: int, site: int) -> list[bytes]:
    label = labels(course, digests)[step]
    return [
        oracle.expand(pair(site, peer, digests.sd, digests.kd, 4 * step - 3), b"check", label)[:8]
        for peer in SITES
        if peer != site
    ]


def nonce_of(site: int) -> bytes:
    random = counting(f"sealed site {site} first")
    return [random(32) for _ in range(4 if site == 2 else 3)][-1]


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("step", [1, 2])
def test_what_leaves(course, digests, step, site):
    nonce = bytes(32) if step == 1 else nonce_of(site)
    expected = oracle.sealed(
        labels(course, digests)[step],
        lanes_that_leave(course, digests, step, site),
        checks_of(course, digests, step, site),
        nonce,
        b"checkpoint",
        seed_of(site),
    )
    assert course.up[f"sealed {step} {site}"].encode() == expected


@pytest.mark.parametrize("site", SITES)
def test_the_commitment(course, digests, site):
    label = labels(course, digests)[2]
    lanes = b"".join(
        lane.to_bytes(8, "little") for lane in lanes_that_leave(course, digests, 2, site)
    )
    commitment = h("sealed-commitment", nonce_of(site), lanes)
    signature = sign(seed_of(site), h("sealed-ready", label, commitment))
    assert course.up[f"ready {site}"].encode() == label + commitment + signature
    collect = course.down["collect"].encode()
    at = 34 + 98 * SITES.index(site)
    assert collect[at : at + 98] == u16(site) + commitment + signature


def test_the_sums_prove_themselves(course, digests):
    for step, opened in enumerate(course.world.sums, 1):
        label = labels(course, digests)[step]
        mk = oracle.mac_key(dealt(), label, 1, step, step, SITES)
        packed = [int(lane) for lane in opened.packed]
        assert [int(lane) for lane in opened.lanes[-3:]] == [
            0,
            *oracle.tags(packed, course.world.bits, mk, True),
        ]
        head = oracle.u32(1, step, step) + label + ids(SITES) + oracle.u32(len(packed) + 3)
        assert opened.encode()[: len(head)] == head


def test_no_byte_has_changed_since_version_1(course):
    """Every message in hex, in vectors.json: a change of any of them is a new version."""
    found = {
        f"{way}, {name}": body.encode().hex()
        for way, bodies in (("down", course.down), ("up", course.up))
        for name, body in bodies.items()
    }
    assert len(found) == 5 + 3 + 1 + 3 + 6
    assert found == json.loads(PATH.read_text())
