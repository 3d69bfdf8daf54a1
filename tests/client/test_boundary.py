from __future__ import annotations

import io
import logging

import pytest

from client.agent.boundary import Failure, contained, describe, silence_libraries
from privacy.errors import DataError, LedgerError


def failing(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("canary"), "ValueError at test_boundary.py:13"),
        (DataError("canary", "canary"), "DataError at test_boundary.py:13"),
        (LedgerError("Full."), "LedgerError at test_boundary.py:13: Full."),
        (OSError(28, "Disk full", "canary"), "OSError at test_boundary.py:13: Disk full"),
    ],
)
def test_only_texts_of_our_own_errors_are_told(error: Exception, text: str) -> None:
    assert contained(lambda: failing(error)) == Failure(text)


def test_results_and_interrupts_pass() -> None:
    assert contained(lambda: 3) == 3
    with pytest.raises(KeyboardInterrupt):
        contained(lambda: failing(KeyboardInterrupt()))


def test_an_error_that_was_never_raised_has_no_place() -> None:
    assert describe(ValueError("canary")) == Failure("ValueError")


def test_libraries_lose_their_handlers(caplog: pytest.LogCaptureFixture) -> None:
    stream = io.StringIO()
    logging.getLogger("talkative").addHandler(logging.StreamHandler(stream))
    silence_libraries(["talkative"])
    logging.getLogger("talkative.part").error("canary")
    assert stream.getvalue() == caplog.text == ""
