"""One hostile gateway beside two honest ones: these are answered, and the ServerApp lives."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.small_flower import SmallFlower
from privacy.wire.bodies import Running
from privacy.wire.envelope import Envelope, open_envelope, seal
from server.messages import NODE_UNAVAILABLE, NOT_ACCEPTED, NOT_UNDERSTOOD
from tests.integration.hostile_node import LARGEST, HostileNode

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

# Of the hostile node in each round; None: nothing comes of it.
CODES = {
    "1": NOT_ACCEPTED,
    "2": None,
    "3": NOT_UNDERSTOOD,
    "4": 0,
    "5": None,
    "6": NODE_UNAVAILABLE,
    "7": None,
    "8": None,
}

# Asks all nodes in each round, until all have answered, but for the hostile one in SILENT rounds,
# and for a while after; says for each round what each node answered. The first round is sent
# slowly and part by part, so that a node may be quicker.
SCRIPT = """
import time
from pathlib import Path
import numpy as np
from privacy.wire.bodies import Hello, StartTraining
from privacy.wire.envelope import Envelope
from server.carrier import CarriedGrid
from server.messages import Exchange, FlowerFailure, Request

carried = CarriedGrid(grid)
exchange = Exchange(carried)
while len(exchange.nodes()) < 3:
    time.sleep(0.1)
nodes = exchange.nodes()
client, push = grid._runtime_client, grid._runtime_client.PushObject

def push_slowly(request):
    time.sleep(0.2)
    return push(request)

for number in range(1, 9):
    client.PushObject = push_slowly if number == 1 else push
    carried._enclosing.taken = False if number == 1 else None  # as with an unmodified SuperLink
    envelope = Envelope(1, number, 1, Hello(bytes(32), 1))
    if number >= 7:  # large ones share their parts with the other nodes' and the next round's
        body = StartTraining(bytes(32), bytes(32), np.zeros(150_000, np.float32))
        envelope = Envelope(1, 7, 1, body)
    while number == 7 and len(exchange.nodes()) < 3:  # the hostile one had gone away
        time.sleep(0.05)
    if number == 8:
        while not Path(DONE).exists():
            time.sleep(0.05)
    silent = {HOSTILE} if number in SILENT else set()
    missing, answers, end = set(nodes) - silent, {}, time.monotonic() + 30
    exchange.send([Request(node, envelope) for node in nodes])
    sent = time.monotonic()
    while missing and time.monotonic() < end or time.monotonic() - sent < WAIT:
        for reply in exchange.receive():
            code = reply.answer.code if isinstance(reply.answer, FlowerFailure) else 0
            answers[reply.request.node] = code
            missing.discard(reply.request.node)
        time.sleep(0.02)
    said[str(number)] = {str(node): code for node, code in answers.items()}
"""


def answer(data: bytes) -> bytes:
    """Echo a small message; to a large one, a small answer."""
    if len(data) < LARGEST // 4:
        return data
    asked = open_envelope(data, limit=LARGEST)
    return seal(Envelope(asked.run, asked.round, asked.attempt, Running()))


def test_a_hostile_gateway_costs_nobody_else_an_answer(tmp_path: Path) -> None:
    with SmallFlower(tmp_path) as flower:
        honest = []
        for name in ("north", "south"):
            site = flower.site(name)
            honest.append(str(flower.register(site)))
            flower.start_agent(site, answer)
            flower.start_gateway(site)
        hostile = HostileNode(flower, "hostile", tmp_path / "done")
        try:
            names = f"HOSTILE, DONE, WAIT = {hostile.node}, {str(tmp_path / 'done')!r}, 0.6\n"
            names += f"SILENT = {[int(n) for n, code in CODES.items() if code is None]}\n"
            said = flower.run(names + SCRIPT, 90)
        finally:
            hostile.stop()
    answers = {number: dict(found) for number, found in said.items()}  # type: ignore[call-overload]
    codes = {number: found.pop(str(hostile.node), None) for number, found in answers.items()}
    assert answers == {str(number): dict.fromkeys(honest, 0) for number in range(1, 9)}
    assert codes == CODES, hostile.acts
