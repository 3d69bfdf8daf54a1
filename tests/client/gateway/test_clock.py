"""How far this machine's clock is off, from the dates of answers that may take their time."""

from __future__ import annotations

import email.utils
import time

import httpx
import pytest
from flwr.proto.fleet_pb2 import PullMessagesRequest
from flwr.supercore.protobuf.client import ProtobufRequestContext

from client.gateway import fleet


@pytest.mark.parametrize("offset", [0.0, 600.0, -400.0, 6.0])
@pytest.mark.parametrize("slow", [0.0, 8.0])
def test_a_slow_answer_is_no_clock_that_is_off(
    monkeypatch: pytest.MonkeyPatch, offset: float, slow: float
) -> None:
    began = time.time()
    ours = [began, began + slow]
    monkeypatch.setattr(fleet.time, "time", lambda: ours.pop(0) if len(ours) > 1 else ours[0])
    theirs = email.utils.formatdate(began + slow / 2 - offset, usegmt=True)
    request = httpx.Request("POST", "https://localhost/v1/fleet/pull-messages")
    observer = fleet._Observer()
    observer.intercept(
        ProtobufRequestContext("Pull", PullMessagesRequest(), request),
        lambda context: httpx.Response(200, headers={"date": theirs}, request=request),
    )
    assert observer.ahead == pytest.approx(offset, abs=1.0)
    assert abs(observer.ahead - offset) <= observer.doubt + 0.01
    if offset == 0:
        assert observer.ahead - observer.doubt <= 0.01
