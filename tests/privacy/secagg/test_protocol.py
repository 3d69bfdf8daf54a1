"""The machines against each other: drop-outs, exactness, and what the server can see."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.secagg import client as client_module
from privacy.secagg import server as server_module
from privacy.secagg.keys import pair_sign
from privacy.secagg.offer import encoding_of, threshold
from privacy.secagg.refusals import Aborted, Refused
from privacy.secagg.server import SecAggServer, Stage
from privacy.secagg.stream import CHUNK_LANES
from privacy.wire.bodies import Body
from privacy.wire.checks import Check
from privacy.wire.secagg import Survivors, Unmask
from tests.privacy.secagg.consortium import (
    TERMS,
    World,
    exchange,
    reach,
    run_all,
    signatures_checked_once,
    site_ids,
    total,
)

pytestmark = pytest.mark.usefixtures("quick_signatures")
STAGES = list(Stage)[:5]
# Sites that fall silent in these three are not in the sum; in the last two they are.
BEFORE_THE_SUM = (Stage.ADVERTISE, Stage.SHARE, Stage.INPUT)


@pytest.fixture(scope="module")
def quick_signatures():
    with signatures_checked_once():
        yield


@pytest.mark.parametrize("n", [3, 8, 32, 100])
def test_the_sum_is_exact(n):
    world = World(site_ids(n))
    lanes = world.lanes()
    outcome = run_all(world, lanes).result()
    assert outcome.survivors == world.sites
    assert np.array_equal(outcome.lanes, total(lanes, world.sites))


def drop_outs(n: int) -> list[Any]:
    """Every number of them at every exchange; of a large cohort the numbers between are slow."""
    most = n - threshold(n)
    return [
        pytest.param(
            *(n, stage, count), marks=[pytest.mark.slow] * (n > 8 and count not in (1, 2, most))
        )
        for stage in STAGES
        for count in range(1, most + 1)
    ]


@pytest.mark.parametrize(("n", "stage", "count"), [*drop_outs(4), *drop_outs(8), *drop_outs(32)])
def test_with_every_number_of_drop_outs_at_every_exchange_the_sum_is_exact(n, stage, count):
    world = World(site_ids(n))
    lanes = world.lanes()
    gone = world.sites[::2][:count]
    outcome = run_all(world, lanes, {stage: gone}).result()
    left = [s for s in world.sites if s not in gone or stage not in BEFORE_THE_SUM]
    assert outcome.survivors == tuple(left)
    assert np.array_equal(outcome.lanes, total(lanes, left))
    assert outcome.lost == (dict.fromkeys(gone, stage) if stage in BEFORE_THE_SUM else {})


# The exchanges at which drop-outs cost the most, and where they are not in the sum and in it.
HUNDRED = (Stage.INPUT, Stage.UNMASK)


@pytest.mark.parametrize(
    "stage",
    [pytest.param(stage, marks=[pytest.mark.slow] * (stage not in HUNDRED)) for stage in STAGES],
)
def test_a_hundred_sites_lose_a_third(stage):
    world = World(site_ids(100))
    lanes = world.lanes()
    gone = world.sites[10:43]
    outcome = run_all(world, lanes, {stage: gone}).result()
    left = [s for s in world.sites if s not in gone or stage not in BEFORE_THE_SUM]
    assert np.array_equal(outcome.lanes, total(lanes, left))


@pytest.mark.parametrize("n", [3, 4, 8, 32])
@pytest.mark.parametrize("stage", STAGES)
def test_one_drop_out_more_is_a_clean_end_that_reveals_nothing(n, stage):
    world = World(site_ids(n))
    lanes, count = world.lanes(), n - threshold(n) + 1
    gone = world.sites[:count]
    server, clients = world.server(), world.clients()
    seen: list[tuple[int, Body]] = []
    with pytest.raises(Aborted) as aborted:
        while True:
            if server.stage is stage:
                for site in gone:
                    del clients[site]
            if server.stage is Stage.SHARE:
                for site, client in clients.items():
                    client.provide(lanes[site].copy())
            exchange(server, clients, seen=seen)
    assert (aborted.value.stage, aborted.value.check) == (stage.value, Check.TOO_FEW)
    assert aborted.value.sites == gone
    assert server.stage is Stage.ABORTED
    assert server._sum.size == 0
    # At most t - 1 sites have opened anything; before the last exchange nobody has.
    opened = [site for site, body in seen if isinstance(body, Unmask)]
    assert len(opened) == (threshold(n) - 1 if stage is Stage.UNMASK else 0)


def test_a_survivor_floor_above_the_threshold_holds():
    world = World(site_ids(8), n_min=8)
    with pytest.raises(Aborted):
        run_all(world, world.lanes(), {Stage.INPUT: world.sites[:1]})


@pytest.mark.parametrize("stage", [Stage.CONSISTENCY, Stage.UNMASK])
def test_the_floor_counts_survivors_and_not_who_helps_to_unmask(stage):
    world = World(site_ids(8), n_min=8)
    lanes = world.lanes()
    outcome = run_all(world, lanes, {stage: world.sites[:2]}).result()
    assert np.array_equal(outcome.lanes, total(lanes, world.sites))


def test_drop_outs_at_every_exchange_of_one_attempt():
    world = World(site_ids(32))  # t = 22
    lanes = world.lanes()
    gone = {stage: world.sites[2 * k : 2 * k + 2] for k, stage in enumerate(STAGES)}
    outcome = run_all(world, lanes, gone).result()
    left = world.sites[6:]
    assert outcome.survivors == left
    assert np.array_equal(outcome.lanes, total(lanes, left))


def test_after_a_clean_end_a_new_attempt_starts_afresh():
    """New keys, new masks, and not one byte of the burned updates."""
    first, second = World(site_ids(4), attempt=1), World(site_ids(4), attempt=2)
    lanes = first.lanes()
    seen: dict[int, list[tuple[int, Body]]] = {1: [], 2: []}
    with pytest.raises(Aborted):
        run_all(first, lanes, {Stage.UNMASK: first.sites[:2]}, seen=seen[1])
    outcome = run_all(second, lanes, seen=seen[2]).result()
    assert np.array_equal(outcome.lanes, total(lanes, second.sites))
    bodies = [{body.encode() for _, body in seen[attempt]} for attempt in (1, 2)]
    assert not bodies[0] & bodies[1]


def test_a_straggler_s_answer_comes_too_late():
    world = World(site_ids(4))
    server, clients, lanes = reach(world, Stage.INPUT)
    late = world.sites[0]
    answer = clients[late].receive(server.requests()[late])
    exchange(server, clients, silent=(late,))
    with pytest.raises(Refused) as refused:
        server.receive(late, answer)
    assert refused.value.check is Check.SENDER
    exchange(server, clients)
    exchange(server, clients)
    assert np.array_equal(server.result().lanes, total(lanes, world.sites[1:]))


# --- exactness for whatever numbers


@st.composite
def attempts(draw: st.DrawFn) -> tuple[World, dict[Stage, tuple[int, ...]], str]:
    n = draw(st.integers(3, 9))
    bits = draw(st.sampled_from([8, 9, 10, 12, 16, 21, 32]))
    dimension = draw(st.integers(1, 70))
    world = World(site_ids(n), replace(TERMS, bits=bits, dimension=dimension))
    order = draw(st.permutations(world.sites))
    gone: dict[Stage, tuple[int, ...]] = {}
    for site in order[: draw(st.integers(0, n - threshold(n)))]:
        stage = draw(st.sampled_from(STAGES))
        gone[stage] = (*gone.get(stage, ()), site)
    return world, gone, draw(st.sampled_from(["zero", "top", "random"]))


@settings(max_examples=60, deadline=None)
@given(attempts())
def test_levels_add_up_for_all_sizes_widths_and_drop_outs(attempt):
    """Integers 0 .. L packed f to a lane, d not divisible by f: the fields' sums are exact."""
    world, gone, values = attempt
    encoding = encoding_of(world.offer())
    size, rng = encoding.lanes * encoding.fields, np.random.default_rng(0)
    made = {}
    for site in world.sites:
        top = {"zero": 0, "top": encoding.levels, "random": None}[values]
        levels = rng.integers(0, encoding.levels, size, endpoint=True) if top is None else top
        made[site] = np.full(size, levels, np.uint32)
        made[site][world.terms.dimension :] = 0
    lanes = {site: encoding.pack(levels) for site, levels in made.items()}
    outcome = run_all(world, lanes, gone).result()
    expected = sum(made[site].astype(np.uint64) for site in outcome.survivors)
    assert np.array_equal(encoding.unpack(outcome.lanes), expected)


def test_vectors_come_back_within_the_grid_s_error():
    world = World(site_ids(8), replace(TERMS, dimension=1000))
    rng = np.random.default_rng(1)
    vectors = {s: rng.normal(0, 0.01, 1000).astype(np.float32) for s in world.sites}
    encoding = encoding_of(world.offer())
    lanes = {site: encoding.encode(vector) for site, vector in vectors.items()}
    outcome = run_all(world, lanes, {Stage.INPUT: world.sites[:2]}).result()
    decoded = encoding.decode_sum(outcome.lanes, len(outcome.survivors))
    expected = np.sum([vectors[site] for site in outcome.survivors], axis=0)
    step = 2 * encoding.bound / encoding.levels
    assert np.abs(decoded - expected).max() < 6 * step * np.sqrt(6)


@pytest.mark.parametrize("lanes", [CHUNK_LANES - 1, CHUNK_LANES, CHUNK_LANES + 1])
def test_chunk_edges(lanes):
    world = World(site_ids(4), replace(TERMS, dimension=4 * lanes))
    made = world.lanes()
    outcome = run_all(world, made, {Stage.INPUT: world.sites[:1]}).result()
    assert outcome.lanes.size == lanes
    assert np.array_equal(outcome.lanes, total(made, world.sites[1:]))


# --- only the sum


Table = dict[bytes, np.ndarray]


def table_masks(table: Table) -> Callable[[np.ndarray, Iterable[tuple[bytes, int]]], None]:
    """`apply_masks` with truly random streams: looked up by seed, drawn when first needed."""
    rng = np.random.default_rng(2)

    def apply(lanes: np.ndarray, seeds: Iterable[tuple[bytes, int]]) -> None:
        for seed, sign in seeds:
            if seed not in table:
                table[seed] = rng.integers(0, 2**64, lanes.size, dtype=np.uint64)
            if sign > 0:
                lanes += table[seed]
            else:
                lanes -= table[seed]

    return apply


class Recorder:
    """Which seed belongs to which pair of sites."""

    def __init__(self) -> None:
        self.pairs: dict[tuple[int, int], bytes] = {}
        self._real = client_module.keys.pair_seed

    def __call__(self, mask: object, public: bytes, th: bytes, i: int, j: int) -> bytes:
        seed = self._real(mask, public, th, i, j)
        self.pairs[min(i, j), max(i, j)] = seed
        return seed


def view(
    world: World, lanes: Mapping[int, np.ndarray], table: Table, gone: tuple[int, ...]
) -> tuple[list[bytes], SecAggServer, Recorder]:
    """All that comes to the server, with masks from `table`."""
    seen: list[tuple[int, Body]] = []
    recorder, apply = Recorder(), table_masks(table)
    with (
        mock.patch.object(client_module, "apply_masks", apply),
        mock.patch.object(server_module, "apply_masks", apply),
        mock.patch.object(client_module.keys, "pair_seed", recorder),
    ):
        server = run_all(world, dict(lanes), {Stage.INPUT: gone}, seen=seen)
    return [bytes([site]) + body.encode() for site, body in seen], server, recorder


@pytest.mark.parametrize("dropped", [0, 1, 2])
def test_any_inputs_with_the_same_sum_give_the_server_the_same_view(dropped):
    """Bonawitz et al. 2017, Lemma 6.1, byte for byte.

    For other inputs of the survivors with the same sum there is another table of masks, as likely
    as the first, with which the server receives exactly the same bytes.
    """
    world = World(site_ids(8))
    gone, left = world.sites[:dropped], world.sites[dropped:]
    lanes, table = world.lanes(), {}
    first, server, recorder = view(world, lanes, table, gone)

    others = {**lanes, **{site: world.lanes(seed=9)[site] for site in left[:-1]}}
    others[left[-1]] = total(lanes, left) - total(others, left[:-1])
    # Along a path through the survivors each pair's mask takes up what the inputs differ by.
    moved, carried = dict(table), np.zeros_like(lanes[left[0]])
    for site, neighbour in pairwise(left):
        carried = carried + lanes[site] - others[site]
        sign = np.uint64(pair_sign(site, neighbour) % 2**64)
        moved[recorder.pairs[site, neighbour]] = (
            table[recorder.pairs[site, neighbour]] + sign * carried
        )
    second, other_server, _ = view(world, others, moved, gone)

    assert any(not np.array_equal(lanes[site], others[site]) for site in left)
    assert second == first
    assert np.array_equal(other_server.result().lanes, server.result().lanes)


def test_inputs_with_another_sum_do_not():
    """Whatever the pair masks: they cancel, and the self masks are opened."""
    world = World(site_ids(4))
    lanes, table = world.lanes(), {}
    first, _, recorder = view(world, lanes, table, ())
    others = {**lanes, world.sites[0]: lanes[world.sites[0]] + np.uint64(1)}
    for pair in [None, *recorder.pairs.values()]:
        moved = dict(table)
        if pair is not None:
            moved[pair] = table[pair] + np.uint64(1)
        assert view(world, others, moved, ())[0] != first


# --- what leaves a site


def test_no_planted_canary_and_no_secret_leaves_a_site():
    """Every byte that goes to the server, in the raw form and in hex."""
    world = World(site_ids(8))
    server, clients = world.server(), world.clients()
    canary = b"CANARY-weight-731-patients-loss-0.125"
    size = encoding_of(world.offer()).lanes
    planted = np.frombuffer(canary[: 8 * size].ljust(8 * size, b"!"), np.uint64)
    seen: list[tuple[int, Body]] = []
    secrets: list[bytes] = []
    while server.stage is not Stage.DONE:
        if server.stage is Stage.SHARE:
            for client in clients.values():
                client.provide(planted.copy())
                own = client._state.secrets
                secrets += [own.mask.private, own.share.private, own.b]
        if server.stage is Stage.INPUT:
            del clients[world.sites[0]]
        exchange(server, clients, seen=seen)
    wire = b"".join(body.encode() for _, body in seen)
    forbidden = [planted.tobytes()[k : k + 8] for k in range(0, 8 * size, 8)] + secrets
    for data in forbidden:
        assert data not in wire
        assert data.hex().encode() not in wire
    # What is there to be found: the sum, and for that the test has to look in the right place.
    assert np.array_equal(server.result().lanes, planted * np.uint64(7))


def test_the_length_of_what_leaves_says_nothing_of_the_update():
    def lengths(values: int) -> list[int]:
        world = World(site_ids(4))
        seen: list[tuple[int, Body]] = []
        same = {s: np.full(3, values, np.uint64) for s in world.sites}
        run_all(world, same, seen=seen)
        return [len(body.encode()) for _, body in seen]

    assert lengths(0) == lengths(2**63)


def test_masked_lanes_look_random():
    """All-zero updates: about half of all bits are set, and no two sites send alike."""
    world = World(site_ids(4), replace(TERMS, dimension=40_000))
    zeros = {s: np.zeros(10_000, np.uint64) for s in world.sites}
    seen: list[tuple[int, Body]] = []
    run_all(world, zeros, seen=seen)
    sent = [body.lanes for _, body in seen if type(body).__name__ == "MaskedInput"]
    for lanes in sent:
        ones = int(np.bitwise_count(lanes).sum())
        assert abs(ones - 320_000) < 6 * 400  # six standard deviations of 640,000 fair bits
    assert len({lanes.tobytes() for lanes in sent}) == 4


def test_survivors_are_not_asked_for_mask_keys():
    """What is opened: the self masks of survivors, the mask keys of the others, never both."""
    world = World(site_ids(8))
    server, clients, _ = reach(world, Stage.INPUT)
    out = world.sites[3]
    exchange(server, clients, silent=(out,))
    survivors = server.requests()[world.sites[0]]
    assert survivors == Survivors(tuple(s for s in world.sites if s != out))
    held = {site: client._state.shares for site, client in clients.items()}
    exchange(server, clients, silent=(out,))
    for site, body in server.requests().items():
        answer = clients[site].receive(body)
        for place, owner in enumerate(world.sites):
            dealt = held[site][owner]
            assert answer.shares[place] == (dealt.mask_key if owner == out else dealt.b)
