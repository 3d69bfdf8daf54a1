"""Where each patient of a step stands: in which physical batch, and in which place of it.

A gradient may depend on its place (`ClippingEngine.gradients`), so a place must not depend on what
anybody's rows hold. Two ways have that property:

- *packed*: the drawn patients in the order of a secret permutation, without gaps. Where one
  leaves, another moves up, so it needs a device on which places do not matter.
- *fixed*: every patient has a place of its own, by its number, whoever else is drawn. Where one
  patient's rows are removed, nobody moves; batches without anybody are left out.

Where everybody is in every step, `all_places` has fixed ones, and no batch is left out, so that
neither time nor shapes depend on who is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from privacy.dpsgd.engine import BLANK
from privacy.dpsgd.substreams import Purpose, Substreams
from privacy.errors import AccountingError


@dataclass(frozen=True)
class Assignment:
    """`batches`: int64 [batches, places], a patient's number in its place, or `BLANK`."""

    batches: NDArray[np.int64]

    def __post_init__(self) -> None:
        found = self.batches[self.batches != BLANK]
        if self.batches.ndim != 2 or len(np.unique(found)) != len(found):
            raise AccountingError("An assignment must give each patient one place.")


Assign: TypeAlias = Callable[[NDArray[np.int64], int, Substreams], Assignment]
"""(drawn patients' numbers, places of a batch, the step's randomness) to their places."""


def packed(drawn: NDArray[np.int64], places: int, streams: Substreams) -> Assignment:
    """As many batches as it takes, in the order of a secret permutation of the drawn patients."""
    order = permuted(drawn, streams)
    # -(-a // b) is a / b rounded up: the last batch is filled with blanks to the public shape.
    batches = np.full((-(-len(drawn) // places), places), BLANK, dtype=np.int64)
    batches.reshape(-1)[: len(order)] = order
    return Assignment(batches)


def fixed(drawn: NDArray[np.int64], places: int, streams: Substreams) -> Assignment:
    """Patient n in batch n // places at place n % places; a batch without anybody is left out."""
    batches = np.full((drawn.max(initial=-1) // places + 1, places), BLANK, dtype=np.int64)
    batches.reshape(-1)[drawn] = drawn
    return Assignment(batches[(batches != BLANK).any(axis=1)])


def all_places(present: NDArray[np.int64], places: int, slots: int) -> Assignment:
    """Patient n < `slots` in batch n // places at place n % places; every batch is there.

    The places of those who are not `present` are blank. Patients with other numbers have none.
    """
    batches = np.full((-(-slots // places), places), BLANK, dtype=np.int64)
    inside = present[present < slots]
    batches.reshape(-1)[inside] = inside
    return Assignment(batches)


def at_most(drawn: NDArray[np.int64], capacity: int, streams: Substreams) -> NDArray[np.int64]:
    """`drawn`, or `capacity` of them: the first ones of a secret permutation.

    The rule looks at nobody's data, and makes the size of a step public. The probability that
    somebody has to be dropped is part of delta.
    """
    return drawn if len(drawn) <= capacity else np.sort(permuted(drawn, streams)[:capacity])


def permuted(drawn: NDArray[np.int64], streams: Substreams) -> NDArray[np.int64]:
    """`drawn` in a uniform order; where one patient is left out, the others keep theirs."""
    # Sorted by a random word of each one's own: with a patient left out, the others' words, and
    # with them their order, stay.
    return drawn[np.argsort(streams.words(Purpose.PLACE, drawn)[:, 0], kind="stable")]
