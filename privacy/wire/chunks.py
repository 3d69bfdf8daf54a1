"""How an envelope crosses the agent's socket: cut into chunks, put together within a limit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

from privacy.wire.agent_pb2 import Chunk

CHUNK_BYTES = 1 << 20
MAX_CHUNK_MESSAGE = CHUNK_BYTES + 64  # a full chunk with protobuf's framing


def split(data: bytes) -> Iterator[Chunk]:
    """`data` in chunks of at most `CHUNK_BYTES`."""
    for start in range(0, len(data), CHUNK_BYTES):
        yield Chunk(data=data[start : start + CHUNK_BYTES])


def gather(chunks: Iterable[Chunk], limit: int) -> bytes | None:
    """All bytes of `chunks`, or None as soon as they are more than `limit`.

    gRPC may end a stream that breaks off as if it were complete. That is harmless: no envelope
    that is cut short is an envelope.
    """
    parts: list[bytes] = []
    total = 0
    for chunk in chunks:
        total += len(chunk.data)
        if total > limit:
            return None
        if chunk.data:  # a stream of empty chunks must not fill the list
            parts.append(chunk.data)
    return b"".join(parts)


def target(socket: Path) -> str:
    """The gRPC address of a Unix socket, whatever characters its path has."""
    return "unix:" + quote(str(socket.absolute()))
