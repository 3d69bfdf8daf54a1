"""How an envelope crosses the agent's socket: cut into chunks, reassembled within a limit."""

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
    """All bytes of `chunks`, or None as soon as they exceed `limit`.

    gRPC may end a broken stream as if it were complete. That is harmless: a truncated envelope is
    never a valid one.
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
