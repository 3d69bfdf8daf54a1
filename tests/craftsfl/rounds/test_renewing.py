"""`craftsfl rounds renew`: what gateways have pinned still holds, for every name, and longer."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from craftsfl.processes.flower.certificates import check_certificate, expires_soon
from craftsfl.processes.flower.credentials import ServerCredentials, make_consortium_authority
from craftsfl.rounds.renewing import renew_consortium
from privacy.errors import DeploymentError
from tests.craftsfl.founded import init_consortium, type_in

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
    told = list(renew_consortium(colon / "consortium.toml", None, LATER))
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
    "no certificate": (
        lambda c: (c / "tls/server.pem").unlink(),
        "cannot be read",
        "docs/operator.md",
    ),
    "no PEM": (lambda c: (c / "tls/ca.key").write_text("x"), "is not a private key", "operator.md"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_renewed_is_told_and_stays(colon: Path, fault: str) -> None:
    make, says, cure = FAULTS[fault]
    make(colon)
    path = files(colon).certificate
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(DeploymentError) as caught:
        list(renew_consortium(colon / "consortium.toml", None, LATER))
    assert says in caught.value.message and cure in caught.value.hint
    assert (path.read_bytes() if path.exists() else None) == before


def test_an_authority_that_is_over_needs_a_new_invitation(colon: Path) -> None:
    far = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=3651)
    with pytest.raises(DeploymentError, match="itself expired") as caught:
        list(renew_consortium(colon / "consortium.toml", None, far))
    assert "new invitation" in caught.value.hint
