"""What `rounds serve` finds before it starts anything: each fault, one at a time, in words."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import threading
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from craftsfl.demo.workspace import DemoOptions, clear_folder, write_workspace
from craftsfl.processes.supervisor import claim_port
from craftsfl.rounds import preflight
from craftsfl.rounds.operator import superlink_of
from craftsfl.rounds.preflight import CertificateWatch, check_coordinator, make_folders
from craftsfl.rounds.serving import serve_consortium
from privacy.errors import CraftsflError
from server.settings import load_consortium
from tests.craftsfl.demo.drafts import DIGEST, drafts
from tests.craftsfl.rounds.certificates import DAY, certify, write_key


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    clear_folder(folder / "it")
    made = write_workspace(DemoOptions(folder / "it"), drafts(folder), DIGEST, port=1)
    made.runtime.rmdir()
    return made.consortium.parent.parent


@pytest.fixture
def coordinator(master: Path, tmp_path: Path) -> Path:
    """A coordinator's folder in which everything is right."""
    shutil.copytree(master, tmp_path / "demo")
    settings = tmp_path / "demo" / "coordinator" / "consortium.toml"
    port = claim_port("127.0.0.1", None)
    settings.write_text(settings.read_text().replace("port = 1\n", f"port = {port}\n"))
    return settings.parent


def check(coordinator: Path, *, serves: bool = True) -> None:
    consortium = load_consortium(coordinator / "consortium.toml")
    link = superlink_of(consortium)
    make_folders(consortium, link)
    check_coordinator(consortium, link, serves=serves)


def refused(coordinator: Path) -> CraftsflError:
    """The error of `rounds serve`, which has started nothing."""
    with pytest.raises(CraftsflError) as caught:
        serve_consortium(coordinator / "consortium.toml")
    assert not (coordinator / "superlink" / "logs").exists()
    assert caught.value.hint
    return caught.value


def test_where_nothing_is_wrong_nothing_is_said(
    coordinator: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check(coordinator)
    check(coordinator)  # and again, with a database
    check(coordinator, serves=False)
    assert capsys.readouterr().err == ""
    certify(coordinator)
    check(coordinator)


def other_key(coordinator: Path) -> None:
    write_key(coordinator / "tls" / "server.key", ec.generate_private_key(ec.SECP384R1()))


def locked_key(coordinator: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    write_key(coordinator / "tls" / "server.key", key, b"geheim")


def other_authority(coordinator: Path) -> None:
    old = (coordinator / "tls" / "ca.pem").read_bytes()
    certify(coordinator)
    (coordinator / "tls" / "ca.pem").write_bytes(old)


def take_port(coordinator: Path) -> None:
    port = load_consortium(coordinator / "consortium.toml").superlink
    assert port is not None
    taken = socket.socket()
    taken.bind(("127.0.0.1", port.port))
    taken.listen()
    KEPT.append(taken)


KEPT: list[socket.socket] = []


def write(name: str, text: str | None) -> Callable[[Path], None]:
    def action(coordinator: Path) -> None:
        path = coordinator / name
        if text is None:
            path.unlink()
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    return action


def change(name: str, old: str, new: str) -> Callable[[Path], None]:
    def action(coordinator: Path) -> None:
        path = coordinator / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return action


def mode(name: str, number: int) -> Callable[[Path], None]:
    return lambda coordinator: (coordinator / name).chmod(number)


def give_away(name: str) -> Callable[[Path], None]:
    def action(coordinator: Path) -> None:
        (coordinator / name).mkdir(exist_ok=True)
        os.chown(coordinator / name, 61001, 61001)

    return action


JUNK = "x" * 5000
HOSTS = (x509.DNSName("consortium.example.org"), x509.DNSName("localhost"))
ROWS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "no secret": (write("superexec.secret", None), "secret-unusable", "No such file"),
    "secret 0644": (mode("superexec.secret", 0o644), "secret-unusable", "others can read"),
    "secret 0640": (mode("superexec.secret", 0o640), "secret-unusable", "others can read"),
    "short secret": (write("superexec.secret", "abc"), "secret-unusable", "3 bytes"),
    "no authority": (write("tls/ca.pem", None), "certificate-unusable", "ca.pem cannot be read"),
    "authority": (write("tls/ca.pem", "x"), "certificate-unusable", "ca.pem is not a certificate"),
    "certificate": (write("tls/server.pem", "x"), "certificate-unusable", "not a certificate"),
    "no certificate": (write("tls/server.pem", None), "certificate-unusable", "cannot be read"),
    "no key": (write("tls/server.key", None), "certificate-unusable", "cannot be read"),
    "not a key": (write("tls/server.key", "x"), "certificate-unusable", "not a private key"),
    "key 0644": (mode("tls/server.key", 0o644), "certificate-unusable", "Others can read"),
    "locked key": (locked_key, "certificate-unusable", "passphrase"),
    "another key": (other_key, "certificate-unusable", "is not the one of the certificate"),
    "another authority": (other_authority, "certificate-unusable", "does not hold under"),
    "expired": (lambda folder: certify(folder, end=-DAY / 2), "certificate-unusable", "expired"),
    "of tomorrow": (
        lambda folder: certify(folder, start=DAY),
        "certificate-unusable",
        "valid from",
    ),
    "names": (lambda folder: certify(folder, names=HOSTS), "certificate-unusable", "127.0.0.1"),
    "port": (take_port, "port-taken", "cannot be used"),
    "no study": (write("../study.toml", None), "settings-missing", "study.toml"),
    "study": (change("../study.toml", "rounds = 40", "rounds = -15"), "config", "rounds"),
    "another study": (change("../study.toml", 'roster = "', 'roster = "00'), "config", "roster"),
    "roster": (write("roster.cfl", "x"), "config", "not a file of rosters"),
    "no roster": (write("roster.cfl", None), "config", "cannot be read"),
    "roster unnamed": (change("consortium.toml", "roster = ", "#"), "roster-missing", "roster"),
    "database": (
        write("superlink/superlink.db", "x" * 5000),
        "superlink-database",
        "not a database",
    ),
    "round state": (write("state/rounds.db", "x" * 5000), "round-state-unusable", "not a database"),
    "folder": (write("superlink", "x"), "folder-unusable", "cannot be made"),
    "others' folder": (give_away("superlink"), "folder-unusable", "belongs to another user"),
    "others' state": (give_away("state"), "folder-unusable", "belongs to another user"),
    "open above": (mode("..", 0o777), "folder-unusable", "Everybody may change"),
}


@pytest.mark.parametrize("name", ROWS)
def test_each_fault_is_named_before_anything_starts(coordinator: Path, name: str) -> None:
    spoil, error_id, words = ROWS[name]
    spoil(coordinator)
    error = refused(coordinator)
    assert words in error.message
    assert error.id == error_id


def test_a_full_disk_is_named(coordinator: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: usage(10**9, 10**9, 10**6))
    error = refused(coordinator)
    assert (error.id, "0 MB are free" in error.message) == ("disk-full", True)


def test_a_port_that_becomes_free_is_waited_for(coordinator: Path) -> None:
    take_port(coordinator)
    closing = KEPT.pop()
    threading.Timer(0.5, closing.close).start()
    check(coordinator)


def test_a_certificate_that_expires_soon_is_a_warning_and_then_one_a_day(
    coordinator: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, int]] = []
    monkeypatch.setattr(preflight, "say", lambda text, level: said.append((text, level)))
    certify(coordinator, end=3 * DAY + DAY / 2)
    check(coordinator)
    assert [text.partition(". ")[0].split()[-4:] for text, _ in said] == [IN_THREE_DAYS]
    assert said[0][1] == logging.WARNING
    clock = [1000.0]
    monkeypatch.setattr(preflight.time, "monotonic", lambda: clock[0])
    watch = CertificateWatch(coordinator / "tls" / "server.pem", said=True)

    def looked(*moments: float) -> int:
        """How many lines have been said when it has looked at these moments too."""
        for moment in moments:
            clock[0] = moment
            watch.look()
        return len(said)

    assert looked(1001.0, 80_000.0) == 1
    certify(coordinator, end=-DAY / 4)
    assert looked(87_401.0, 87_402.0, 100_000.0) == 2
    assert "has EXPIRED" in said[1][0]
    (coordinator / "tls" / "server.pem").unlink()
    assert looked(200_000.0) == 3
    assert "cannot be read" in said[2][0]
    certify(coordinator)
    assert looked(300_000.0) == 3


IN_THREE_DAYS = ["expires", "in", "3", "days"]
