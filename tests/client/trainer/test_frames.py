"""The bytes between agent and trainer, field by field, and bytes that are refused."""

from __future__ import annotations

import socket

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.trainer.channel import Channel
from client.trainer.frames import (
    FRAME_HEADER,
    FROM_AGENT,
    FROM_TRAINER,
    MAX_TEXT,
    Failed,
    Frame,
    FromAgent,
    FromTrainer,
    GradientSum,
    Phase,
    Ready,
    RefusedStart,
    StepDone,
    Stop,
    SumGradients,
    Train,
    TrainedUpdate,
)
from model.layout import Layout, LayoutEntry
from model.layout_text import decode_layout, encode_layout
from privacy.errors import WireError

LAYOUT = Layout(
    (LayoutEntry("a.lora_A.weight", (2, 3), "float32"),), (LayoutEntry("b", (4,), "float32"),)
)
KNOWN: list[tuple[FromAgent | FromTrainer, str]] = [
    (
        Train(7, np.array([1.0, -2.0], np.float32)),
        "00000007"  # number
        "0000803f 000000c0",  # 1.0 and -2.0, little-endian
    ),
    (Stop(7), "00000007"),
    (
        SumGradients(7, 39, np.array([1.0, -2.0], np.float32)),
        "00000007"  # number
        "00000027"  # step
        "0000803f 000000c0",  # 1.0 and -2.0, little-endian
    ),
    (Phase("encoding", 2, 300), "01 00000002 0000012c"),  # place in PHASES, done, total
    (StepDone(7, 3, 4), "00000007 00000003 00000004"),
    (TrainedUpdate(7, np.array([0.5], np.float32)), "00000007 0000003f"),
    (
        GradientSum(7, np.array([1, -(2**40)])),
        "00000007"  # number
        "0100000000000000 0000000000ffffff",  # 1 and -2^40, little-endian
    ),
    (Failed(7, "é"), "00000007 c3a9"),
    (RefusedStart("a", "", "bc"), "00000001 61 00000000 00000002 6263"),
]


@pytest.mark.parametrize(("frame", "body"), KNOWN)
def test_known_bytes(frame: FromAgent | FromTrainer, body: str) -> None:
    data = bytes.fromhex(body)
    assert frame.encode() == data
    again = type(frame).decode(data)
    assert again.encode() == data
    assert type(frame).decode(bytearray(data)).encode() == data


def test_a_layout_crosses_whole() -> None:
    assert Ready.decode(Ready(LAYOUT).encode()) == Ready(LAYOUT)
    assert decode_layout(encode_layout(LAYOUT)).fingerprint() == LAYOUT.fingerprint()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Train, b"\0\0\0"),
        (Train, b"\0\0\0\7" + b"\0" * 5),
        (Stop, b"\0\0\0\7\0"),
        (Phase, b"\2" + bytes(8)),
        (StepDone, bytes(11)),
        (TrainedUpdate, b""),
        (SumGradients, b"\0\0\0\7\0\0\0"),
        (SumGradients, b"\0\0\0\7\0\0\0\1" + b"\0" * 6),
        (GradientSum, b"\0\0\0"),
        (GradientSum, b"\0\0\0\7" + b"\0" * 12),
        (Failed, b"\0\0\0\7\xff"),
        (Failed, b"\0\0\0\7" + b"x" * (MAX_TEXT + 1)),
        (RefusedStart, bytes(11)),
        (RefusedStart, bytes(13)),
        (RefusedStart, b"\0\0\0\x09x" + bytes(8)),
        (Ready, b""),
        (Ready, b"[]"),
        (Ready, b'{"entries":[["a",[true],"float32"]],"frozen":[]}'),
        (Ready, b'{"entries":[["a",[0],"float32"]],"frozen":[]}'),
        (Ready, b'{"entries":[["a",[1],"float64"]],"frozen":[]}'),
        (Ready, b'{"entries":[],"frozen":[]} '),
        (Ready, b"[" * 100_000),
    ],
)
def test_other_bytes_are_refused(kind: type[FromAgent] | type[FromTrainer], body: bytes) -> None:
    with pytest.raises(WireError):
        kind.decode(body)


@given(st.binary(max_size=64), st.sampled_from([*FROM_AGENT.values(), *FROM_TRAINER.values()]))
def test_any_bytes_are_a_frame_or_refused(
    body: bytes, kind: type[FromAgent] | type[FromTrainer]
) -> None:
    try:
        frame = kind.decode(body)
    except WireError:
        return
    assert frame.encode() == body


def test_long_texts_are_cut_between_characters() -> None:
    frame = Failed(1, "é" * MAX_TEXT)
    assert Failed.decode(frame.encode()).text == "é" * (MAX_TEXT // 2)


def pair(limit: int = 1000) -> tuple[Channel[FromTrainer], Channel[FromAgent], socket.socket]:
    ours, its = socket.socketpair()
    return Channel(ours, FROM_TRAINER, limit), Channel(its, FROM_AGENT, limit), its


def test_frames_arrive_in_order_until_the_end() -> None:
    agent, trainer, _ = pair()
    sent: list[Frame] = [Phase("loading"), StepDone(1, 1, 4), Failed(1, "x")]
    for frame in sent:
        trainer.send(frame)
    assert [agent.receive() for _ in sent] == sent
    trainer.close()
    assert agent.receive() is None
    with pytest.raises(OSError):
        agent.send(Stop(1))


@pytest.mark.parametrize(
    "header",
    [
        FRAME_HEADER.pack(StepDone.KIND, 1001),
        FRAME_HEADER.pack(Train.KIND, 4),
        FRAME_HEADER.pack(99, 0),
        b"\xff" * 9,
    ],
)
def test_nothing_is_taken_of_another_kind_or_length(header: bytes) -> None:
    """Nor is memory set aside for the length that a header claims."""
    agent, _, its = pair()
    its.sendall(header)
    with pytest.raises(WireError):
        agent.receive()


@pytest.mark.parametrize("part", [b"", b"\x12\0", FRAME_HEADER.pack(StepDone.KIND, 12) + b"abc"])
def test_a_frame_that_ends_early_is_the_end(part: bytes) -> None:
    agent, trainer, its = pair()
    its.sendall(part)
    trainer.close()
    assert agent.receive() is None
