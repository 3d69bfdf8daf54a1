"""How Flower's own HTTP clients show the operator's key.

Imports nothing of ours: the ServerApp's process takes `privacy` and `server` from its app bundle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import httpx
    from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext

KEY_HEADER: Final = "craftsfl-operator-key"


class ShowsKey:
    """Adds the key to every request of one of Flower's HTTP clients (an interceptor)."""

    def __init__(self, key: str) -> None:
        self._key = key

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Add the header, then go on."""
        context.request.headers[KEY_HEADER] = self._key
        return call_next(context)


def show_key_everywhere(key: str) -> None:
    """Have all clients that this process makes from now on show `key`.

    Flower's ServerApp process makes its client itself and takes no interceptors from outside, so
    their common constructor is replaced.
    """
    from flwr.supercore.protobuf.client import ProtobufClient

    construct = ProtobufClient.__init__

    def construct_with_key(self: ProtobufClient, *where: str, **options: Any) -> None:  # noqa: ANN401 - as theirs
        options["interceptors"] = (*options.get("interceptors", ()), ShowsKey(key))
        construct(self, *where, **options)

    ProtobufClient.__init__ = construct_with_key  # type: ignore[method-assign]
