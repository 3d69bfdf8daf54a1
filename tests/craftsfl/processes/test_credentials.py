"""Keys and certificates: who may read them, what they are good for."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from craftsfl.processes.flower.credentials import make_authority, make_secret, make_supernode_key


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    left, right = socket.socketpair()
    with left, right:
        failures: list[Exception] = []

        def answer() -> None:
            try:
                server.wrap_socket(left, server_side=True).recv(1)
            except (ssl.SSLError, OSError) as error:
                failures.append(error)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            with client.wrap_socket(right, server_hostname=name) as secure:
                secure.send(b"x")
        finally:
            right.close()
            thread.join(10)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_clients_that_pin_the_authority_accept_the_server(tmp_path: Path, name: str) -> None:
    files = make_authority(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.certificate, files.key)
    handshake(server, ssl.create_default_context(cafile=str(files.authority)), name)


def test_another_authority_or_name_is_refused(tmp_path: Path) -> None:
    files, other = make_authority(tmp_path / "a"), make_authority(tmp_path / "b")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.certificate, files.key)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, ssl.create_default_context(cafile=str(other.authority)), "localhost")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, ssl.create_default_context(cafile=str(files.authority)), "example.org")


def test_private_files_are_private_and_the_authority_has_no_key(tmp_path: Path) -> None:
    files = make_authority(tmp_path)
    secret = make_secret(tmp_path / "secret")
    make_supernode_key(tmp_path / "node.key")
    assert {mode(files.key), mode(secret), mode(tmp_path / "node.key")} == {0o600}
    assert len(secret.read_bytes()) == 64
    assert sorted(path.name for path in tmp_path.glob("ca*")) == ["ca.pem"]


def test_supernode_keys_are_what_flower_registers(tmp_path: Path) -> None:
    public_file = make_supernode_key(tmp_path / "node.key")
    private = serialization.load_ssh_private_key((tmp_path / "node.key").read_bytes(), None)
    public = serialization.load_ssh_public_key(public_file.read_bytes())
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert isinstance(private.curve, ec.SECP384R1)
    assert private.public_key() == public
    assert make_supernode_key(tmp_path / "other.key").read_bytes() != public_file.read_bytes()
