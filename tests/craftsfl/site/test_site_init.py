"""`craftsfl site init`: private keys, a card for the roster, and words that say what to do."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.settings import load_site
from client.site_init import init_site
from craftsfl.cli import app
from craftsfl.processes.flower.credentials import make_supernode_key
from privacy.errors import ConfigError
from privacy.identity import fingerprint, load_identity
from privacy.secagg.card import read_card


def run(*arguments: object, **options: str) -> str:
    done = CliRunner().invoke(app, ["site", "init", *map(str, arguments)], **options)  # type: ignore[arg-type]
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_keys_are_private_and_the_card_is_the_keys(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "site"
    text = run(folder, "--name", "north", "--organisation", "St. Mary")
    identity = load_identity(folder / "site.key")
    card = read_card(folder / "north.card")
    assert (card.name, card.organisation, card.key) == ("north", "St. Mary", identity.public)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for private in ("site.key", "supernode.key"):
        assert stat.S_IMODE((folder / private).stat().st_mode) == 0o600
    assert (folder / "supernode.pub").read_text().startswith("ecdsa-sha2-nistp384 ")
    assert fingerprint(identity.public) in text
    assert "north.card" in text  # the one file that is sent: it shows both keys, signed
    assert card.node_key == " ".join((folder / "supernode.pub").read_text().split()[:2])
    assert card.signature is not None
    site = load_site(folder / "site.toml")
    assert site.name == "north" and site.identity is not None and site.gateway is not None
    assert (site.identity.key, site.gateway.key) == (folder / "site.key", folder / "supernode.key")
    assert not site.data.patient_ids_confirmed


@pytest.mark.parametrize("asked", [True, False])
def test_a_passphrase_encrypts_the_identity_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    monkeypatch.delenv("CRAFTSFL_IDENTITY_PASSPHRASE", raising=False)
    if not asked:
        monkeypatch.setenv("CRAFTSFL_IDENTITY_PASSPHRASE", "correct horse")
    given = "correct horse\ncorrect horse\n" if asked else ""
    text = run(tmp_path, "--name", "north", "--passphrase", input=given)
    assert "passphrase_file" in text
    assert "correct horse" not in text
    with pytest.raises(ConfigError, match="protected by a passphrase"):
        load_identity(tmp_path / "site.key")
    load_identity(tmp_path / "site.key", b"correct horse")


@pytest.mark.parametrize("file", ["site.key", "supernode.key", "supernode.pub", "north.card"])
def test_nothing_is_overwritten(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        init_site(tmp_path, "north", make_supernode_key)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(file, "mine")]


@pytest.mark.parametrize("name", ["North", "", "../north", "a b"])
def test_a_name_that_studies_do_not_take_makes_no_key(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="name: at most 32 lower-case letters") as caught:
        init_site(tmp_path / "site", name, make_supernode_key)
    assert "file" not in caught.value.hint  # there is none to correct
    assert not (tmp_path / "site").exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        init_site(tmp_path / "file" / "site", "north", make_supernode_key)


def test_a_second_init_in_one_folder_changes_nothing(tmp_path: Path) -> None:
    run(tmp_path, "--name", "north")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for name in ("north", "south"):
        with pytest.raises(ConfigError, match="exists already"):
            run(tmp_path, "--name", name)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_two_users_are_two_names_of_this_machine_and_roots_to_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = ("--name", "north", "--agent-user", "daemon", "--gateway-user")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(ConfigError, match="no user nosuchuser"):
        run(tmp_path / "b", *two, "nosuchuser")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigError, match="Only root can give each of two users its files"):
        run(tmp_path / "b", *two, "nobody")
    assert not (tmp_path / "b").exists()
    with pytest.raises(ConfigError, match="Two users are two names"):
        run(tmp_path / "b", "--name", "north", "--agent-user", "craftsfl")
    with pytest.raises(ConfigError, match="Two users are two names"):
        run(tmp_path / "b", "--name", "north", "--agent-user", "one", "--gateway-user", "one")


def test_a_card_can_be_made_again_from_the_keys(tmp_path: Path) -> None:
    run(tmp_path, "--name", "north", "--organisation", "St. Mary")
    before = (tmp_path / "north.card").read_bytes()
    (tmp_path / "north.card").unlink()
    done = CliRunner().invoke(
        app, ["site", "card", str(tmp_path / "site.toml"), "--organisation", "St. Mary"]
    )
    assert done.exit_code == 0 and "north.card" in done.output
    assert (tmp_path / "north.card").read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "north"', 'name = "south"', "was changed after its hospital signed it"),
        ("ecdsa-sha2-nistp384 AAAA", "ecdsa-sha2-nistp384 AAAB", "was changed after"),
        ("St. Mary", "St. Maria", "was changed after"),
        ("signature = ", "# signature = ", "is not signed"),
        ('name = "north"', 'name = "../north"', "at most 32 lower-case letters"),
    ],
)
def test_a_card_counts_as_its_hospital_signed_it(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    run(tmp_path, "--name", "north", "--organisation", "St. Mary")
    card = tmp_path / "north.card"
    assert old in card.read_text()
    card.write_text(card.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=says):
        read_card(card)


@pytest.mark.parametrize(
    ("organisation", "says"),
    [
        ("ü" * 33, "66 bytes, and a roster takes 64"),
        ("St.\nMary", "cannot be printed"),
        (" ", "none"),
    ],
)
def test_an_organisation_that_no_roster_lists_makes_no_key(
    tmp_path: Path, organisation: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        run(tmp_path / "site", "--name", "north", "--organisation", organisation)
    assert not (tmp_path / "site").exists()
