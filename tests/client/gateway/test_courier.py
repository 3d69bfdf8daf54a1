"""The courier's orders of events, with a SuperLink and an agent that do what the test says."""

from __future__ import annotations

import pytest
from flwr.proto.fleet_pb2 import PullMessagesResponse

from client.forwarder import AtTheSocket, Forwarded
from client.gateway.fleet import PulledMessage
from client.gateway.memory import Remembered
from client.gateway.pace import Pace
from client.gateway.trouble import Trouble
from privacy.errors import WireError
from privacy.wire.bodies import Refusal
from privacy.wire.envelope import Envelope, open_envelope, refuse, seal
from privacy.wire.reasons import Reason, RefusedMessage
from tests.client.gateway.fakes import ANSWER, REQUEST, Clock, FakeLink, FakeMemory, World

LONG = 900.0  # seconds


def pulled(group: str = "2;look=0.25", run: int = 3) -> PulledMessage:
    announced = PullMessagesResponse()
    announced.messages_list.add().metadata.group_id = group
    announced.messages_list[0].metadata.run_id = run
    announced.message_object_trees.add().object_id = "0" * 64
    return PulledMessage(announced)


def reason(reply: bytes) -> Reason:
    body = open_envelope(reply, limit=1000).body
    assert isinstance(body, Refusal)
    return body.reason


def test_a_message_goes_there_and_back_and_the_next_look_is_at_once() -> None:
    world = World(FakeLink(messages=[pulled(), pulled()]))
    world.run(1)
    assert world.link.replies == [ANSWER, ANSWER]
    once = ["fetch", "prepare", "push"]
    assert world.link.done == ["activate", *(["beat", "pull", *once] * 2), "beat", "pull"]
    assert world.clock.slept == [0.25]  # as the message wished


def test_what_was_answered_is_confirmed_when_there_is_time() -> None:
    """The look after an answer, and the other sites' answers, come first."""
    world = World(FakeLink(messages=[pulled(), pulled()]))
    world.run(2)
    assert world.link.done[-4:] == ["beat", "pull", "confirm", "confirm"]
    world = World(FakeLink({"confirm": [Trouble.RUN_ENDED]}, [pulled(), pulled()]))
    world.run(3)
    assert world.link.done.count("activate") == 1  # a run that has ended is no trouble
    assert world.link.done.count("confirm") == 2


def test_looks_become_rarer_the_longer_nothing_comes() -> None:
    world = World(FakeLink(messages=[pulled("2;look=0.1")]))
    world.run(1000)
    waits = world.clock.slept
    assert waits[:90] == [0.1] * 90
    assert waits == sorted(waits)
    assert waits[-1] == 3.0
    half_a_second = next(index for index, wait in enumerate(waits) if wait > 0.5)
    assert sum(waits[:half_a_second]) == pytest.approx(50, abs=1)


@pytest.mark.parametrize(
    "wish, followed",
    [
        ("2;look=0.001", 0.2),
        ("2;look=0.3", 0.3),
        ("2;look=60", 0.9),
        *((group, 0.9) for group in ("", "2", "2;look=", "2;look=x", "2;look=nan", "2;look=-1")),
        ("2;look=inf", 0.9),
        ("2;look=" + "9" * 500, 0.9),
    ],
)
def test_the_site_bounds_what_the_coordinator_wishes(wish: str, followed: float) -> None:
    world = World(FakeLink(messages=[pulled(wish)]), pace=Pace(0.2, 0.9))
    world.run(1)
    assert world.clock.slept == [followed]


def test_a_superlink_that_is_slow_is_asked_less() -> None:
    pace = Pace(0.1, 3.0)
    assert [pace.wait(0.0, 0.1, took) for took in (0.01, 0.5, 30.0)] == [0.1, 0.5, 3.0]


def test_only_a_look_that_was_held_for_a_while_is_followed_by_another_at_once() -> None:
    pace = Pace(0.1, 3.0)
    waits = [pace.wait(1000.0, 2.0, took, held=True) for took in (0.01, 0.49, 0.5, 3.0)]
    assert waits == [3.0, 3.0, 0.1, 0.1]
    assert pace.wait(1000.0, 2.0, 3.0) == 3.0


def test_a_held_look_is_followed_at_once_although_an_answer_is_confirmed_between() -> None:
    """Else every step of a study would wait for one more hold, with its vector ready."""
    clock = Clock()
    link = FakeLink(messages=[pulled()], clock=clock, holds=3.0)
    World(link, clock=clock).run(4)
    assert "confirm" in link.done
    assert clock.slept == [0.1] * 4


@pytest.mark.parametrize("silent", [Reason.AGENT_UNREACHABLE, Reason.AGENT_SILENT])
def test_a_silent_agent_is_answered_for(silent: Reason) -> None:
    answer = refuse(REQUEST, silent)
    world = World(
        FakeLink(messages=[pulled()]),
        forward=lambda request: Forwarded(answer, silent),
        knock=lambda: AtTheSocket.NO_LISTENER,
    )
    lines = world.run()
    assert world.link.replies == [answer]
    assert any("nobody listens on /run/agent.sock" in line for line in lines)


@pytest.mark.parametrize(
    "error, wanted",
    [
        (WireError("random bytes"), Reason.MALFORMED),
        (RefusedMessage(Reason.TOO_LARGE, "100 MB"), Reason.TOO_LARGE),
    ],
)
def test_what_cannot_be_carried_is_refused_and_told(error: WireError, wanted: Reason) -> None:
    world = World(FakeLink(messages=[pulled()], contents=error))
    lines = world.run()
    assert [reason(reply) for reply in world.link.replies] == [wanted]
    assert len([line for line in lines if "coordinator sent" in line]) == 1


def test_an_answer_outlives_a_link_that_fails() -> None:
    """The agent is asked once; its answer is sent until it arrives."""
    asked: list[bytes] = []

    def forward(request: bytes) -> Forwarded:
        asked.append(request)
        return Forwarded(ANSWER)

    failing: list[Trouble | None] = [Trouble.NO_SUPERLINK] * 6
    world = World(FakeLink({"push": failing}, [pulled()]), forward=forward)
    lines = world.run(10)
    assert asked == [REQUEST]
    assert world.link.replies == [ANSWER]
    told = [line for line in lines if "SuperLink" in line or "Connected" in line]
    assert [line.split()[0] for line in told] == ["Connected", "No", "Connected"]


def test_a_message_whose_fetch_fails_is_fetched_again() -> None:
    world = World(FakeLink({"fetch": [Trouble.NO_ANSWER]}, [pulled()]))
    world.run()
    assert world.link.done.count("pull") == 5
    assert world.link.replies == [ANSWER]


def test_an_answer_that_nobody_waits_for_any_more_is_dropped() -> None:
    world = World(FakeLink({"push": [Trouble.RUN_ENDED]}, [pulled()]))
    lines = world.run()
    assert world.link.replies == []
    assert not any("unexpected" in line for line in lines)
    world = World(FakeLink({"push": [Trouble.NO_SUPERLINK] * 500}, [pulled()]))
    world.run(400)
    assert world.clock.now > LONG
    assert world.link.done.count("pull") > 1


@pytest.mark.parametrize("trouble", [Trouble.UNEXPECTED, Trouble.TOO_LARGE])
def test_what_will_not_get_better_is_not_tried_for_ever(trouble: Trouble) -> None:
    world = World(FakeLink({"push": [trouble] * 100}, [pulled()]))
    world.run(20)
    assert world.link.done.count("push") == 3


def test_a_gateway_that_was_killed_goes_on_as_the_same_node_with_the_message_it_carried() -> None:
    carried = pulled(run=9)
    memory = FakeMemory(Remembered(5, carried.encode()))
    world = World(FakeLink({"activate": [Trouble.NOT_ADMITTED]}), memory)
    lines = world.run(1)
    assert world.link.done[:5] == ["activate", "resume", "fetch", "prepare", "push"]
    assert world.link.replies == [ANSWER]
    assert memory.remembered == Remembered(5)
    assert lines[0] == "Connected to coordinator:443 as node 5."


def test_what_it_carries_is_remembered_while_it_does() -> None:
    message = pulled()
    world = World(FakeLink(messages=[message]))
    world.run(1)
    assert world.memory.history == [Remembered(5), Remembered(5, message.encode()), Remembered(5)]


def test_a_full_disk_keeps_no_message_back_and_is_told_until_it_has_room_again() -> None:
    world = World(FakeLink(messages=[pulled(), pulled()]))
    world.memory.full = [True, True, True, False]
    lines = world.run(2)
    assert world.link.replies == [ANSWER, ANSWER]
    told = [line for line in lines if "home" in line]
    assert len(told) == 2
    assert "cannot be written to home" in told[0]
    assert "(No space left on device). It goes on; if it is killed now" in told[0]
    assert told[1] == "home in site.toml can be written again."


def test_a_carried_message_of_another_node_is_not_carried_on() -> None:
    memory = FakeMemory(Remembered(4, pulled().encode()))
    world = World(FakeLink(), memory)
    world.run(1)
    assert "fetch" not in world.link.done
    assert memory.remembered == Remembered(5)


def test_damaged_memory_is_no_message() -> None:
    world = World(FakeLink(), FakeMemory(Remembered(5, b"\xff\xff")))
    world.run(1)
    assert world.link.replies == []


def test_without_memory_it_waits_until_flower_admits_it() -> None:
    world = World(FakeLink({"activate": [Trouble.NOT_ADMITTED] * 14}))
    lines = world.run(30)
    assert "resume" not in world.link.done
    assert lines[0].startswith("The SuperLink does not admit this gateway yet: its key is not")
    later = next(line for line in lines if "still does not admit" in line)
    assert "send supernode.pub to the operator" in later
    assert "another gateway or SuperNode runs with the same key" in later
    assert lines[-1].startswith("Connected")
    assert max(world.clock.slept) <= 8.0


def test_a_key_that_was_taken_off_the_register_is_activated_once_it_is_back() -> None:
    steps: dict[str, list[Trouble | None]] = {
        "pull": [Trouble.KEY_UNKNOWN],
        "resume": [Trouble.KEY_UNKNOWN],
        "activate": [None, Trouble.NOT_ADMITTED],
    }
    world = World(FakeLink(steps, registered_as=5))
    lines = world.run(6)
    assert world.link.done[:6] == ["activate", "beat", "pull", "resume", "activate", "resume"]
    assert any("does not know this gateway's key any more" in line for line in lines)
    assert lines[-1].startswith("Connected")


def test_a_superlink_that_is_away_for_long_is_told_once_in_ten_minutes() -> None:
    world = World(FakeLink({"activate": [Trouble.NO_SUPERLINK] * 10_000}))
    lines = world.run(200)
    away = [line for line in lines if line.startswith("No SuperLink at coordinator:443")]
    assert len(away) == 1 + int(world.clock.now // 600)


def test_a_refusal_of_the_agents_is_told_once_and_again_when_it_is_news() -> None:
    refusal = seal(Envelope(7, 2, 1, Refusal(Reason.WRONG_STUDY)))
    answers = [refusal, refusal, ANSWER, refusal]
    world = World(
        FakeLink(messages=[pulled() for _ in answers]),
        forward=lambda request: Forwarded(answers.pop(0)),
    )
    told = [line for line in world.run(1) if "another study" in line]
    assert len(told) == 2
