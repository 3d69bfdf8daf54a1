"""A server that answers as it was told to, or not at all."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

Answer = Callable[[socket.socket], None]


def hang(_: socket.socket) -> None:
    time.sleep(60)


@contextmanager
def listening(answer: Answer) -> Iterator[str]:
    """A server that does `answer` to everybody; yields its address."""

    def talk(link: socket.socket) -> None:
        with closing(link), suppress(OSError):
            answer(link)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=talk, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
