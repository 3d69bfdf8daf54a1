"""How each member of a pooled study works out the adapter of a step by itself.

A chain starts from the adapter that the study fixes. Each opened sum is one `ChainLink`; `after`
adds it and moves the adapter. Nothing else goes in, so coordinator and sites that saw the same
links hold the same bytes, and a site that was away reaches them from the links it missed.

    adapter_t = H("adapter chain: adapter", x_t)
    sums_0    = H("adapter chain: start", study, rule, adapter_0)
    sums_t    = H("adapter chain: link", sums_{t-1}, step, attempt, K, L, SHA-256(fields))
    state_t   = H("adapter chain: state", study, rule, t, phi_t, x_t, m_t, v_t, a_t)

H is `privacy.secagg.keys.digest`; numbers of an adapter are little-endian float32, those of moments
float64, fields int64; step, attempt and t are u32, K is u16 for its size and one for each member.
These digests stand in the next label: whoever has another sum, another cohort or another order
has another label, and nothing opens.

With all sites honest a forged sum does not pass the lanes of `privacy.secagg`. A coordinator that
is in league with one site can forge one; then a step moves by what `LinkScale.limit` allows. No
epsilon rests on this module: it only post-processes what has been released.
"""

# Why: docs/adr/0041-every-site-works-out-the-adapter.md

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from privacy.errors import FederationError
from privacy.secagg.keys import digest
from privacy.wire.codec import Vector, Writer
from strategies.descent import Descent
from strategies.exact import LARGEST_FIELD, Fields, shrinkage
from strategies.rule import UpdateRule
from strategies.scale import LIMIT_BITS, LinkScale

_ADAPTER_TAG: Final = b"adapter chain: adapter"
_START_TAG: Final = b"adapter chain: start"
_LINK_TAG: Final = b"adapter chain: link"
_STATE_TAG: Final = b"adapter chain: state"
_HINT: Final = (
    "Fetch the opened sums from the coordinator again; if they are the same, stop the run."
)


@dataclass(frozen=True, slots=True, eq=False)
class ChainLink:
    """What one step opened, and for whom: public. `fields` is the sum of z_i, int64 [padded]."""

    step: int  # from 1; a step that opened nothing has no link
    attempt: int  # the one that opened
    label: bytes  # L, 32 bytes
    members: tuple[int, ...]  # K, ascending numbers of the roster
    fields: Fields

    def __post_init__(self) -> None:
        if not 1 <= self.step < 1 << 32 or not 0 <= self.attempt < 1 << 32:
            raise FederationError("An opened sum has a number out of its range.", _HINT)
        if len(self.label) != 32 or not self.members:
            raise FederationError("An opened sum has no label or no cohort.", _HINT)
        ascending = tuple(sorted(set(self.members)))
        if ascending != self.members or not 0 <= ascending[0] <= ascending[-1] < 1 << 16:
            raise FederationError("An opened sum's cohort is not a list of members.", _HINT)
        if self.fields.dtype != np.int64 or self.fields.ndim != 1:
            raise FederationError("An opened sum is not a vector of integers.", _HINT)
        if (self.fields >= LARGEST_FIELD).any() or (self.fields <= -LARGEST_FIELD).any():
            raise FederationError("An opened sum is larger than its lanes.", _HINT)

    def extend(self, before: bytes) -> bytes:
        """The digest of all links up to this one, 32 bytes; `before` is that without it."""
        numbers = Writer().u32(self.step).u32(self.attempt).u16(len(self.members))
        for member in self.members:
            numbers.u16(member)
        fields = np.ascontiguousarray(self.fields, dtype="<i8")
        hashed = hashlib.sha256(fields.data).digest()
        return digest(_LINK_TAG, before, numbers.done(), self.label, hashed)


@dataclass(frozen=True, slots=True, eq=False)
class AdapterChain:
    """Adapter and optimiser after the links so far, and the digests that name them. Immutable."""

    study: bytes  # the study's digest, 32 bytes
    descent: Descent
    sums_digest: bytes  # of the start and all links, in order
    adapter_digest: bytes
    state_digest: bytes  # of adapter and optimiser state

    @classmethod
    def begin(cls, study: bytes, rule: UpdateRule, start: Vector) -> AdapterChain:
        """The chain of a study (its digest) before its first step; `start` is x_0, float32 [P].

        Raises `FederationError` where `start` is not finite or not [P] with P > 0.
        """
        descent = Descent.begin(rule, start)
        adapter = digest(_ADAPTER_TAG, _bytes(descent.adapter))
        return cls.of(study, descent, digest(_START_TAG, study, rule.digest(), adapter))

    @classmethod
    def of(cls, study: bytes, descent: Descent, sums_digest: bytes) -> AdapterChain:
        """The chain that has come to this state by the links that `sums_digest` names."""
        adapter = digest(_ADAPTER_TAG, _bytes(descent.adapter))
        return cls(study, descent, sums_digest, adapter, _state_digest(study, descent))

    @property
    def adapter(self) -> Vector:
        """x_t, what the next step trains on: float32 [P], read-only."""
        return self.descent.adapter

    @property
    def published(self) -> Vector:
        """What a run that ends here publishes: float32 [P]. See `UpdateRule.averaging`."""
        return self.descent.published

    @property
    def published_digest(self) -> bytes:
        """Of `published`, as `adapter_digest` is of the adapter: 32 bytes."""
        return digest(_ADAPTER_TAG, _bytes(self.published))

    @property
    def steps(self) -> int:
        """How many links there are; the next one's step is this plus one."""
        return self.descent.steps

    def after(self, link: ChainLink, scale: LinkScale) -> AdapterChain:
        """The chain with one more link; `scale` follows from the study and the link's cohort.

        Raises `FederationError` for a link that is not the next one, or that does not fit: a
        repeated, a late, a skipped sum. This chain is as it was in any case.
        """
        if link.step != self.steps + 1:
            raise FederationError(
                f"The opened sum of step {link.step} does not follow step {self.steps}.",
                "Send the opened sums in order, each once, from the first that the site lacks.",
            )
        if len(link.members) != scale.members:
            raise FederationError(
                f"An opened sum of {len(link.members)} sites is read as one of {scale.members}.",
                _HINT,
            )
        factor = shrinkage(link.fields, scale.limit(link.fields.size), LIMIT_BITS)
        # One factor for all coordinates, rounded once: then both products are elementwise.
        mean = scale.open(link.fields) * (factor / scale.patients)
        following = self.descent.after(mean, scale.variance)
        return AdapterChain.of(self.study, following, link.extend(self.sums_digest))


def _state_digest(study: bytes, state: Descent) -> bytes:
    numbers = Writer().u32(state.steps).f64(state.noise).done()
    arrays = (state.adapter, state.first, state.second, state.average)
    return digest(_STATE_TAG, study, state.rule.digest(), numbers, *(_bytes(a) for a in arrays))


def _bytes(array: NDArray[np.float32] | NDArray[np.float64]) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
