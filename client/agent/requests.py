"""What was asked of the agent and what it answered: one signed, chained line for each, at the site.

Guarantees, each tested:

- A record holds numbers and words of closed sets alone: kinds, reasons, run, round, attempt, time.
  So nothing of a patient, a caption, a file or an adapter can get into it.
- Each record holds the hash of the one before it and is signed by the ledger's key, so a changed,
  removed or reordered line shows. Each names the ledger's newest record too: a log whose end was
  cut off lacks requests for attempts that the ledger has charged.
- What is repeated with the same answer is recorded once, and of refusals no more than
  `MOST_REFUSALS` in `REFUSAL_SECONDS`: nobody can fill the disk. What was left out is counted in
  the next record.
- Where nothing can be written the agent answers as ever, says so once, and counts what is missing.

Made so that another log can take the records later: an `AskedRequest` is the content of one.
"""

# Why: docs/adr/0058-the-hospitals-desk.md

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.files import open_to_append, read_private
from privacy.identity import verify
from privacy.wire.bodies import Body, Kind, Refusal
from privacy.wire.envelope import attempt_of, kind_of, open_envelope
from privacy.wire.reasons import RefusedMessage
from privacy.wire.secagg import SecAggRefusal

MOST_REFUSALS: Final = 30
REFUSAL_SECONDS: Final = 600.0
LARGEST_LOG: Final = 1 << 28  # bytes that are read
START: Final = hashlib.sha256(b"craftsfl/requests/v1\0").hexdigest()  # before the first record
_TAG: Final = b"craftsfl/requests/record/v1\0"
_LARGEST_ANSWER: Final = 4096  # bytes of an answer that may be a refusal
_REMEMBERED: Final = 4096  # requests whose answers are known, so that repetitions are not recorded

_log = logging.getLogger("craftsfl.agent")


@dataclass(frozen=True, slots=True)
class AskedRequest:
    """One request and its answer. `kind` and `answer` are names of `Kind`, or "" for neither.

    `reason` is the name of the reason of a refusal, "" for anything else. `time` in seconds since
    1970. `omitted`: how many requests before this one were not recorded. `ledger`: the number of
    the ledger's newest record.
    """

    kind: str
    run: int
    round: int
    attempt: int
    answer: str
    reason: str
    time: float
    ledger: int
    omitted: int = 0


@dataclass(frozen=True, slots=True)
class Recorded:
    """A record of the log: its number, from 0, and its hash, in hex."""

    number: int
    hash: str
    request: AskedRequest


@dataclass(frozen=True, slots=True)
class RequestsRead:
    """What a log holds. `torn` lines were cut off by a crash; `fault` says what is wrong, or ""."""

    records: tuple[Recorded, ...]
    torn: int = 0
    fault: str = ""


Answering = Callable[[bytes], bytes]


class RequestLog:
    """Appends to the log in the file `path`, signing with `key`; `record` is for several threads.

    `ledger` returns the number of the ledger's newest record, `clock` seconds since 1970.
    """

    def __init__(
        self,
        path: Path,
        key: Ed25519PrivateKey,
        ledger: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self._path, self._key, self._ledger, self._clock = path, key, ledger, clock
        self._lock = threading.Lock()
        self._answered: dict[tuple[str, int, int, int], tuple[str, str]] = {}
        self._refused: deque[float] = deque(maxlen=MOST_REFUSALS)
        self._omitted = 0
        self._failed = False
        last = self._last()
        self._number, self._previous = (last.number + 1, last.hash) if last else (0, START)

    def noting(self, handler: Answering) -> Answering:
        """`handler`, whose answers are recorded; it never fails because of that."""

        def noted(data: bytes) -> bytes:
            answer = handler(data)
            self.record(data, answer)
            return answer

        return noted

    def record(self, data: bytes, answer: bytes) -> None:
        """Note that the message `data` was answered with the message `answer`."""
        key = (_name(kind_of(data)), *attempt_of(data))
        spoken = _spoken(answer)
        with self._lock:
            if self._answered.get(key) == spoken:
                return
            if len(self._answered) >= _REMEMBERED:
                self._answered.clear()
            self._answered[key] = spoken
            now = self._clock()
            if spoken[1] and not self._may_refuse(now):
                self._omitted += 1
                return
            self._append(AskedRequest(*key, *spoken, now, self._ledger(), self._omitted))

    def _may_refuse(self, now: float) -> bool:
        if len(self._refused) == MOST_REFUSALS and now - self._refused[0] < REFUSAL_SECONDS:
            return False
        self._refused.append(now)
        return True

    def _append(self, request: AskedRequest) -> None:
        text = _body(self._number, self._previous, request)
        digest = hashlib.sha256(text).digest()
        line = {"body": text.decode("ascii"), "signature": self._key.sign(_TAG + digest).hex()}
        try:
            file = open_to_append(self._path)
            try:
                _write_all(file, json.dumps(line).encode("ascii") + b"\n")
            finally:
                os.close(file)
        except OSError as error:
            self._omitted += 1
            if not self._failed:
                self._failed = True
                _log.warning(
                    "Requests cannot be recorded in %s: %s. The agent goes on; free some space.",
                    *(self._path, error.strerror),
                )
            return
        self._failed, self._omitted = False, 0
        self._number, self._previous = self._number + 1, digest.hex()

    def _last(self) -> Recorded | None:
        """The newest record; a line that a crash has cut off is ended."""
        try:
            data = read_private(self._path, LARGEST_LOG)
        except OSError:
            return None
        if data and not data.endswith(b"\n"):
            self._end_line()
        for line in reversed(data.split(b"\n")):
            if found := _parsed(line):
                return found[0]
        return None

    def _end_line(self) -> None:
        try:
            file = open_to_append(self._path)
            try:
                _write_all(file, b"\n")
            finally:
                os.close(file)
        except OSError:
            return  # so says the first record that cannot be written


def read_requests(path: Path, public: bytes) -> RequestsRead:
    """The log's records, as far as they are sound; `public` is the ledger's key. Raises `OSError`.

    A missing file is an empty log.
    """
    try:
        data = read_private(path, LARGEST_LOG)
    except FileNotFoundError:
        return RequestsRead(())
    records: list[Recorded] = []
    previous, torn = START, 0
    for place, line in enumerate(filter(None, data.split(b"\n")), start=1):
        found = _parsed(line)
        if found is None:
            torn += 1
            continue
        record, before, signature = found
        if (record.number, before) != (len(records), previous):
            fault = f"Line {place} does not follow from the line before it."
            return RequestsRead(tuple(records), torn, fault)
        if not verify(public, signature, _TAG + bytes.fromhex(record.hash)):
            fault = f"Line {place} is not signed by this site's ledger key."
            return RequestsRead(tuple(records), torn, fault)
        records.append(record)
        previous = record.hash
    return RequestsRead(tuple(records), torn)


def _body(number: int, previous: str, request: AskedRequest) -> bytes:
    values = {"number": number, "previous": previous, **asdict(request)}
    return json.dumps(values, separators=(",", ":")).encode("ascii")


def _parsed(line: bytes) -> tuple[Recorded, str, bytes] | None:
    """The record of a line, the hash that it follows, its signature; None for no whole line."""
    try:
        found = json.loads(line)
        text = found["body"].encode("ascii")
        values = json.loads(text)
        number, previous = int(values.pop("number")), str(values.pop("previous"))
        request = AskedRequest(**values)
        record = Recorded(number, hashlib.sha256(text).hexdigest(), request)
        return record, previous, bytes.fromhex(found["signature"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _spoken(answer: bytes) -> tuple[str, str]:
    """The answer's kind, and the reason if it is a refusal."""
    if len(answer) > _LARGEST_ANSWER:
        return _name(kind_of(answer)), ""
    try:
        body = open_envelope(answer, limit=_LARGEST_ANSWER).body
    except RefusedMessage:
        return "", ""
    return body.KIND.name, _reason_of(body)


def _reason_of(body: Body) -> str:
    if isinstance(body, Refusal):
        return body.reason.name
    return body.check.name if isinstance(body, SecAggRefusal) else ""


def _name(kind: int) -> str:
    return Kind(kind).name if kind in Kind._value2member_map_ else ""


def _write_all(file: int, data: bytes) -> None:
    """One write, so that a line is there whole or, on a full disk, cut off."""
    if os.write(file, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
