"""What agent and trainer say to each other, as bytes: big-endian fields, then numbers or a text.

    kind u8 | length u64 | body, of that length

| kind             | from    | body |
|------------------|---------|------|
| 1 Train          | agent   | number u32, adapter [P] float32, little-endian |
| 2 Stop           | agent   | number u32 |
| 3 SumGradients   | agent   | number u32, step u32, adapter [P] float32, little-endian |
| 16 Phase         | trainer | place in `PHASES` u8, done u32, total u32 |
| 17 Ready         | trainer | the layout, `encode_layout` |
| 18 StepDone      | trainer | number u32, done u32, total u32 |
| 19 TrainedUpdate | trainer | number u32, delta [P] float32, little-endian |
| 20 Failed        | trainer | number u32, text UTF-8 |
| 21 RefusedStart  | trainer | three texts: length u32 and UTF-8 each |
| 22 GradientSum   | trainer | number u32, total [P] int64, little-endian |

`number` counts the trainings of one trainer, of both kinds. No frame holds a key, a patient's data
or how many patients were drawn: within a `Train`, `StepDone` is sent after whole steps only; within
a `SumGradients` it counts physical batches, of which there are as many whoever takes part. A
`GradientSum` is as secret as the data: it has no noise yet. It stays between trainer and agent.
"""

# Why: docs/adr/0033-trainer-process.md

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from model.layout import Layout
from model.layout_text import decode_layout, encode_layout
from privacy.errors import WireError
from privacy.wire.codec import Vector

LOADING_MODEL: Final = "loading"
ENCODING_TILES: Final = "encoding"
PHASES: Final = (LOADING_MODEL, ENCODING_TILES)
MAX_TEXT: Final = 4096  # bytes of a text
FRAME_HEADER: Final = struct.Struct(">BQ")
_NUMBER: Final = struct.Struct(">I")
_COUNTED: Final = struct.Struct(">III")
_PHASE: Final = struct.Struct(">BII")
_AT_STEP: Final = struct.Struct(">II")
_VECTOR: Final = np.dtype("<f4")
_TOTAL: Final = np.dtype("<i8")

FrameBody = bytes | bytearray  # as received: large vectors are not copied


class Frame(Protocol):
    """A frame: `decode(encode())` is the frame, and `decode` raises `WireError` for other bytes."""

    KIND: ClassVar[int]

    def encode(self) -> bytes:
        """The body."""
        ...


@dataclass(frozen=True, slots=True)
class Train:
    """Train once from `adapter`; the answer is an `TrainedUpdate` or a `Failed` of this number."""

    KIND: ClassVar[int] = 1
    number: int
    adapter: Vector = field(repr=False)

    def encode(self) -> bytes:
        """See the table."""
        return _numbered(self.number, self.adapter)

    @classmethod
    def decode(cls, body: FrameBody) -> Self:
        """See the table."""
        return cls(*_numbered_vector(body))


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the training `number` before its next physical batch."""

    KIND: ClassVar[int] = 2
    number: int

    def encode(self) -> bytes:
        """See the table."""
        return _NUMBER.pack(self.number)

    @classmethod
    def decode(cls, body: FrameBody) -> Self:
        """See the table."""
        return cls(*_unpacked(_NUMBER, body))


@dataclass(frozen=True, slots=True)
class SumGradients:
    """Add up the clipped gradients at `adapter`, in the study's step `step`.

    The answer is a `GradientSum` or a `Failed` of this number.
    """

    KIND: ClassVar[int] = 3
    number: int
    step: int
    adapter: Vector = field(repr=False)

    def encode(self) -> bytes:
        """See the table."""
        return _AT_STEP.pack(self.number, self.step) + _bytes_of(self.adapter, _VECTOR)

    @classmethod
    def decode(cls, body: FrameBody) -> Self:
        """See the table."""
        number, step = _unpacked(_AT_STEP, body[: _AT_STEP.size])
        return cls(
            number, step, _vector(body, _AT_STEP.size, _VECTOR).astype(np.float32, copy=False)
        )


@dataclass(frozen=True, slots=True)
class Phase:
    """Before it is ready: what the trainer does, and how many of its units are done."""

    KIND: ClassVar[int] = 16
    name: str
    done: int = 0
    total: int = 0

    def encode(self) -> bytes:
        """See the table."""
        return _PHASE.pack(PHASES.index(self.name), self.done, self.total)

    @classmethod
    def decode(cls, body: FrameBody) -> Self:
        """See the table."""
        place, done, total = _unpacked(_PHASE, body)
        if place >= len(PHASES):
            raise _not_a_frame("an unknown phase")
        return cls(PHASES[place], done, total)


@dataclass(frozen=True, slots=True)
class Ready:
    """The trainer takes trainings; this is what an adapter's numbers mean to it."""

    KIND: ClassVar[int] = 17
    layout: Layout

    def encode(self) -> bytes:
        """See the table."""
        return encode_layout(self.layout)

    @classmethod
    def decode(cls, body: FrameBody) -> Self:
        """See the table."""
        return cls(decode_layout(body))


@dataclass(frozen=True, slots=True)
class StepDone:
    """`done` of `total` steps of the training `number` are over."""

    KIND: ClassVar[int] = 18
    number: int
    done: int
    total: int

    def encode(self) -> bytes:
        """See the table."""
        return _COUNTED.pack(self.number, self.done, self.total)

    @classmethod
    def decode(cls, body: FrameBody) -> Self:
        """See the table."""
        return cls(*_unpacked(_COUNTED, body))


@dataclass(frozen=True, slots=True)
class TrainedUpdate:
    """What the training `number` has changed in its adapter."""

    KIND: ClassVar[int] = 19
    number: int
    delta: Vector = field(repr=False)

    def encode(self) -> bytes:
        """See the table."""
        return _numbered(self.number, self.delta)

    @classmethod
    def decode(cls, body: FrameBody) -> Self:
        """See the table."""
        return cls(*_numbered_vector(body))


@dataclass(frozen=True, slots=True)
class Failed:
    """The training `number` has no update; `text` is what may be said about why."""

    KIND: ClassVar[int] = 20
    number: int
    text: str

    def encode(self) -> bytes:
        """See the table."""
        return _NUMBER.pack(self.number) + _cut(self.text)

    @classmethod
    def decode(cls, body: FrameBody) -> Self:
        """See the table."""
        (number,) = _unpacked(_NUMBER, body[: _NUMBER.size])
        return cls(number, _text(body[_NUMBER.size :]))


@dataclass(frozen=True, slots=True)
class RefusedStart:
    """Something that a person has to change: what a `CraftsflError` says. The trainer ends."""

    KIND: ClassVar[int] = 21
    message: str
    hint: str
    id: str

    def encode(self) -> bytes:
        """See the table."""
        texts = [_cut(text) for text in (self.message, self.hint, self.id)]
        return b"".join(_NUMBER.pack(len(text)) + text for text in texts)

    @classmethod
    def decode(cls, body: FrameBody) -> Self:
        """See the table."""
        texts = []
        for _ in range(3):
            (length,) = _unpacked(_NUMBER, body[: _NUMBER.size])
            text, body = body[_NUMBER.size :][:length], body[_NUMBER.size + length :]
            if len(text) != length:
                raise _not_a_frame("a text that ends early")
            texts.append(_text(text))
        if body:
            raise _not_a_frame("bytes after its end")
        return cls(*texts)


@dataclass(frozen=True, slots=True)
class GradientSum:
    """The sum that was asked for as `number`, int64 [P]. Secret: nothing hides anybody in it."""

    KIND: ClassVar[int] = 22
    number: int
    total: NDArray[np.int64] = field(repr=False)

    def encode(self) -> bytes:
        """See the table."""
        return _NUMBER.pack(self.number) + _bytes_of(self.total, _TOTAL)

    @classmethod
    def decode(cls, body: FrameBody) -> Self:
        """See the table."""
        (number,) = _unpacked(_NUMBER, body[: _NUMBER.size])
        return cls(number, _vector(body, _NUMBER.size, _TOTAL).astype(np.int64, copy=False))


FromAgent = Train | Stop | SumGradients
FromTrainer = Phase | Ready | StepDone | TrainedUpdate | Failed | RefusedStart | GradientSum
FROM_AGENT: Final[Mapping[int, type[FromAgent]]] = {
    kind.KIND: kind for kind in (Train, Stop, SumGradients)
}
FROM_TRAINER: Final[Mapping[int, type[FromTrainer]]] = {
    kind.KIND: kind
    for kind in (Phase, Ready, StepDone, TrainedUpdate, Failed, RefusedStart, GradientSum)
}


def _numbered(number: int, vector: Vector) -> bytes:
    return _NUMBER.pack(number) + _bytes_of(vector, _VECTOR)


def _numbered_vector(body: FrameBody) -> tuple[int, Vector]:
    (number,) = _unpacked(_NUMBER, body[: _NUMBER.size])
    return number, _vector(body, _NUMBER.size, _VECTOR).astype(np.float32, copy=False)


def _bytes_of(vector: NDArray[Any], form: np.dtype[Any]) -> bytes:
    return np.ascontiguousarray(vector, form).tobytes()


def _vector(body: FrameBody, start: int, form: np.dtype[Any]) -> NDArray[Any]:
    if (len(body) - start) % form.itemsize:
        raise _not_a_frame("a vector that ends within a number")
    return np.frombuffer(body, form, offset=start)


def _unpacked(form: struct.Struct, body: FrameBody) -> tuple[int, ...]:
    if len(body) != form.size:
        raise _not_a_frame("a length that is not its kind's")
    return form.unpack(body)


def _cut(text: str) -> bytes:
    return text.encode("utf-8", "replace")[:MAX_TEXT].decode("utf-8", "ignore").encode("utf-8")


def _text(data: FrameBody) -> str:
    if len(data) > MAX_TEXT:
        raise _not_a_frame("a text that is too long")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise _not_a_frame("a text that is not UTF-8") from None


def _not_a_frame(what: str) -> WireError:
    return WireError(f"Between agent and trainer came {what}.")
