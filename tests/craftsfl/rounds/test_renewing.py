"""`craftsfl rounds renew`: what gateways have pinned still holds, for every name, and longer."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from craftsfl.processes.flower.certificates import check_certificate, expires_soon
from craftsfl.processes.flower.credentials import (
    ServerCredentials,
    make_consortium_authority,
    make_server_key,
    write_key,
)
from craftsfl.rounds.renewing import Renewing, renew_consortium
from privacy.errors import CraftsflError, DeploymentError
from tests.craftsfl.founded import init_consortium, init_hospitals, type_in

NAMES = ("consortium.example.org", "10.1.2.3", "localhost", "127.0.0.1")
LATER = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=359, hours=12)


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("renewing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRAFTSFL_CACHE", str(folder / "cache"))
        init_consortium(folder, "--steps", 6, "--address", "consortium.example.org:9092")
    tls = folder / "colon" / "tls"
    shutil.rmtree(tls)
    make_consortium_authority(tls, "colon", NAMES[:2])
    return folder / "colon"


@pytest.fixture
def colon(master: Path, tmp_path: Path) -> Path:
    shutil.copytree(master, tmp_path / "colon")
    return tmp_path / "colon"


def files(colon: Path) -> ServerCredentials:
    tls = colon / "tls"
    return ServerCredentials(tls / "ca.pem", tls / "server.pem", tls / "server.key")


def test_gateways_notice_nothing(colon: Path) -> None:
    """By OpenSSL's own handshake, under the authority that they got with the invitation."""
    pinned = files(colon).authority.read_bytes()
    before = x509.load_pem_x509_certificate(files(colon).certificate.read_bytes())
    warned = expires_soon(files(colon).certificate, LATER) or ""
    assert "in 5 days" in warned and "craftsfl rounds renew" in warned
    told = list(renew_consortium(Renewing(colon / "consortium.toml"), LATER))
    made = x509.load_pem_x509_certificate(files(colon).certificate.read_bytes())
    assert made.serial_number != before.serial_number and made.public_key() == before.public_key()
    assert files(colon).authority.read_bytes() == pinned
    check_certificate(files(colon), NAMES, LATER)
    assert expires_soon(files(colon).certificate, datetime.datetime.now(datetime.UTC)) is None
    assert "days from now" in told[0] and "The hospitals do nothing" in told[-1]
    assert not list((colon / "tls").glob("*.renewed"))


def test_the_authoritys_key_may_be_on_another_disk(colon: Path, tmp_path: Path) -> None:
    (tmp_path / "stick").mkdir()
    shutil.move(colon / "tls" / "ca.key", tmp_path / "stick" / "ca.key")
    told = type_in("rounds", "renew", colon / "consortium.toml", "--authority-key",
                   tmp_path / "stick" / "ca.key")  # fmt: skip
    assert "Move" not in told
    assert "365 days" in told or "364 days" in told


LOST: dict[str, Callable[[Path], object]] = {
    "certificate": lambda c: (c / "tls/server.pem").unlink(),
    "certificate cut short": lambda c: (c / "tls/server.pem").write_text("-----BEGIN CERT"),
    "key": lambda c: (c / "tls/server.key").unlink(),
    "key of nothing": lambda c: (c / "tls/server.key").write_text(""),
    "another's key": lambda c: write_key(c / "tls/server.key", make_server_key()),
    "both": lambda c: [(c / f"tls/server.{end}").unlink() for end in ("pem", "key")],
}


@pytest.mark.parametrize("lost", LOST)
def test_what_is_lost_is_made_again_for_every_name(colon: Path, lost: str) -> None:
    before = x509.load_pem_x509_certificate(files(colon).certificate.read_bytes()).public_key()
    LOST[lost](colon)
    with pytest.raises(DeploymentError) as caught:
        check_certificate(files(colon), NAMES, LATER)
    assert "craftsfl rounds renew consortium.toml" in caught.value.hint
    told = " ".join(renew_consortium(Renewing(colon / "consortium.toml", names=NAMES[1:2]), LATER))
    check_certificate(files(colon), NAMES, LATER)
    made = x509.load_pem_x509_certificate(files(colon).certificate.read_bytes()).public_key()
    gone = lost in ("key", "key of nothing", "both")
    assert ("is a new key" in told) == gone
    assert (made == before) == lost.startswith("certificate")
    assert files(colon).key.stat().st_mode & 0o777 == 0o600
    assert not list((colon / "tls").glob("*.renewed"))


def test_a_key_that_others_have_is_replaced_and_that_is_said(colon: Path) -> None:
    before = files(colon).key.read_bytes()
    files(colon).key.chmod(0o644)
    told = type_in("rounds", "renew", colon / "consortium.toml", "--new-key")
    assert files(colon).key.read_bytes() != before
    assert "can pose as this SuperLink until its certificate ends" in told


def test_a_lost_authority_is_put_back_as_the_hospitals_have_it(colon: Path) -> None:
    pinned = files(colon).authority.read_text()
    type_in("rounds", "add", colon / "consortium.toml", *init_hospitals(colon.parent))
    files(colon).authority.unlink()
    told = list(renew_consortium(Renewing(colon / "consortium.toml"), LATER))
    assert "put back from the invitation" in told[0] and "valid until" in told[1]
    assert files(colon).authority.read_text() == pinned


def other_authority(colon: Path) -> None:
    made = make_consortium_authority(colon / "other", "other", NAMES)
    shutil.copy(made.certificate, files(colon).certificate)
    shutil.copy(made.key, files(colon).key)


def other_key(colon: Path) -> None:
    make_consortium_authority(colon / "other", "other", NAMES)
    shutil.copy(colon / "other" / "ca.key", colon / "tls" / "ca.key")


FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "no key": (lambda c: (c / "tls/ca.key").unlink(), "is not there", "--authority-key FILE"),
    "another's key": (other_key, "is not the key of the authority", "file ca.key that craftsfl"),
    "open key": (lambda c: (c / "tls/ca.key").chmod(0o644), "Others can read", "chmod 600"),
    "another's certificate": (other_authority, "was not made by the authority", "whoever made it"),
    "no PEM": (lambda c: (c / "tls/ca.key").write_text("x"), "is not a private key", "ca.key that"),
    "an open server's key": (lambda c: (c / "tls/server.key").chmod(0o644), "Others can", "--new"),
    "no authority": (lambda c: (c / "tls/ca.pem").unlink(), "cannot be read", "docs/operator.md"),
    "a name that is none": (lambda c: None, "neither a DNS name", "without a port"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_renewed_is_told_and_stays(colon: Path, fault: str) -> None:
    make, says, cure = FAULTS[fault]
    make(colon)
    path = files(colon).certificate
    before = path.read_bytes() if path.exists() else None
    names = ("a.example:9092",) if fault == "a name that is none" else ()
    with pytest.raises(CraftsflError) as caught:
        list(renew_consortium(Renewing(colon / "consortium.toml", names=names), LATER))
    assert says in caught.value.message and cure in caught.value.hint
    assert (path.read_bytes() if path.exists() else None) == before


def test_an_authority_that_is_over_needs_a_new_invitation(colon: Path) -> None:
    far = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=3651)
    with pytest.raises(DeploymentError, match="itself expired") as caught:
        list(renew_consortium(Renewing(colon / "consortium.toml"), far))
    assert "new invitation" in caught.value.hint
