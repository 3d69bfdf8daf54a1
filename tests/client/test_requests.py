"""The log of requests: what it holds, what it leaves out, and that changes to it show."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.agent.requests import MOST_REFUSALS, RequestLog, RequestsRead, read_requests
from privacy.ledger.key import public_bytes
from privacy.wire.bodies import Body, Refusal, RunOver
from privacy.wire.checks import Check
from privacy.wire.envelope import refuse
from privacy.wire.reasons import Reason
from privacy.wire.secagg import SecAggRefusal

from .fakes import hello, message

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
GREETING = message(hello(), round=0, attempt=0)
OVER = message(RunOver())


class Time:
    now = 1.8e9

    def __call__(self) -> float:
        return self.now


def log_of(path: Path, time: Time | None = None) -> RequestLog:
    return RequestLog(path, KEY, lambda: 5, time or Time())


def read(path: Path) -> RequestsRead:
    return read_requests(path, public_bytes(KEY))


def test_a_request_and_its_answer_are_recorded_and_signed(tmp_path: Path) -> None:
    path = tmp_path / "requests.log"
    log = log_of(path)
    handler = log.noting(lambda data: refuse(data, Reason.PAUSED))
    assert handler(GREETING) == refuse(GREETING, Reason.PAUSED)
    log.record(OVER, message(RunOver()))
    log.record(OVER, message(SecAggRefusal(Check.EXPIRED, 2)))
    found = read(path)
    assert (found.fault, found.torn) == ("", 0)
    told = [(r.request.kind, r.request.answer, r.request.reason) for r in found.records]
    assert told == [
        ("HELLO", "REFUSAL", "PAUSED"),
        ("RUN_OVER", "RUN_OVER", ""),
        ("RUN_OVER", "SECAGG_REFUSAL", "EXPIRED"),
    ]
    first = found.records[0].request
    assert (first.run, first.round, first.attempt, first.ledger) == (7, 0, 0, 5)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("data", [b"", b"\xff" * 40, b"canary-patient-1" * 9])
def test_bytes_that_are_no_message_leave_no_trace_of_themselves(
    tmp_path: Path, data: bytes
) -> None:
    path = tmp_path / "requests.log"
    log_of(path).record(data, data)
    assert "canary" not in path.read_text()
    request = read(path).records[0].request
    assert (request.kind, request.answer, request.reason) == ("", "", "")


def test_repetitions_are_recorded_once_and_another_answer_again(tmp_path: Path) -> None:
    path = tmp_path / "requests.log"
    log = log_of(path)
    for _ in range(5):
        log.record(OVER, message(Refusal(Reason.NOT_READY)))
    log.record(OVER, message(RunOver()))
    assert len(read(path).records) == 2


def test_nobody_can_fill_the_disk_with_refusals(tmp_path: Path) -> None:
    path, time = tmp_path / "requests.log", Time()
    log = log_of(path, time)
    for number in range(10 * MOST_REFUSALS):
        log.record(message(RunOver(), round=number), message(Refusal(Reason.POLICY)))
    assert len(read(path).records) == MOST_REFUSALS
    log.record(message(RunOver(), round=99), message(RunOver()))  # what was granted is recorded
    assert read(path).records[-1].request.omitted == 9 * MOST_REFUSALS
    time.now += 601
    log.record(message(RunOver(), round=9999), message(Refusal(Reason.POLICY)))
    assert len(read(path).records) == MOST_REFUSALS + 2


def filled(path: Path) -> list[str]:
    log = log_of(path)
    for number in range(4):
        log.record(message(RunOver(), round=number), message(RunOver()))
    return path.read_text().splitlines()


def other_key(lines: list[str]) -> list[str]:
    line = json.loads(lines[2])
    stranger = Ed25519PrivateKey.generate()
    line["signature"] = stranger.sign(b"anything").hex()
    return [*lines[:2], json.dumps(line), lines[3]]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda lines: [lines[0], *lines[2:]], "Line 2 does not follow"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "Line 1 does not follow"),
        (lambda lines: [*lines, lines[-1]], "Line 5 does not follow"),
        (lambda lines: [lines[0], lines[1].replace("round\\\":1", "round\\\":9"), *lines[2:]],
         "Line 2 is not signed"),
        (other_key, "Line 3 is not signed"),
    ],
)  # fmt: skip
def test_a_changed_log_is_noticed(
    tmp_path: Path, change: Callable[[list[str]], list[str]], fault: str
) -> None:
    path = tmp_path / "requests.log"
    lines = filled(path)
    assert read(path).fault == ""
    changed = change(lines)
    assert changed != lines
    path.write_text("\n".join(changed) + "\n")
    assert fault in read(path).fault


def test_a_line_that_a_crash_cut_off_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "requests.log"
    lines = filled(path)
    path.write_text("\n".join(lines)[:-30])
    log_of(path).record(OVER, message(RunOver()))
    found = read(path)
    assert (len(found.records), found.torn, found.fault) == (4, 1, "")


def test_a_log_goes_on_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "requests.log"
    filled(path)
    log_of(path).record(OVER, message(RunOver()))
    found = read(path)
    assert [record.number for record in found.records] == [0, 1, 2, 3, 4]
    assert found.fault == ""


def test_a_full_disk_costs_the_record_and_not_the_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "away" / "requests.log"
    log = log_of(path)
    answers: list[Body | bytes] = [log.noting(lambda data: data)(OVER)]
    log.record(GREETING, OVER)
    assert answers == [OVER]
    assert caplog.text.count("Requests cannot be recorded") == 1
    path.parent.mkdir()
    log.record(message(RunOver(), round=3), OVER)
    assert read(path).records[0].request.omitted == 2


def test_a_missing_log_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path / "requests.log") == RequestsRead(())
