"""A chain as bytes, for a site that goes on after a restart.

    magic, study (32), H(rule) (32), run u64, steps u32, phi f64, sums_t (32), x_t as a vector,
    m, v, a: each u32 count and little-endian float64,
    H("adapter chain: kept", everything before) (32)

Read strictly: another version, study or rule, a wrong size, numbers that are not finite, trailing
bytes, and any change of a byte are refused. The digests say that the bytes are whole, not who wrote
them: the file lies where its owner alone can write, and a wrong one ends at the next label.
"""

# Why: docs/adr/0050-dense-vectors-and-closed-runs.md

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from privacy.errors import FederationError
from privacy.secagg.keys import digest
from privacy.wire.codec import Reader, Writer
from privacy.wire.reasons import RefusedMessage
from strategies.chain import AdapterChain
from strategies.descent import Descent, moment_sizes
from strategies.exact import Floats64
from strategies.rule import UpdateRule

_MAGIC: Final = b"craftsfl chain 1"
_KEPT_TAG: Final = b"adapter chain: kept"
_STORED: Final = np.dtype("<f8")
_FRAME: Final = 512  # bytes: more than all but the numbers


def largest_kept(parameters: int) -> int:
    """The most bytes of a chain of so many parameters: an adapter and three rows of moments."""
    return (4 + 3 * 8) * parameters + _FRAME


@dataclass(frozen=True, slots=True, eq=False)
class KeptChain:
    """The chain of a run, by its number; the chain itself knows only its study."""

    run: int
    chain: AdapterChain

    def encode(self) -> bytes:
        """The bytes that `decode` reads; the same chain has the same bytes."""
        state = self.chain.descent
        writer = Writer().fixed(_MAGIC, len(_MAGIC)).fixed(self.chain.study, 32)
        writer.fixed(state.rule.digest(), 32).u64(self.run).u32(state.steps).f64(state.noise)
        writer.fixed(self.chain.sums_digest, 32).vector(state.adapter)
        for array in (state.first, state.second, state.average):
            writer.u32(array.size)
            writer.fixed(array.astype(_STORED, copy=False).tobytes(), 8 * array.size)
        data = writer.done()
        return data + digest(_KEPT_TAG, data)

    @classmethod
    def decode(cls, data: bytes, study: bytes, rule: UpdateRule) -> Self:
        """The chain of `study` under `rule` that `encode` wrote.

        Raises `FederationError` for anything else.
        """
        body, named = data[:-32], data[-32:]
        if named != digest(_KEPT_TAG, body):
            raise _unusable("It is cut short, or its contents have changed.")
        try:
            return cls(*_decoded(Reader(body), study, rule))
        except RefusedMessage as error:
            raise _unusable(error.message) from None


def _decoded(reader: Reader, study: bytes, rule: UpdateRule) -> tuple[int, AdapterChain]:
    if reader.fixed(len(_MAGIC)) != _MAGIC:
        raise _unusable("It is no chain of this version.")
    if reader.fixed(32) != study or reader.fixed(32) != rule.digest():
        raise _unusable("It belongs to another study.")
    run, steps, noise, sums = reader.u64(), reader.u32(), reader.f64(), reader.fixed(32)
    adapter = np.array(reader.vector(), dtype=np.float32)
    first, second, average = (_doubles(reader, n) for n in moment_sizes(rule, adapter.size))
    state = Descent(rule, adapter, steps, first, second, noise, average)
    reader.end()
    if not adapter.size or not all(
        np.isfinite(array).all() for array in (adapter, first, second, average, noise)
    ):
        raise _unusable("It holds numbers that are not finite, or none.")
    return run, AdapterChain.of(study, state, sums)


def _doubles(reader: Reader, count: int) -> Floats64:
    """An array of as many numbers as the rule has; a file's own count is compared, not trusted."""
    if reader.u32() != count:
        raise _unusable("Its arrays have another size than its adapter.")
    return np.frombuffer(reader.fixed(8 * count), dtype=_STORED).astype(np.float64)


def _unusable(why: str) -> FederationError:
    return FederationError(
        f"The stored state of the adapter chain cannot be used. {why}",
        "Nothing is lost: it is worked out again from the opened sums.",
    )
