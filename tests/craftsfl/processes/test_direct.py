"""What is answered without Flower's layers is what Flower's app answers; both are Flower's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flwr.proto.fleet_pb2 import PullMessagesRequest, PullMessagesResponse, PushMessagesResponse
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    PullObjectRequest,
    PullObjectResponse,
)
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import (
    PullAppMessagesRequest,
    PullAppMessagesResponse,
    PushAppMessagesResponse,
)
from sqlalchemy.event import listens_for
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware

from craftsfl.processes.flower.direct import direct_calls
from privacy.wire.enclosed import enclose, enclosed_in, wish_enclosed
from tests.craftsfl.processes.flower_app import FlowerApp, small_record

FLEET = "/v1/fleet/"
RUNTIME = "/v1/runtime/"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlowerApp]:
    with pytest.MonkeyPatch.context() as patch:
        yield FlowerApp(tmp_path_factory.mktemp("flower"), patch)


def refused(app: FlowerApp, path: str) -> dict[str, tuple[bytes, dict[str, str]]]:
    """Requests that are answered alike however often they are sent."""
    mine, other = app.signed(0), app.signed(1)
    body = bytes(PullMessagesRequest(node=Node(node_id=app.nodes[0])).SerializeToString())
    late = {**mine, "flwr-timestamp": "2020-01-01T00:00:00+00:00"}
    return {
        "nobody's": (body, {}),
        "another node's": (body, other),
        "old": (body, late),
        "no protobuf": (b"\xff\xff", {**mine, **app.token}),
        "another type": (body, {**mine, **app.token, "content-type": "text/plain"}),
        "another version": (body, {**app.token, "flwr-package-name": "x"}),
        "a token that is none": (body, {"flwr-task-token": "x"}),
        "empty": (b"", {**mine, **app.token}),
    }


def test_refusals_are_flowers_own(app: FlowerApp) -> None:
    seen = set()
    assert len(app.calls) == 12
    for path in app.calls:
        for what, (body, headers) in refused(app, path).items():
            answers = [app.ask(path, body, headers, direct=way) for way in (True, False)]
            assert answers[0] == answers[1], (path, what)
            seen.add(answers[0].status)
    assert {401, 415} < seen


def test_a_message_there_and_back_is_the_same_either_way(app: FlowerApp) -> None:
    found = []
    for direct in (True, False):
        (name, _), (back, _) = small_record(), small_record()
        pushed = app.ask(
            f"{RUNTIME}push-messages",
            app.to_node(name).SerializeToString(),
            app.token,
            direct=direct,
        )
        wanted = PushAppMessagesResponse.FromString(pushed.body)
        looked = app.ask(
            f"{FLEET}pull-messages",
            app.look().SerializeToString(),
            app.signed(),
            direct=direct,
        )
        announced = PullMessagesResponse.FromString(looked.body)
        answered = app.ask(
            f"{FLEET}push-messages",
            app.reply(back, name).SerializeToString(),
            app.signed(),
            direct=direct,
        )
        taken = PushMessagesResponse.FromString(answered.body)
        found.append(
            [
                (pushed.status, pushed.kind, list(wanted.objects_to_push) == [name]),
                (
                    looked.status,
                    looked.kind,
                    announced.messages_list[0].metadata.message_id == name,
                ),
                (answered.status, answered.kind, list(taken.objects_to_push) == [back]),
            ]
        )
    assert found[0] == found[1]
    assert found[0] == [(200, "application/protobuf", True)] * 3


def test_contents_travel_with_announcements_both_ways(app: FlowerApp) -> None:
    (name, content), (back, returned) = small_record(), small_record()
    push = enclose(app.to_node(name, 1), {name: content})
    said = app.ask(f"{RUNTIME}push-messages", push.SerializeToString(), app.token)
    assert not PushAppMessagesResponse.FromString(said.body).objects_to_push
    look = wish_enclosed(app.look(1))
    said = app.ask(f"{FLEET}pull-messages", look.SerializeToString(), app.signed(1))
    announced = PullMessagesResponse.FromString(said.body)
    assert announced.messages_list[0].metadata.message_id == name
    assert enclosed_in(announced) == {name: content}
    reply = enclose(app.reply(back, name, 1), {back: returned})
    said = app.ask(f"{FLEET}push-messages", reply.SerializeToString(), app.signed(1))
    assert not PushMessagesResponse.FromString(said.body).objects_to_push
    look_for_replies = wish_enclosed(PullAppMessagesRequest(message_ids=[name]))
    said = app.ask(f"{RUNTIME}pull-messages", look_for_replies.SerializeToString(), app.token)
    assert enclosed_in(PullAppMessagesResponse.FromString(said.body)) == {back: returned}


def test_an_ordinary_message_asks_sqlalchemy_nothing(app: FlowerApp) -> None:
    asked: list[str] = []
    for engine in (app.state._engine, app.state.object_store._engine):
        listens_for(engine, "before_cursor_execute")(lambda *one: asked.append(one[2]))
    (name, content), (back, returned) = small_record(), small_record()
    push = enclose(app.to_node(name), {name: content})
    reply = enclose(app.reply(back, name), {back: returned})
    confirmed = ConfirmMessageReceivedRequest(
        node=Node(node_id=app.nodes[0]), run_id=app.run, message_object_id=name
    )
    for path, body, headers in (
        ("/v1/runtime/push-messages", push, app.token),
        ("/v1/fleet/pull-messages", wish_enclosed(app.look()), app.signed()),
        ("/v1/fleet/push-messages", reply, app.signed()),
        ("/v1/runtime/pull-messages", PullAppMessagesRequest(message_ids=[name]), app.token),
        ("/v1/fleet/confirm-message-received", confirmed, app.signed()),
        ("/v1/fleet/send-node-heartbeat", app.heartbeat(), app.signed()),
        ("/v1/fleet/pull-messages", app.look(), app.signed()),
    ):
        assert app.ask(path, body.SerializeToString(), headers).status == 200
    assert asked == []


def test_flowers_app_takes_no_notice_of_enclosed_contents(app: FlowerApp) -> None:
    name, content = small_record()
    push = enclose(app.to_node(name, 1), {name: content}).SerializeToString()
    said = app.ask(f"{RUNTIME}push-messages", push, app.token, direct=False)
    assert list(PushAppMessagesResponse.FromString(said.body).objects_to_push) == [name]
    look = wish_enclosed(app.look(1)).SerializeToString()
    said = app.ask(f"{FLEET}pull-messages", look, app.signed(1), direct=False)
    announced = PullMessagesResponse.FromString(said.body)
    assert len(announced.messages_list) == 1
    assert enclosed_in(announced) == {}


def test_contents_that_are_not_what_their_name_says_are_not_stored(app: FlowerApp) -> None:
    """And one that nobody announced is not even looked at."""
    (name, content), (other, _) = small_record(), small_record()
    push = enclose(app.to_node(name), {name: content + b"x", other: b"x"}).SerializeToString()
    said = app.ask(f"{RUNTIME}push-messages", push, app.token)
    assert list(PushAppMessagesResponse.FromString(said.body).objects_to_push) == [name]
    question = PullObjectRequest(node=Node(node_id=1), run_id=app.run, object_id=name)
    said = app.ask(f"{RUNTIME}pull-object", question.SerializeToString(), app.token)
    assert not PullObjectResponse.FromString(said.body).object_available


def test_an_app_with_other_layers_answers_itself(app: FlowerApp) -> None:
    known = app.plain.user_middleware
    try:
        app.plain.user_middleware = [Middleware(GZipMiddleware), *known]
        assert direct_calls(app.plain) == {}
        app.plain.user_middleware = known
        app.plain.state.fleet_event_log_plugin = object()
        assert direct_calls(app.plain) == {}
    finally:
        app.plain.user_middleware = known
        app.plain.state.fleet_event_log_plugin = None
