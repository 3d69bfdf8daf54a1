"""`craftsfl rounds init`: whole or not at all, never twice, with the right names and modes."""

from __future__ import annotations

import datetime
import stat
from pathlib import Path

import pytest
from cryptography import x509

from craftsfl.processes.flower.certificates import check_certificate
from craftsfl.rounds.operator import superlink_of
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, CraftsflError
from privacy.study.manifest import load_study
from server.own_key import coordinator_key
from server.readiness import check_ready
from server.settings import load_consortium
from tests.craftsfl.founded import NAMES, PATIENTS, init_consortium, type_in


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("founded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRAFTSFL_CACHE", str(folder / "cache"))
        return init_consortium(folder, "--steps", 6, "--address", "rounds.example.org:9092")


def test_settings_study_and_key_fit_together(made: Path) -> None:
    settings = load_consortium(made)
    study = load_study(settings.study)
    assert {site.name: site.declared_patients for site in study.sites} == dict.fromkeys(
        NAMES, PATIENTS
    )
    assert study.rounds == 6 and study.privacy.delta == 0.5e-5  # half of it: two studies
    assert coordinator_key(settings.coordinator_key, study) is not None
    assert settings.invitation is not None
    assert settings.invitation.superlink == "rounds.example.org:9092"
    assert settings.superlink is not None and settings.superlink.host == "0.0.0.0"


def test_what_is_private_is_its_owners_alone(made: Path) -> None:
    folder = made.parent
    for name in ("coordinator.key", "superexec.secret", "tls/ca.key", "tls/server.key"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_certificate_names_everybodys_way_in(made: Path) -> None:
    credentials = superlink_of(load_consortium(made)).credentials
    names = ["rounds.example.org", "localhost", "127.0.0.1"]
    check_certificate(credentials, names, datetime.datetime.now(datetime.UTC))
    with pytest.raises(CraftsflError, match=r"does not name example\.org"):
        check_certificate(credentials, ["example.org"], datetime.datetime.now(datetime.UTC))
    year = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=360)
    check_certificate(credentials, names, year)


@pytest.mark.parametrize("address", ["192.0.2.7:443", "localhost:9000"])
def test_an_address_may_be_a_number_or_this_machine(tmp_path: Path, address: str) -> None:
    settings = load_consortium(init_consortium(tmp_path, "--steps", 6, "--address", address))
    host, _, port = address.rpartition(":")
    credentials = superlink_of(settings).credentials
    check_certificate(credentials, [host, "127.0.0.1"], datetime.datetime.now(datetime.UTC))
    assert settings.superlink is not None and settings.superlink.port == int(port)
    certificate = x509.load_pem_x509_certificate(credentials.certificate.read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert len(list(found)) == len({host, "localhost", "127.0.0.1"})


def test_a_second_init_changes_nothing(made: Path) -> None:
    before = {path: path.read_bytes() for path in made.parent.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="exists already: nothing was made"):
        init_consortium(made.parent.parent)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--address", "example.org"], "is not HOST:PORT"),
        (["--address", "[2001:db8::1]:9092"], "is not HOST:PORT"),
        (["--address", "a b:9092"], "is not HOST:PORT"),
        (["--address", "example.org:99999"], "is not HOST:PORT"),
        (["--consortium", "Colon!"], "at most 32 lower-case letters"),
        (["--name", "Colon!"], "at most 64 lower-case letters"),
        (["--epsilon", "100"], "promises a patient nothing"),
        (["--base", "nowhere"], "is not a folder here"),
        (["--study", "nowhere.toml"], "nowhere.toml does not exist"),
        (["--certificate", "server.pem"], "has three files"),
    ],
)
def test_what_cannot_be_makes_nothing(tmp_path: Path, options: list[str], says: str) -> None:
    with pytest.raises(CraftsflError, match=says):
        init_consortium(tmp_path, *options)
    assert not (tmp_path / "colon").exists()


def test_an_existing_certificate_and_study_are_used(made: Path, tmp_path: Path) -> None:
    tls, study = made.parent / "tls", made.parent / "study.toml"
    options = ["--authority", tls / "ca.pem", "--certificate", tls / "server.pem"]
    options += ["--key", tls / "server.key", "--study", study]
    type_in("rounds", "init", tmp_path / "b", *options, "--address", "rounds.example.org:9092")
    settings = load_consortium(tmp_path / "b" / "consortium.toml")
    assert settings.superlink is not None
    assert settings.superlink.certificate == tls / "server.pem"
    assert not (tmp_path / "b" / "tls").exists()
    own = load_study(settings.study)
    assert coordinator_key(settings.coordinator_key, own) is not None  # of its own, not the other's
    assert own.digest() != load_study(study).digest()
    with pytest.raises(CraftsflError, match=r"does not name other\.example\.org"):
        type_in("rounds", "init", tmp_path / "c", *options, "--address", "other.example.org:9092")


def test_until_hospitals_were_added_nothing_begins(made: Path) -> None:
    settings = load_consortium(made)
    with pytest.raises(ConfigError, match=r"placeholder as secure_aggregation\.roster") as caught:
        check_ready(settings)
    assert caught.value.id == ErrorId.PLACEHOLDER
    assert "craftsfl rounds add consortium.toml NAME.card" in caught.value.hint
