from __future__ import annotations

import io
import logging
import sys
import threading
import warnings

import pytest

from client.agent.boundary import (
    Failure,
    configure_logs,
    contained,
    describe,
    silence_libraries,
)
from privacy.errors import DataError, LedgerError

SILENT = "an error whose words may name a patient"


def failing(error: BaseException) -> None:
    raise error


HERE = f"test_boundary.py:{failing.__code__.co_firstlineno + 1}"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("canary"), f"{SILENT} (ValueError at {HERE})"),
        (DataError("canary", "canary"), f"{SILENT} (DataError at {HERE})"),
        (LedgerError("Full."), f"Full. (LedgerError at {HERE})"),
        (OSError(28, "Disk full", "canary"), f"Disk full (OSError at {HERE})"),
    ],
)
def test_only_texts_of_our_own_errors_are_told(error: Exception, text: str) -> None:
    assert contained(lambda: failing(error)) == Failure(text)


def test_results_and_interrupts_pass() -> None:
    assert contained(lambda: 3) == 3
    with pytest.raises(KeyboardInterrupt):
        contained(lambda: failing(KeyboardInterrupt()))


def test_an_error_that_was_never_raised_has_no_place() -> None:
    assert describe(ValueError("canary")) == Failure(f"{SILENT} (ValueError)")


def test_libraries_lose_their_handlers(caplog: pytest.LogCaptureFixture) -> None:
    stream = io.StringIO()
    logging.getLogger("talkative").addHandler(logging.StreamHandler(stream))
    silence_libraries(["talkative"])
    logging.getLogger("talkative.part").error("canary")
    assert stream.getvalue() == caplog.text == ""


class _Full(io.StringIO):
    """Standard error on a disk without space."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_log_on_a_full_disk_shows_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    own, root = logging.getLogger("craftsfl"), logging.getLogger()
    for logger, name in ((own, "handlers"), (own, "level"), (own, "propagate"), (root, "handlers")):
        monkeypatch.setattr(logger, name, getattr(logger, name))
    for module in (sys, threading):
        monkeypatch.setattr(module, "excepthook", module.excepthook)
    monkeypatch.setattr(logging, "raiseExceptions", True)
    monkeypatch.setattr(sys, "stderr", _Full())
    with warnings.catch_warnings():
        configure_logs()
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    own.error("canary")
    assert shown.getvalue() == ""
