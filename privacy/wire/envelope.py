"""Envelopes: the run, round and attempt that a body belongs to; opened strictly.

Guarantees of `open_envelope`, each with a test: nothing over the limit is parsed; what was opened
seals to the very same bytes, so unknown fields, repeated fields, non-minimal varints and a
different order are refused; so are another version, an unknown kind and a body that its own
`decode` refuses. A refused envelope changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from privacy.wire import envelope_pb2
from privacy.wire.bodies import BODIES, Body, Refusal
from privacy.wire.closing import CLOSING_BODIES
from privacy.wire.codec import malformed
from privacy.wire.log import LOG_BODIES
from privacy.wire.reasons import Reason, RefusedMessage
from privacy.wire.sealed import SEALED_BODIES
from privacy.wire.secagg import SECAGG_BODIES
from privacy.wire.signing import SIGNING_BODIES

_KINDS = {
    **BODIES,
    **SIGNING_BODIES,
    **SECAGG_BODIES,
    **SEALED_BODIES,
    **CLOSING_BODIES,
    **LOG_BODIES,
}

VERSION = 3  # 1 had no node in Hello, 2 no roster; run was Flower's id
OVERHEAD = 1024  # bytes: more than all fields of an envelope and its body but the vector


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message. `run` (u64) is the number of a run of the study, and counts from 1, as do round
    and attempt (u32).
    """

    run: int
    round: int
    attempt: int
    body: Body


def size_limit(parameters: int) -> int:
    """The most bytes that any envelope of a study with P = `parameters` may have."""
    return 4 * parameters + OVERHEAD


def seal(envelope: Envelope) -> bytes:
    """The one byte string of `envelope`; raises `RefusedMessage` for values out of range."""
    try:
        message = envelope_pb2.Envelope(
            version=VERSION,
            run=envelope.run,
            round=envelope.round,
            attempt=envelope.attempt,
            kind=envelope.body.KIND,
            body=envelope.body.encode(),
        )
    except (ValueError, TypeError):  # protobuf's errors for an integer out of range
        raise malformed("Run, round or attempt is out of its range.") from None
    return message.SerializeToString(deterministic=True)


def open_envelope(data: bytes, *, limit: int) -> Envelope:
    """The envelope whose bytes are `data`; `limit` (bytes) comes from `size_limit`.

    Raises `RefusedMessage`, whose `reason` (TOO_LARGE, OTHER_VERSION, MALFORMED or UNKNOWN_KIND)
    is the answer to the sender.
    """
    if len(data) > limit:
        raise RefusedMessage(
            Reason.TOO_LARGE, f"A message has {len(data)} bytes; at most {limit} are allowed."
        )
    message = _parse(data)
    if message.version == 0:
        raise malformed("A message has no version.")
    if message.version != VERSION:
        raise RefusedMessage(
            Reason.OTHER_VERSION, f"A message has version {message.version} instead of {VERSION}."
        )
    if message.kind not in _KINDS:
        raise RefusedMessage(Reason.UNKNOWN_KIND, f"A message is of unknown kind {message.kind}.")
    body = _KINDS[message.kind].decode(message.body)
    envelope = Envelope(message.run, message.round, message.attempt, body)
    if seal(envelope) != data:
        raise malformed("A message is not in its canonical form.")
    return envelope


def refuse(request: bytes, reason: Reason) -> bytes:
    """The sealed refusal of `request`, with its run, round and attempt where they can be read."""
    try:
        message = _parse(request)
    except RefusedMessage:
        message = envelope_pb2.Envelope()
    return seal(Envelope(message.run, message.round, message.attempt, Refusal(reason)))


def kind_of(data: bytes) -> int:
    """The kind that a message claims to be of, before anything is checked; 0 where none is said."""
    try:
        return int(_parse(data).kind)
    except RefusedMessage:
        return 0


def attempt_of(data: bytes) -> tuple[int, int, int]:
    """The (run, round, attempt) that a message claims, before anything is checked; or zeros."""
    try:
        message = _parse(data)
    except RefusedMessage:
        return 0, 0, 0
    return int(message.run), int(message.round), int(message.attempt)


def _parse(data: bytes) -> envelope_pb2.Envelope:
    try:
        return envelope_pb2.Envelope.FromString(data)
    except DecodeError:
        raise malformed("A message is not an envelope.") from None
