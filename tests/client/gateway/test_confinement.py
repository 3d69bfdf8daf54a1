"""A gateway that was taken over, under the agent's own user, on the real kernel.

What it may choose: any call. Each attempt is made twice, by a process that has shut itself in and
by one that has not, so that a refusal is the confinement's and not the machine's.
"""

from __future__ import annotations

import http.server
import json
import os
import pickle
import platform
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from client.agent.progress import ProgressSource
from client.agent.service import AgentServer, serve
from client.confinement.landlock import landlock_abi
from client.gateway import shut_in as module
from client.gateway.calls import NUMBERS
from client.gateway.confinement import Surroundings, confine
from client.gateway.shut_in import ShutIn, gateway_confinement, shut_in
from craftsfl.processes.flower.credentials import make_authority
from privacy.errors import ConfigError
from privacy.wire.reasons import Reason
from scripts.other_users import command_as
from tests.users import AGENT, give, open_folder

from .hostile_gateway import ATTACKS, DONE, MARK

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[3]
LIMIT = 4_000_000
pytestmark = [
    pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the attacks' numbers are x86-64's"),
]
# What the machine itself may refuse to a process that is not shut in.
UNSURE = {
    *("mount", "watch_everything", "counters", "kernel_program", "page_faults", "ring"),
    *(
        "cut_output",
        "write_output_at_a_place",
        "set_attribute",
        "new_user_namespace",
        "posix_queue",
        "multipath",
        "keyring",
    ),
    *("search_keyring", "ask_a_resolver", "trace_another", "take_anothers_file", "load_a_protocol"),
    *("fast_open_a_handed_in_socket", "read_memory_by_call", "open_key_by_a_newer_call"),
}
# Each kernel version with something new: no REFER, no TRUNCATE, no TCP, no scopes, everything.
VERSIONS = (1, 3, 5, None)


def as_agent(*argv: str, folder: Path) -> subprocess.Popen[str]:
    """`argv` under the agent's user, if this process may do that; else under its own."""
    command = list(argv)
    if os.geteuid() == 0:
        give(folder, AGENT)
        command = command_as(AGENT, command)
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={"HOME": str(folder), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def report_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=90)
    (line,) = [text for text in out.splitlines() if text.startswith(MARK)] or pytest.fail(out + err)
    return {**json.loads(line.removeprefix(MARK)), "err": err}


def everybody(path: Path) -> Path:
    path.chmod(0o777)
    return path


@contextmanager
def running_agent_service(folder: Path) -> Iterator[AgentServer]:
    service = serve(bytes, ProgressSource(), folder / "agent.sock", limit=LIMIT)
    everybody(folder / "agent.sock")
    yield service
    service.stop(0)


@contextmanager
def hospital(folder: Path) -> Iterator[dict[str, Any]]:
    """Its files, its agent's socket, another service of the user, a process of the user."""
    for name in ("site.key", "ledger.sqlite", "net.key", "spare", "tiles/0-0.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
        (folder / name).chmod(0o600)
    (folder / "tiles").chmod(0o700)
    victim = as_agent(
        *(sys.executable, "-c"),
        "import ctypes, time; b = ctypes.create_string_buffer(b'patients');"
        "print(ctypes.addressof(b), flush=True); time.sleep(300)",
        folder=folder,
    )
    assert victim.stdout is not None
    address = int(victim.stdout.readline())
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.socket(socket.AF_UNIX) as service,
        socket.socket(socket.AF_UNIX) as abstract,
        running_agent_service(folder),
    ):
        service.bind(str(folder / "bus"))
        everybody(folder / "bus")
        abstract.bind(f"\0airlock-{os.getpid()}")
        service.listen()
        abstract.listen()
        yield {
            "key": str(folder / "site.key"),
            "ledger": str(folder / "ledger.sqlite"),
            "tile": str(folder / "tiles/0-0.png"),
            "readable": str(folder / "net.key"),
            "spare": str(folder / "spare"),
            "home": str(folder),
            "agent": str(folder / "agent.sock"),
            "service": str(folder / "bus"),
            "abstract": f"airlock-{os.getpid()}",
            "victim": victim.pid,
            "group": os.getpgid(victim.pid),
            "address": address,
            "port": one.getsockname()[1],
            "other_port": other.getsockname()[1],
        }
    victim.kill()
    victim.communicate()


def attempts(*, confined: bool, abi: int | None = None) -> dict[str, Any]:
    with open_folder() as folder, hospital(folder) as facts:
        path = folder / "facts.json"
        path.write_text(json.dumps({**facts, "confined": confined, "abi": abi}))
        script = str(HERE / "hostile_gateway.py")
        report = report_of(as_agent(sys.executable, "-P", script, str(path), folder=folder))
        if confined:
            assert (folder / "site.key").read_text() == "site.key"
            assert (folder / "ledger.sqlite").read_text() == "ledger.sqlite"
            assert (folder / "site.key").stat().st_mode & 0o777 == 0o600
        return report


@pytest.mark.parametrize(
    "abi", [version for version in VERSIONS if (version or 1) <= landlock_abi()]
)
def test_whoever_takes_the_gateway_over_gets_no_further(abi: int | None) -> None:
    report = attempts(confined=True, abi=abi)
    got = {name for name in ATTACKS if report[name] == DONE}
    assert got == set()
    assert report["says"]["held"], report["says"]["text"]
    assert report["says"]["text"].startswith("Airlock: ")


def test_the_control_without_the_confinement_they_succeed() -> None:
    report = attempts(confined=False)
    failed = {name: report[name] for name in ATTACKS if report[name] != DONE}
    assert set(failed) <= UNSURE, failed


class Hello(http.server.BaseHTTPRequestHandler):
    """A coordinator that greets."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def coordinator(folder: Path) -> Iterator[tuple[int, Path]]:
    """A TLS server on localhost; its port and its authority's certificate."""
    tls = make_authority(folder / "tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate, tls.key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], tls.authority
        server.shutdown()


@contextmanager
def at_work(folder: Path, **more: Any) -> Iterator[subprocess.Popen[str]]:
    with coordinator(folder) as (port, ca), running_agent_service(folder):
        (folder / "net.key").write_text("its own key")
        (folder / "private").mkdir()
        facts = {
            "key": str(folder / "net.key"),
            "ca": str(ca),
            "agent": str(folder / "agent.sock"),
            "private": str(folder / "private"),
            "home": str(folder),
            "port": port,
            "url": f"https://localhost:{port}/again",
            "bytes": 3_500_000,
            "limit": LIMIT,
            "abi": None,
            **more,
        }
        (folder / "facts.json").write_text(json.dumps(facts))
        script, path = str(HERE / "working_gateway.py"), str(folder / "facts.json")
        process = as_agent(sys.executable, "-P", script, path, folder=folder)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("abi", [1, None])
def test_what_a_gateway_has_to_do_works(abi: int | None) -> None:
    with open_folder() as folder, at_work(folder, abi=abi) as process:
        report = report_of(process)
    assert report["held"], report["text"]
    assert report["key"] == "its own key"
    assert report["echo"] == 3_500_000
    assert report["again"] == "again"
    assert report["too_large"] == Reason.TOO_LARGE
    assert report["knock"] == "LISTENING"
    assert report["memory"] == "remember"
    assert (report["tls"], report["thread"]) == ("hello", ["hello"])
    assert "may connect to" in report["elsewhere"]
    assert "torch" not in report["modules"]
    assert "a line in the log" in report["err"]
    assert report["exchange_seconds"] < 0.2


def test_a_gateway_with_a_second_thread_is_not_shut_in(tmp_path: Path) -> None:
    """Landlock would leave that thread its files."""
    over = threading.Event()
    threading.Thread(target=over.wait, daemon=True).start()
    with pytest.raises(RuntimeError, match="before its first thread"):
        confine(Surroundings((), tmp_path / "a.sock", "localhost", 1, 1))
    over.set()


def test_what_would_stay_readable_is_refused(tmp_path: Path) -> None:
    inside = Path(sys.prefix) / "state"
    with pytest.raises(ConfigError, match="which the gateway has to read"):
        shut_in([], [inside])
    with pytest.raises(ConfigError, match="which the gateway has to read"):
        shut_in([tmp_path], [tmp_path / "tiles"])


def test_a_process_that_is_not_shut_in_does_not_say_so() -> None:
    found = gateway_confinement()
    assert not found.is_airlock
    assert found.text.startswith("NO AIRLOCK of its own: the gateway can read files of its user, ")
    assert ShutIn(*[True] * 6).is_airlock


@pytest.mark.parametrize("what", ["read_only", "allow_only"])
def test_what_the_kernel_does_not_have_is_not_claimed(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a kernel without Landlock, and on one without filters: the rest is done."""

    def missing(*_: object, **__: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(module, what, missing)
    held = in_a_child(lambda: shut_in([], []))
    assert not held.is_airlock
    assert held.reading is (what == "allow_only")
    assert held.sockets is held.others is (what == "read_only")


def in_a_child(action: Any) -> Any:
    """What `action` returns in a fork of this process, which has one thread."""
    read, write = os.pipe()
    os.set_inheritable(write, True)
    child = os.fork()
    if child == 0:
        keep = os.dup2(write, 1)  # confine() closes all the others
        try:
            os.write(keep, pickle.dumps(action()))
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        data = stream.read()
    os.waitpid(child, 0)
    return pickle.loads(data)


HEADERS = ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm-generic/unistd.h")


@pytest.mark.parametrize("column, header", enumerate(HEADERS))
def test_the_calls_numbers_are_the_kernels(column: int, header: str) -> None:
    if not Path(header).exists():
        pytest.skip("the kernel's headers are not installed")
    defined = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(header).read_text()))
    if "newfstatat" not in defined:
        defined["newfstatat"] = defined["fstatat"]
    known = {name: int(defined[name]) if name in defined else None for name in NUMBERS}
    assert {name: numbers[column] for name, numbers in NUMBERS.items()} == known
