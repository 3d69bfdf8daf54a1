"""Millions of short texts in two arrays.

In a list each text costs about 100 bytes of objects, and every reading process copies them all as
soon as it counts a reference; two arrays stay shared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Texts:
    """An immutable sequence of texts: UTF-8 `content`, and `ends` int64 [n] within it."""

    content: npt.NDArray[np.uint8]
    ends: npt.NDArray[np.int64]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        """Pack `texts`; halves of surrogate pairs, as in odd file names, survive."""
        packed = bytearray()
        ends = []
        for text in texts:
            packed += text.encode("utf-8", "surrogatepass")
            ends.append(len(packed))
        return cls(np.frombuffer(bytes(packed), np.uint8), np.array(ends, np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        start = int(self.ends[index - 1]) if index else 0
        return bytes(self.content[start : self.ends[index]]).decode("utf-8", "surrogatepass")
