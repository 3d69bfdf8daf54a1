"""How the SuperLink's connections are served: bounded headers, and nobody holds one for nothing."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

# Longer than the slowest polling, so that a hospital's connection stays.
IDLE_SECONDS: Final = 75.0
FIRST_SECONDS: Final = 15.0


class BoundedConnection(H11Protocol):
    """uvicorn's connection that reads at most 16 KiB of headers, closed when no request comes.

    A request counts as come when all of its headers are there: uvicorn itself would wait for the
    first, or for the rest of one, for ever.
    """

    _give_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - as in uvicorn
        """Wait for the first request."""
        super().connection_made(transport)
        self._await_request(FIRST_SECONDS)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._await_request(IDLE_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        if self._give_up is not None:
            self._give_up.cancel()
        super().connection_lost(exc)

    def _await_request(self, seconds: float) -> None:
        if self._give_up is not None:
            self._give_up.cancel()
        self._give_up = self.loop.call_later(seconds, self._close_unless_after, self.cycle)

    def _close_unless_after(self, cycle: object) -> None:
        if self.cycle is cycle and not self.transport.is_closing():
            self.transport.close()
