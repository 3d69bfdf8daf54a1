"""A chain of opened sums: the same bytes for whoever saw the same links, and other digests else."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import FederationError
from privacy.mechanisms.pooled.grid import PooledGrid
from privacy.mechanisms.pooled.share import centres_of, noised
from strategies.chain import AdapterChain, ChainLink
from strategies.exact import LARGEST_FIELD
from strategies.rule import UpdateRule
from strategies.scale import LinkScale
from tests.strategies.chains import (
    LABEL,
    PADDED,
    RULE,
    STUDY,
    P,
    begun,
    link,
    names,
    scale,
    through,
)
from tests.strategies.scalars import variance_of

LINKS = st.lists(
    st.tuples(
        st.lists(st.integers(-200, 200), min_size=PADDED, max_size=PADDED),
        st.sampled_from([(0, 1, 2), (0, 2), (1, 2)]),
        st.integers(1, 5),
    ),
    min_size=1,
    max_size=8,
)


@given(LINKS, st.data())
@settings(max_examples=60, deadline=None)
def test_a_site_that_comes_late_reaches_the_same_bytes(
    drawn: list[tuple[list[int], tuple[int, ...], int]], data: st.DataObject
) -> None:
    """It was away from any step on, and fetches the links it missed."""
    links = [
        ChainLink(step, attempt, bytes([step]) * 32, members, np.array(fields, np.int64))
        for step, (fields, members, attempt) in enumerate(drawn, start=1)
    ]
    away = data.draw(st.integers(0, len(links)))
    always, late = begun(), begun()
    for one in links[:away]:
        late = late.after(one, scale(len(one.members), 30 * len(one.members)))
    for one in links:
        always = always.after(one, scale(len(one.members), 30 * len(one.members)))
    assert late.steps == away
    for one in links[late.steps :]:
        late = late.after(one, scale(len(one.members), 30 * len(one.members)))
    assert names(late) == names(always)
    assert late.published.tobytes() == always.published.tobytes()


@pytest.mark.parametrize("step", [1, 2, 3, 5, 6])
def test_a_repeated_a_late_and_a_skipped_sum_are_refused(step: int) -> None:
    chain = through(begun(), range(1, 4))
    before = names(chain)
    with pytest.raises(FederationError, match=f"step {step} does not follow step 3"):
        chain.after(link(step), scale())
    assert names(chain) == before


def forged() -> dict[str, ChainLink]:
    honest = link(4)
    plus = honest.fields.copy()
    plus[0] += 1
    return {
        "plus one": replace(honest, fields=plus),
        "twice": replace(honest, fields=2 * honest.fields),
        "zero": replace(honest, fields=0 * honest.fields),
        "permuted": replace(honest, fields=honest.fields[::-1].copy()),
        "another attempt": replace(honest, attempt=2),
        "another label": replace(honest, label=b"\1" + LABEL[1:]),
        "another cohort": replace(honest, members=(0, 1, 3)),
    }


@pytest.mark.parametrize("name", sorted(forged()))
def test_a_forged_sum_shows_in_every_later_digest(name: str) -> None:
    """Also where it leaves the adapter as it is: sums, cohort and label are in the chain."""
    before = through(begun(), range(1, 4))
    honest, other = before.after(link(4), scale()), before.after(forged()[name], scale())
    for step in range(5, 9):
        assert honest.sums_digest != other.sums_digest
        honest, other = honest.after(link(step), scale()), other.after(link(step), scale())
    assert honest.sums_digest != other.sums_digest


def test_one_bit_of_the_start_the_study_or_the_rule_shows() -> None:
    start = np.zeros(P, np.float32)
    nearly = start.copy()
    nearly[3] = 2.0**-126
    chains = [
        AdapterChain.begin(STUDY, RULE, start),
        AdapterChain.begin(STUDY, RULE, nearly),
        AdapterChain.begin(STUDY[::-1], RULE, start),
        AdapterChain.begin(STUDY, replace(RULE, floor=0.2), start),
    ]
    assert len({chain.sums_digest for chain in chains}) == 4
    assert len({chain.state_digest for chain in chains}) == 4


def test_two_states_with_one_adapter_differ_in_their_state_digest() -> None:
    """From the adapter alone nobody could tell that the next step will part them."""
    still = begun().after(link(1, fields=np.zeros(PADDED, np.int64)), scale())
    assert still.adapter_digest == begun().adapter_digest
    assert still.state_digest != begun().state_digest


def test_a_cohort_of_another_size_than_its_scale_is_refused() -> None:
    with pytest.raises(FederationError, match="3 sites is read as one of 2"):
        begun().after(link(1), scale(members=2))


@pytest.mark.parametrize(
    "changes",
    [
        {"step": 0}, {"step": 1 << 32}, {"attempt": -1}, {"attempt": 1 << 32}, {"label": b""},
        {"members": ()}, {"members": (1, 0, 2)}, {"members": (0, 0, 1)}, {"members": (-1, 0)},
        {"members": (0, 1 << 16)}, {"fields": np.zeros(PADDED)},
        {"fields": np.zeros((2, 4), np.int64)}, {"fields": np.full(PADDED, LARGEST_FIELD)},
        {"fields": np.full(PADDED, -(2**63))},
    ],
)  # fmt: skip
def test_what_is_no_link_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(FederationError):
        link(1, **changes)


@pytest.mark.parametrize("values", [(0, 9, 9, 9), (3, 0, 9, 9), (3, 9, 0, 9), (3, 9, 9, -1)])
def test_a_scale_without_sites_patients_or_grid_is_refused(values: tuple[int, ...]) -> None:
    with pytest.raises(FederationError):
        LinkScale(*values, lambda z: z.astype(np.float64))


@given(
    st.integers(1, 300), st.integers(1, 10**7), st.integers(1, 1 << 28), st.integers(0, 1 << 24),
    st.sampled_from([16, 24]), st.integers(1, 1 << 20),
)  # fmt: skip
def test_variance_and_limit_follow_from_public_terms(
    members: int, patients: int, centre: int, deviation: int, bits: int, padded: int
) -> None:
    made = LinkScale(members, patients, centre, deviation, lambda z: z.astype(np.float64), bits)
    assert made.variance == variance_of(made)
    wanted = patients * Fraction(centre, 1 << bits) + Fraction(deviation, 1 << 16) * Fraction(
        math.sqrt(members) * (math.sqrt(padded) + 9)
    )
    got = Fraction(made.limit(padded), 1 << 16)
    assert got >= wanted * (1 - Fraction(1, 1 << 40))
    slack = 4 + members * (math.isqrt(padded) + 1) + 10 * (deviation >> 16)
    assert got <= wanted * (1 + Fraction(1, 1 << 12)) + Fraction(slack, 1 << 16)


def test_patients_who_all_agree_are_not_clipped_and_more_than_that_is() -> None:
    """On the real grid: every patient's gradient is C in one direction, the most there can be."""
    grid = PooledGrid(1536, 12 << 16, 16, 8 << 16, 14, bytes(32))
    patients, members = 480, 3
    total = np.zeros(1536, np.int64)
    total[7] = 160 << 30
    fields = sum(
        noised(centres_of(total, grid), grid, bytes([site]) * 32) for site in range(members)
    )
    made = LinkScale.of(grid, members, patients)
    plain = UpdateRule("momentum", 1.0, beta1=0.0)
    chain = AdapterChain.begin(STUDY, plain, np.zeros(1536, np.float32))
    honest = chain.after(ChainLink(1, 1, LABEL, (0, 1, 2), fields), made)
    np.testing.assert_array_equal(honest.adapter, (-made.open(fields) / 480).astype(np.float32))
    assert honest.adapter[7] == pytest.approx(-1, abs=9 * math.sqrt(made.variance))
    assert np.std(np.delete(honest.adapter, 7)) == pytest.approx(math.sqrt(made.variance), rel=0.1)
    # A million times that moves no further than the public bound.
    forged = chain.after(ChainLink(1, 1, LABEL, (0, 1, 2), fields * 1000), made)
    length = float(np.linalg.norm(forged.adapter.astype(np.float64)))
    bound = made.limit(grid.padded) / made.centre_scale / patients
    assert length == pytest.approx(bound, rel=1e-3)
    assert length < 2.0  # of C: 1 from the patients, the rest is room for noise
