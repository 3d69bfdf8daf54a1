"""A short chain of opened sums."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from strategies.chain import AdapterChain, ChainLink
from strategies.rule import UpdateRule
from strategies.scale import LinkScale

P, PADDED = 5, 8
STUDY = bytes(range(32))
RULE = UpdateRule("adam", 0.02, averaging=2.0)
LABEL = bytes(32)


def scale(members: int = 3, patients: int = 90) -> LinkScale:
    return LinkScale(members, patients, 12 << 16, 8 << 16, lambda z: z[:P].astype(np.float64) / 12)


def link(number: int, **changes: object) -> ChainLink:
    fields = np.random.default_rng(number).integers(-40, 40, PADDED)
    return replace(ChainLink(number, 1, LABEL, (0, 1, 2), fields), **changes)


def begun() -> AdapterChain:
    return AdapterChain.begin(STUDY, RULE, np.zeros(P, np.float32))


def through(chain: AdapterChain, steps: range) -> AdapterChain:
    for step in steps:
        chain = chain.after(link(step), scale())
    return chain


def names(chain: AdapterChain) -> tuple[bytes, ...]:
    """Everything by which a site and a coordinator compare themselves."""
    return chain.sums_digest, chain.state_digest, chain.adapter_digest, chain.adapter.tobytes()
