"""A real gateway, shut in, and a coordinator whose SuperLink answers anything at all.

The answers are worse than wrong: they point elsewhere, or are such as no server gives. The gateway
goes on asking, tells its desk, and connects to nobody else.
"""

from __future__ import annotations

import gzip
import http.server
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from craftsfl.processes.flower.credentials import make_authority, make_supernode_key

ANSWERS = {
    "elsewhere": (307, {"Location": "https://127.0.0.1:{other}/v1/fleet/activate-node"}, b""),
    "without encryption": (302, {"Location": "http://localhost:{other}/"}, b""),
    "to another name": (308, {"Location": "https://archive.hospital.example/"}, b""),
    "a date of no calendar": (200, {"Date": "Mon, 01 Jan 99999999999999 00:00:00 GMT"}, b"\xff"),
    "a zone without end": (401, {"Date": "Mon, 01 Jan 2026 00:00:00 +" + "9" * 40}, b"{}"),
    "packed": (200, {"Content-Encoding": "gzip"}, gzip.compress(bytes(50_000_000))),
    "not Flower": (200, {"Content-Type": "text/html"}, b"<html>" * 10_000),
    "an error like no other": (500, {}, b'{"code": [], "detail": {"a": "\\u001b[2J"}}'),
}


@contextmanager
def hostile_superlink(tls: Path, answer: str, other: int) -> Iterator[tuple[int, list[str]]]:
    """Its port, and the paths that it was asked for."""
    credentials = make_authority(tls)
    status, headers, body = ANSWERS[answer]
    asked: list[str] = []

    class Answer(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value.format(other=other))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(credentials.certificate, credentials.key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], asked
        server.shutdown()


QUICK = ("elsewhere", "a date of no calendar")


@pytest.mark.parametrize(
    "answer",
    [pytest.param(a, marks=() if a in QUICK else pytest.mark.slow) for a in ANSWERS],
)
def test_it_tells_its_desk_and_asks_nobody_else(answer: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.setblocking(False)
        with hostile_superlink(tmp_path / "tls", answer, other.getsockname()[1]) as (port, asked):
            make_supernode_key(tmp_path / "net.key")
            process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "client.gateway"),
                    *("--superlink", f"localhost:{port}", "--key", str(tmp_path / "net.key")),
                    *("--root-certificates", str(tmp_path / "tls" / "ca.pem")),
                    *("--socket", str(tmp_path / "a.sock"), "--home", str(tmp_path / "home")),
                ],
                env={"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            told = until_the_agents_line(process)
            alive = process.poll() is None
            process.terminate()
            told += process.communicate(timeout=60)[0]
        with pytest.raises(BlockingIOError):
            other.accept()
    assert alive, told
    assert asked
    assert told.count("desk: ") >= 2, told
    assert "Traceback" not in told
    assert "\x1b" not in told
    assert process.returncode == 0


def until_the_agents_line(process: subprocess.Popen[str]) -> str:
    """What it says up to the second line for its desk: after the coordinator's, the agent's."""
    told, overdue = "", threading.Timer(60, process.kill)
    overdue.start()
    assert process.stdout is not None
    for line in process.stdout:
        told += line
        if told.count("desk: ") == 2:
            break
    overdue.cancel()
    return told
