"""A real SuperLink behind the gate, and requests to it, byte by byte."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from craftsfl.processes.flower.commands import SuperLink
from craftsfl.processes.flower.control import answers
from craftsfl.processes.flower.credentials import make_authority, make_secret
from craftsfl.processes.supervisor import Supervisor, claim_port, wait_until


@dataclass(frozen=True)
class Answer:
    status: int
    text: str

    @property
    def is_the_gates(self) -> bool:
        return "Only the operator of this SuperLink may do this." in self.text


@contextmanager
def running_superlink(
    folder: Path, host: str = "127.0.0.1"
) -> Iterator[tuple[SuperLink, Supervisor]]:
    """A SuperLink that answers its operator."""
    tls = make_authority(folder / "tls")
    port = claim_port(host, None)
    secret = make_secret(folder / "superexec.secret")
    link = SuperLink(host, port, folder / "link", tls, secret)
    link.prepare()
    with Supervisor() as supervisor:
        supervisor.start(link.superlink(folder / "link" / "logs" / "superlink.log"))
        wait_until(lambda: answers(link), what="The SuperLink", supervisor=supervisor, timeout=60.0)
        yield link, supervisor


def ask(
    port: int,
    target: str,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "POST",
    body: bytes = b"",
    more: str = "",
) -> Answer:
    """Send a request as it is written here; `more`: further header lines."""
    given = {
        "Host": f"127.0.0.1:{port}",
        "Content-Type": "application/protobuf",
        "Content-Length": str(len(body)),
        **(headers or {}),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value is not None)
    return send(port, f"{method} {target} HTTP/1.1\r\n{lines}{more}\r\n".encode("latin-1") + body)


def send(port: int, request: bytes, patience: float = 10) -> Answer:
    """What comes back for these bytes, within seconds; status 0: nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # a stranger has no CA
    plain = socket.create_connection(("127.0.0.1", port), timeout=patience)
    with context.wrap_socket(plain, server_hostname="localhost") as connection:
        data = b""
        with contextlib.suppress(OSError):  # it may hang up before it has read all
            connection.sendall(request)
        while b"\r\n\r\n" not in data or not _complete(data):
            try:
                piece = connection.recv(65536)
            except OSError:
                break
            if not piece:
                break
            data += piece
    head, _, text = data.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1] if head.startswith(b"HTTP/1.") else b"0"
    return Answer(int(status), text.decode("utf-8", "replace"))


def _complete(data: bytes) -> bool:
    head, _, text = data.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(text) >= int(line.partition(b":")[2])
    return False
