"""By sockets: other services, other ports, other protocols."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from typing import Any

from tests.client.gateway.attacks.calls import Attacks, call

ATTACKS = Attacks()


@ATTACKS.add
def ask_another_service(facts: Any) -> None:
    """As D-Bus, systemd, tmux, Docker: whoever may connect gets a shell of that user."""
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(facts["service"])


@ATTACKS.add
def ask_an_abstract_service(facts: Any) -> None:
    with socket.socket(socket.AF_UNIX) as door:
        door.connect("\0" + facts["abstract"])


@ATTACKS.add
def ask_the_agent_itself(facts: Any) -> None:
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(facts["agent"])


@ATTACKS.add
def connect_to_another_port(facts: Any) -> None:
    with socket.socket(socket.AF_INET) as door:
        door.connect(("127.0.0.1", facts["other_port"]))


@ATTACKS.add
def connect_by_name_to_another_port(facts: Any) -> None:
    socket.create_connection(("localhost", facts["other_port"]), timeout=5).close()


@ATTACKS.add
def connect_by_another_name(facts: Any) -> None:
    socket.create_connection(("127.0.0.1", facts["port"]), timeout=5).close()


@ATTACKS.add
def connect_a_handed_in_socket_elsewhere(facts: Any) -> None:
    with socket.create_connection(("localhost", facts["port"]), timeout=5) as door:
        address = b"\0" * 16  # AF_UNSPEC: disconnect
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.connect(door.fileno(), address, 16) != 0:
            raise OSError(ctypes.get_errno(), "connect")
        door.connect(("127.0.0.1", facts["other_port"]))


@ATTACKS.add
def fast_open_a_handed_in_socket(facts: Any) -> None:
    with socket.create_connection(("localhost", facts["port"]), timeout=5) as door:
        door.shutdown(socket.SHUT_RDWR)
        with socket.socket(socket.AF_INET) if not facts["confined"] else door as other:
            other.sendto(b"x", 0x20000000, ("127.0.0.1", facts["other_port"]))


@ATTACKS.add
def send_to_an_address(facts: Any) -> None:
    with socket.create_connection(("localhost", facts["port"]), timeout=5) as door:
        door.sendto(b"x", ("127.0.0.1", facts["other_port"]))


@ATTACKS.add
def send_a_message_with_an_address(facts: Any) -> None:
    with socket.create_connection(("localhost", facts["port"]), timeout=5) as door:
        door.sendmsg([b"x"])


@ATTACKS.add
def listen(facts: Any) -> None:
    socket.create_server(("127.0.0.1", 0)).close()


@ATTACKS.add
def listen_on_a_handed_in_socket(facts: Any) -> None:
    with socket.create_connection(("localhost", facts["port"]), timeout=5) as door:
        try:
            door.listen()
        except OSError as error:
            if error.errno != errno.EINVAL:  # what the kernel says of a connected one
                raise


@ATTACKS.add
def send_datagram(facts: Any) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.sendto(b"a patient", ("127.0.0.1", 53))


@ATTACKS.add
def ask_a_resolver(facts: Any) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM):
        pass


@ATTACKS.add
def look_at_the_network(facts: Any) -> None:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()


@ATTACKS.add
def multipath(facts: Any) -> None:
    """A TCP that Landlock's rules for TCP do not know."""
    socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).close()


@ATTACKS.add
def socket_pair(facts: Any) -> None:
    for one in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM):
        one.close()


@ATTACKS.add
def load_a_protocol(facts: Any) -> None:
    with socket.create_connection(("localhost", facts["port"]), timeout=5) as door:
        try:
            door.setsockopt(socket.IPPROTO_TCP, 31, b"nosuchulp")  # TCP_ULP
        except OSError as error:
            if error.errno != errno.ENOENT:  # it looked for a module
                raise


@ATTACKS.add
def ring(facts: Any) -> None:
    os.close(call("io_uring_setup", 1, ctypes.create_string_buffer(120)))
