import os
import re
import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from privacy.errors import ConfigError
from privacy.identity import (
    MARKER_BYTES,
    Identity,
    fingerprint,
    load_identity,
    make_identity,
    marker_path,
    verify,
)

# RFC 8032, section 7.1, test 2: secret key, public key, message, signature.
SECRET = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"
PUBLIC = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
MESSAGE = b"\x72"
SIGNATURE = (
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def test_signatures_are_those_of_rfc_8032():
    identity = Identity.from_seed(bytes.fromhex(SECRET))
    assert identity.public.hex() == PUBLIC
    assert identity.sign(MESSAGE).hex() == SIGNATURE
    assert verify(identity.public, bytes.fromhex(SIGNATURE), MESSAGE)


@pytest.mark.parametrize(
    ("public", "signature", "message"),
    [
        (PUBLIC, SIGNATURE, b"\x73"),
        (PUBLIC, "00" + SIGNATURE[2:], MESSAGE),
        (PUBLIC, SIGNATURE[:-2], MESSAGE),
        (PUBLIC, "", MESSAGE),
        (PUBLIC[:-2] + "0d", SIGNATURE, MESSAGE),
        (PUBLIC[:-2], SIGNATURE, MESSAGE),
        # s + L: the same signature in another form, RFC 8032, 5.1.7
        (PUBLIC, SIGNATURE[:64] + f"{'ff' * 32}", MESSAGE),
    ],
)
def test_anything_else_is_no_signature(public, signature, message):
    assert not verify(bytes.fromhex(public), bytes.fromhex(signature), message)


@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
def test_an_identity_is_made_once_and_loaded(tmp_path, passphrase):
    path = tmp_path / "identity.pem"
    made = make_identity(path, passphrase)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_identity(path, passphrase).public == made.public
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="already exists"):
        make_identity(path, passphrase)
    assert path.read_bytes() == before


def test_an_identity_is_made_with_a_marker_that_names_no_ledger(tmp_path):
    path = tmp_path / "site.key"
    make_identity(path)
    marker = marker_path(path)
    assert marker == tmp_path / "site.key.ledger"
    assert marker.read_bytes() == bytes(MARKER_BYTES)
    assert stat.S_IMODE(marker.stat().st_mode) == 0o600
    path.unlink()
    make_identity(path)  # the key is lost, and no ledger with it
    path.unlink()
    marker.write_bytes(bytes(MARKER_BYTES - 1) + b"\1")
    with pytest.raises(ConfigError, match="names the ledger of a key that is gone"):
        make_identity(path)
    assert not path.exists()


def test_the_mode_does_not_depend_on_the_umask(tmp_path):
    before = os.umask(0)
    try:
        make_identity(tmp_path / "identity.pem")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "identity.pem").stat().st_mode) == 0o600


def test_a_passphrase_encrypts_the_file(tmp_path):
    path = tmp_path / "identity.pem"
    make_identity(path, b"correct horse")
    assert b"ENCRYPTED" in path.read_bytes()
    for wrong in (None, b"wrong horse"):
        with pytest.raises(ConfigError):
            load_identity(path, wrong)


def test_a_passphrase_where_none_is_needed_is_told(tmp_path):
    make_identity(tmp_path / "identity.pem")
    with pytest.raises(ConfigError, match="passphrase"):
        load_identity(tmp_path / "identity.pem", b"something")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_may_read_is_refused(tmp_path, mode):
    path = tmp_path / "identity.pem"
    make_identity(path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="others can read or change it"):
        load_identity(path)


def test_what_is_no_identity_is_refused(tmp_path):
    path = tmp_path / "identity.pem"
    other = X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    for content in (b"", b"hello", other):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(ConfigError):
            load_identity(path)
    with pytest.raises(ConfigError, match="cannot be used"):
        load_identity(tmp_path / "absent.pem")
    with pytest.raises(ConfigError, match="cannot be made"):
        make_identity(tmp_path / "absent" / "identity.pem")


def test_a_link_is_not_followed_when_a_key_is_made(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError):
        make_identity(tmp_path / "link")
    assert not (tmp_path / "elsewhere").exists()


def test_text_shows_no_secret():
    identity = Identity.from_seed(bytes.fromhex(SECRET))
    assert SECRET not in repr(identity)
    assert fingerprint(identity.public) in repr(identity)


def test_fingerprints_can_be_read_out():
    first, second = fingerprint(b"a"), fingerprint(b"b")
    assert re.fullmatch(r"\d{5}( \d{5}){5}", first)
    assert first != second
    assert first == "23282 05204 64444 28804 03151 75837"


def test_two_identities_differ():
    assert Identity.generate().public != Identity.generate().public
