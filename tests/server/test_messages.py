from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from client.packing import pack as site_pack
from client.packing import unpack as site_unpack
from privacy.errors import DeploymentError, WireError
from privacy.wire.bodies import Body, Hello, Refusal, Running, StartTraining
from privacy.wire.carriage import look_in, takes_one
from privacy.wire.envelope import Envelope, open_envelope, seal
from privacy.wire.offer import TrainMasked
from privacy.wire.reasons import Reason
from server.inprocess import Drop, Duplicate, Fail, FaultHook, InProcessGrid
from server.messages import (
    LOOKS_A_SECOND,
    NOT_ACCEPTED,
    NOT_UNDERSTOOD,
    SLOWEST_LOOK,
    Exchange,
    FlowerFailure,
    Request,
    look_for,
    pack_envelope,
    unpack_envelope,
)
from tests.privacy.secagg.messages import OFFER, START

RUN = 2**64 - 1
HELLO = Envelope(RUN, 0, 0, Hello(bytes(32)))


def answering(body: Body, limit: int = 10_000) -> Callable[[bytes], bytes]:
    return lambda data: seal(replace(open_envelope(data, limit=limit), body=body))


def exchange(
    handler: Callable[[bytes], bytes], faults: FaultHook | None = None
) -> tuple[Exchange, InProcessGrid]:
    grid = InProcessGrid({5: handler}, run_id=RUN, faults=faults)
    return Exchange(grid), grid


def test_server_and_site_pack_alike() -> None:
    assert site_unpack(pack_envelope(b"abc")) == b"abc"
    assert unpack_envelope(site_pack(b"abc")) == b"abc"


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"envelope": ConfigRecord({"bytes": "x"})}),
        RecordDict({"envelope": ConfigRecord({"bytes": b"x", "more": 1})}),
        RecordDict({"envelope": ArrayRecord([np.zeros(1)])}),
        RecordDict({**pack_envelope(b"x"), "more": ConfigRecord({})}),
    ],
)
def test_other_contents_are_refused(content: RecordDict) -> None:
    with pytest.raises(WireError):
        unpack_envelope(content)


def test_an_answer_comes_back_with_its_request() -> None:
    wire, _ = exchange(answering(Running()))
    request = Request(5, Envelope(RUN, 3, 1, Hello(bytes(32))))
    wire.send([request])
    (reply,) = wire.receive()
    assert reply.request == request
    assert reply.answer == Running()
    assert wire.receive() == []


def test_flower_sees_the_type_of_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    wire, grid = exchange(answering(Running()))
    types: list[str] = []
    push = grid.push_messages

    def spy(messages: list[object]) -> object:
        types.extend(message.metadata.message_type for message in messages)  # type: ignore[attr-defined]
        return push(messages)  # type: ignore[arg-type]

    monkeypatch.setattr(grid, "push_messages", spy)
    train = TrainMasked(OFFER, START)
    wire.send([Request(5, HELLO), Request(5, Envelope(RUN, 1, 1, train))])
    assert types == ["query.craftsfl", "train.craftsfl"]


def test_a_message_that_is_refused_is_sent_once_more_and_costs_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under other names, by itself: a node may have had the first ones refused."""
    nodes = dict.fromkeys((5, 6, 7), answering(Running()))
    grid = InProcessGrid(nodes, run_id=RUN)
    wire, push, pushed = Exchange(grid), grid.push_messages, []

    def refuse(messages: list[Message]) -> list[str]:
        pushed.append({message.metadata.dst_node_id: message.object_id for message in messages})
        taken = {5} if len(pushed) == 1 else {7}
        return [
            next(iter(push([message]))) if message.metadata.dst_node_id in taken else ""
            for message in messages
        ]

    monkeypatch.setattr(grid, "push_messages", refuse)
    wire.send([Request(node, HELLO) for node in nodes])
    answers = {reply.request.node: reply.answer for reply in wire.receive()}
    assert answers == {5: Running(), 6: FlowerFailure(NOT_ACCEPTED), 7: Running()}
    assert [list(one) for one in pushed] == [[5, 6, 7], [6], [7]]
    assert pushed[0][6] != pushed[1][6]


@pytest.mark.parametrize(
    "sites, seconds", [(0, 0.1), (3, 0.1), (6, 0.1), (30, 0.5), (150, 2.5), (10_000, 3.0)]
)
def test_many_sites_are_asked_to_look_less_often(sites: int, seconds: float) -> None:
    assert look_for(sites) == seconds
    assert sites / seconds <= LOOKS_A_SECOND or seconds == SLOWEST_LOOK


def test_each_message_says_how_often_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    wire, grid = exchange(answering(Running()))
    groups: list[str] = []
    push = grid.push_messages

    def spy(messages: list[object]) -> object:
        groups.extend(message.metadata.group_id for message in messages)  # type: ignore[attr-defined]
        return push(messages)  # type: ignore[arg-type]

    monkeypatch.setattr(grid, "push_messages", spy)
    wire.send([Request(node, Envelope(RUN, 3, 1, Hello(bytes(32)))) for node in range(1, 41)])
    wire.send([Request(1, Envelope(RUN, 3, 1, Hello(bytes(32))))])
    assert set(groups) == {"3;one;look=0.667"}
    assert look_in(groups[0]) == 0.667
    assert takes_one(groups[0])


class Pushes(InProcessGrid):
    """Counts the messages of each push; refuses pushes of more than `most`, as a proxy does."""

    most = 1000

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        batch = list(messages)
        self.sizes = [*getattr(self, "sizes", []), len(batch)]
        return super().push_messages(batch) if len(batch) <= self.most else []


def test_small_messages_are_pushed_together_and_large_ones_alone() -> None:
    grid = Pushes({node: answering(Running(), limit=1 << 20) for node in range(1, 131)}, run_id=RUN)
    wire = Exchange(grid)
    wire.send([Request(node, Envelope(RUN, 3, 1, Hello(bytes(32)))) for node in range(1, 121)])
    assert grid.sizes == [50, 50, 20]
    assert {reply.request.node for reply in wire.receive()} == set(range(1, 121))
    large = StartTraining(bytes(32), bytes(32), np.zeros(150_000, np.float32))
    wire.send([Request(node, Envelope(RUN, 4, 1, large)) for node in (1, 2, 3)])
    assert grid.sizes[3:] == [1, 1, 1]


def test_a_push_that_is_not_accepted_fails_each_of_its_messages() -> None:
    grid = Pushes({5: answering(Running())}, run_id=RUN)
    grid.most = 0
    wire = Exchange(grid)
    wire.send([Request(5, Envelope(RUN, n, 1, Hello(bytes(32)))) for n in (1, 2)])
    assert [reply.answer for reply in wire.receive()] == [FlowerFailure(NOT_ACCEPTED)] * 2
    grid.most = 1  # too large together
    wire.send([Request(5, Envelope(RUN, n, 1, Hello(bytes(32)))) for n in (3, 4)])
    assert [reply.answer for reply in wire.receive()] == [Running()] * 2


def test_an_error_of_the_superlink_belongs_to_the_node_that_was_asked() -> None:
    wire, _ = exchange(answering(Running()), lambda node, number, data: Fail())
    wire.send([Request(5, HELLO)])
    (reply,) = wire.receive()
    assert reply.request.node == 5
    assert isinstance(reply.answer, FlowerFailure)
    assert reply.answer.final
    assert reply.answer.explain() == "its SuperNode is gone"


def test_a_node_that_left_answers_like_a_dead_one() -> None:
    wire, _ = exchange(answering(Running()))
    wire.send([Request(6, HELLO)])
    assert [reply.answer for reply in wire.receive()] == [FlowerFailure(5)]


def test_a_duplicate_is_seen_once_and_a_lost_reply_never() -> None:
    wire, _ = exchange(answering(Running()), lambda node, number, data: Duplicate())
    wire.send([Request(5, HELLO)])
    assert len(wire.receive()) == 1
    assert wire.receive() == []
    wire, _ = exchange(answering(Running()), lambda node, number, data: Drop())
    wire.send([Request(5, HELLO)])
    assert wire.receive() == []


def test_an_answer_of_another_round_is_not_understood() -> None:
    other = seal(Envelope(RUN, 9, 1, Running()))
    wire, _ = exchange(lambda data: other)
    wire.send([Request(5, Envelope(RUN, 8, 1, Hello(bytes(32))))])
    assert [reply.answer for reply in wire.receive()] == [FlowerFailure(NOT_UNDERSTOOD)]


def test_a_refusal_may_come_without_its_round() -> None:
    refusal = seal(Envelope(0, 0, 0, Refusal(Reason.MALFORMED)))
    wire, _ = exchange(lambda data: refusal)
    wire.send([Request(5, Envelope(RUN, 8, 1, Hello(bytes(32))))])
    assert [reply.answer for reply in wire.receive()] == [Refusal(Reason.MALFORMED)]


def test_an_answer_over_the_limit_is_not_understood() -> None:
    wire, _ = exchange(lambda data: bytes(2000))
    wire.send([Request(5, HELLO)])
    assert [reply.answer for reply in wire.receive()] == [FlowerFailure(NOT_UNDERSTOOD)]


def test_unknown_codes_have_words_too() -> None:
    assert FlowerFailure(99).explain() == "Flower reports error 99"
    assert not FlowerFailure(99).final


def test_the_grid_does_not_wait() -> None:
    _, grid = exchange(answering(Running()))
    with pytest.raises(DeploymentError):
        grid.send_and_receive([])
    assert list(grid.get_node_ids()) == [5]
    assert grid.run.run_id == RUN
