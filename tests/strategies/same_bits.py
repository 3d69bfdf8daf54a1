"""Thirty steps of every optimiser, told by digests; a program, so that other numpys can run it.

    python -m tests.strategies.same_bits

Inputs come from SHAKE-256 and integers alone. 40,001 numbers: more than one part of the work, and
an odd rest after every width of vector registers.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from privacy.mechanisms.pooled.grid import PooledGrid
from privacy.mechanisms.pooled.hadamard import padded_size
from strategies.chain import AdapterChain, ChainLink
from strategies.rule import UpdateRule
from strategies.scale import LinkScale

PARAMETERS, PADDED, STEPS = 40_001, 65_536, 30
STUDY = hashlib.sha256(b"a study").digest()
PATIENTS = (160, 200, 120, 400)  # of the sites 0 .. 3
RULES = {
    "momentum": UpdateRule("momentum", 0.7, beta1=0.9),
    "momentum, averaged": UpdateRule("momentum", 0.7, beta1=0.8, averaging=0.0),
    "adam": UpdateRule("adam", 0.02, beta1=0.9, beta2=0.95, floor=0.1),
    "adam, averaged": UpdateRule("adam", 0.02, beta1=0.9, beta2=0.99, floor=1.0, averaging=3.0),
}


def integers(name: str, count: int) -> NDArray[np.int64]:
    """[count] numbers from -32768 to 32767."""
    data = hashlib.shake_256(name.encode()).digest(2 * count)
    return np.frombuffer(data, dtype="<i2").astype(np.int64)


def start() -> NDArray[np.float32]:
    """An adapter of small numbers, exact in float32."""
    return (integers("start", PARAMETERS) / 2.0**18).astype(np.float32)


def link(step: int) -> ChainLink:
    """The sum of a step: noise and a direction; the third site leaves after step 11."""
    members = (0, 1, 2, 3) if step <= 11 else (0, 1, 3)
    fields = (integers(f"noise {step}", PADDED) >> 10) + (integers("direction", PADDED) >> 12)
    if step == 17:
        fields = fields << 6  # forged: longer than an honest sum can be
    label = hashlib.sha256(b"label %d" % step).digest()
    return ChainLink(step, 1 + step % 3, label, members, fields)


def scale(members: tuple[int, ...]) -> LinkScale:
    """C is 17.25 grid units; a share has the deviation 8.5 units, whoever is there."""
    centre = (17 << 16) + (1 << 14)
    patients = sum(PATIENTS[member] for member in members)
    unit = centre / 65536
    return LinkScale(
        len(members), patients, centre, 17 << 15, lambda z: z[:PARAMETERS].astype(np.float64) / unit
    )


def rotated(members: tuple[int, ...]) -> LinkScale:
    """The same numbers on a real grid, where fields are rotated back."""
    plain = scale(members)
    grid = PooledGrid(PARAMETERS, plain.centre_scale, 16, plain.deviation, 16, STUDY)
    return LinkScale.of(grid, plain.members, plain.patients)


def chain_of(name: str, *, on_grid: bool = False) -> AdapterChain:
    """A rule's chain after all steps."""
    chain = AdapterChain.begin(STUDY, RULES[name], start())
    for step in range(1, STEPS + 1):
        one = link(step)
        if on_grid:
            padded = padded_size(PARAMETERS)
            chain = chain.after(replace(one, fields=one.fields[:padded]), rotated(one.members))
        else:
            chain = chain.after(one, scale(one.members))
    return chain


def answers() -> dict[str, str]:
    """The digests of every rule's sums, state and published adapter."""
    chains = {name: chain_of(name) for name in RULES}
    chains["adam, averaged, on a grid"] = chain_of("adam, averaged", on_grid=True)
    found = {}
    for name, chain in chains.items():
        published = hashlib.sha256(chain.published.tobytes()).hexdigest()
        found[name] = f"{chain.sums_digest.hex()} {chain.state_digest.hex()} {published}"
    return found


if __name__ == "__main__":
    sys.stdout.write("".join(f"{name}: {digests}\n" for name, digests in answers().items()))
