"""The requests that make up a message, answered by Flower's handlers without what is around them.

Flower answers each request behind eight middlewares, in one of 40 threads, which all want the one
writer of its database. For the few requests of which a message consists, the same checks and the
same handler are called here one after the other, in one thread, the coordinator's before the
hospitals'. What is answered is what Flower answers; every other request goes to its app. Contents
that are enclosed (`privacy.wire.enclosed`) are stored, and fetched, by the handlers that would
otherwise have been asked for them, in requests of their own.

Guarantees, each with a test on a real SuperLink: status, body and what is stored are the app's for
requests that are signed or not, well-formed or not.
"""

# Why: docs/adr/0068-a-hundred-sites.md

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from craftsfl.processes.flower.contents import EnclosedContents
from craftsfl.processes.flower.turns import Turns

if TYPE_CHECKING:
    from fastapi import FastAPI, Request
    from flwr.server.superlink.linkstate import LinkState
    from google.protobuf.message import Message

    from craftsfl.processes.flower.gate import App, Receive, Scope, Send

    Handler = Callable[[Request, Message], Message]

OPERATORS, HOSPITALS, WHEN_QUIET = 0, 1, 2  # urgency

# What Flower's app does with a request: if a version does anything else, it does it itself.
KNOWN_LAYERS: Final = (
    "ControlSensitiveResponseMiddleware",
    "BaseHTTPMiddleware",
    "ControlAuthenticationMiddleware",
    "ControlLicenseMiddleware",
    "ProtobufTranslationMiddleware",
    "ControlEventLogMiddleware",
    "NodeAuthMiddleware",
    "FleetEventLogMiddleware",
)
_TRACING: Final = "RuntimeTracingMiddleware"  # of 1.41; it does nothing unless it is switched on
_FLEET: Final = {
    "pull-messages": "pull_messages",
    "pull-object": "pull_object",
    "push-messages": "push_messages",
    "push-object": "push_object",
    "confirm-message-received": "confirm_message_received",
    "send-node-heartbeat": "send_node_heartbeat",
}
_OBJECTS: Final = ("push_object", "pull_object")
_WITH_STORE: Final = frozenset({"pull_messages", "confirm_message_received"})
_RUNTIME: Final = {
    "pull-messages": "pull_messages",
    "pull-object": "pull_object",
    "push-messages": "push_messages",
    "push-object": "push_object",
    "confirm-message-received": "confirm_message_received",
    "get-nodes": "get_nodes",
}
# Looking for replies costs most while there are many: not before the hospitals that send them.
_URGENCY: Final = {"confirm_message_received": WHEN_QUIET, "pull_messages": HOSPITALS}


@dataclass(frozen=True, slots=True)
class DirectCall:
    """One kind of request: the class of its message, its urgency, and what answers it."""

    request: type[Message]
    urgency: int
    answer: Handler


class DirectCalls:
    """An ASGI app around Flower's."""

    def __init__(self, app: App, calls: Mapping[str, DirectCall]) -> None:
        """`calls` by path; `app` answers all else."""
        self._app, self._calls = app, calls
        self._turns = Turns()
        self._thread = ThreadPoolExecutor(1, "direct")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the app answer."""
        call = self._calls.get(scope["path"]) if scope["type"] == "http" else None
        if call is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
        else:
            await self._answer(call, scope, receive, send)

    async def _answer(self, call: DirectCall, scope: Scope, receive: Receive, send: Send) -> None:
        from fastapi import Request
        from fastapi.responses import Response
        from flwr.supercore.error import http_error_translator
        from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
        from flwr.supercore.protobuf.translation import ProtobufTranslationMiddleware as Translation
        from starlette.requests import ClientDisconnect

        request = Request(scope, receive)
        try:
            body = await request.body()
        except ClientDisconnect:
            return

        async def answered(request: Request) -> Response:
            Translation._check_request_media_type(request)
            message = Translation._parse_request(body, call.request)
            request.state.protobuf_request = message
            async with self._turns.turn(call.urgency):
                loop = asyncio.get_running_loop()
                answer = await loop.run_in_executor(self._thread, call.answer, request, message)
            return Response(content=answer.SerializeToString(), media_type=PROTOBUF_MEDIA_TYPE)

        response = await http_error_translator(request, answered)
        await response(scope, receive, send)


def direct_calls(flower: FastAPI) -> dict[str, DirectCall]:
    """What of `flower` is answered directly, by path; nothing where it is not as it is known."""
    import os

    names = (getattr(layer.cls, "__name__", "") for layer in flower.user_middleware)
    layers = tuple(name for name in names if name != _TRACING)
    plain = getattr(flower.state, "fleet_event_log_plugin", None) is None
    if layers != KNOWN_LAYERS or not plain or os.getenv("FLWR_TRACING_ENABLED") == "1":
        return {}
    from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES

    from craftsfl.processes.flower.plain_state import plain_state

    state = plain_state(flower.state.linkstate_factory.state())
    found: dict[str, DirectCall] = {}
    for words, name in _FLEET.items():
        path = f"/v1/fleet/{words}"
        request = PROTOBUF_REQUEST_TYPES["POST", path]
        urgency = max(HOSPITALS, _URGENCY.get(name, HOSPITALS))
        found[path] = DirectCall(request, urgency, _fleet_handler(name, state))
    for words, name in _RUNTIME.items():
        path = f"/v1/runtime/{words}"
        request = PROTOBUF_REQUEST_TYPES["POST", path]
        urgency = _URGENCY.get(name, OPERATORS)
        handlers = flower.state.runtime_handlers
        found[path] = DirectCall(request, urgency, _runtime_handler(name, state, handlers))
    return found


def _fleet_handler(name: str, state: LinkState) -> Handler:
    from flwr.superlink.routers.fleet.node_auth import authenticate_node
    from flwr.superlink.servicer.fleet import fleet_handlers

    handler: Callable[..., Message] = getattr(fleet_handlers, name)
    contents = EnclosedContents(*(getattr(fleet_handlers, which) for which in _OBJECTS))
    more: dict[str, Any] = {"store": state.object_store} if name in _WITH_STORE else {}
    # All that Flower's check of a signature wants of its app.
    app = SimpleNamespace(
        state=SimpleNamespace(linkstate_factory=SimpleNamespace(state=lambda: state))
    )

    def answer(request: Request, message: Message) -> Message:
        request.scope["app"] = app
        authenticate_node(request)
        return contents.moved(message, handler(message, state, **more), (state,))

    return answer


def _runtime_handler(name: str, state: LinkState, handlers: object) -> Handler:
    from flwr.supercore.constant import TASK_TOKEN_HEADER
    from flwr.supercore.dependencies.task import authenticate_task
    from flwr.supercore.dependencies.version import VersionDependency

    handler: Callable[..., Message] = getattr(handlers, name)
    contents = EnclosedContents(*(getattr(handlers, which) for which in _OBJECTS))
    versions = VersionDependency(
        component_name="SuperLink", connection_name="Caller <-> SuperLink Runtime API"
    )

    def answer(request: Request, message: Message) -> Message:
        versions(request)
        task = authenticate_task(request, request.headers.get(TASK_TOKEN_HEADER), state)
        return contents.moved(message, handler(message, state, task), (state, task))

    return answer
