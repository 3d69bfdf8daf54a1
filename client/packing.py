"""Envelopes in and out of the contents of Flower's messages, as `privacy.wire.carriage` has it.

The coordinator has the same in `server.messages`: neither side imports the other, and what both
may import, `privacy`, knows nothing of Flower.

Only names that Flower documents are used here. Measured with 200 MB on two cores (Flower 1.41):
deflating a `ConfigRecord` took 18 s and 1.2 GB of memory and resulted in one object of 200 MB,
which has to fit into one HTTP request, whatever a proxy on the way permits; the raw array took
0.7 s and 0.8 GB and resulted in 40 objects, each pushed and retried separately. A NumPy array would
cost more copies.
"""

from __future__ import annotations

import secrets

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from privacy.errors import WireError
from privacy.wire.carriage import (
    ARRAY,
    ARRAY_TYPE,
    ONE_RECORD,
    RECORD,
    SALT,
    SALT_BYTES,
    SALTED_ARRAY_TYPE,
)


def pack(envelope: bytes) -> RecordDict:
    """The Flower content that carries `envelope`; each time with another salt if it is small."""
    if len(envelope) <= ONE_RECORD:
        salt = secrets.token_bytes(SALT_BYTES)
        return RecordDict({RECORD: ConfigRecord({ARRAY: envelope, SALT: salt})})
    array = Array("uint8", (len(envelope),), ARRAY_TYPE, envelope)
    return RecordDict({RECORD: ArrayRecord({ARRAY: array})})


def unpack(content: RecordDict) -> bytes:
    """The envelope in `content`, whichever way it is packed; `WireError` unless there is one."""
    record = content.get(RECORD)
    if len(content) != 1 or record is None or set(record) - {SALT} != {ARRAY}:
        raise WireError("A Flower message carries no envelope.", "Check the server's version.")
    packed = record[ARRAY]
    if isinstance(packed, bytes):
        return packed
    if not isinstance(packed, Array) or packed.stype not in (ARRAY_TYPE, SALTED_ARRAY_TYPE):
        raise WireError("A Flower message has another encoding.", "Check the server's version.")
    return packed.data[SALT_BYTES if packed.stype == SALTED_ARRAY_TYPE else 0 :]
