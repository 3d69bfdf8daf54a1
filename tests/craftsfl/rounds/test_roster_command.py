"""A roster agreed on by files that go from hand to hand, as people type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from craftsfl.cli import app
from privacy.errors import ConfigError, SecAggError
from privacy.identity import fingerprint, make_identity
from privacy.secagg.card import SiteCard, read_card, write_card
from privacy.secagg.chain import in_force, read_rosters

NAMES = ("north", "harbour", "hillside")


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["rounds", "roster", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def facts(file: Path) -> dict[str, object]:
    return json.loads(run("show", file, "--json"))


def site(folder: Path, name: str, passphrase: bytes | None = None) -> Path:
    identity = make_identity(folder / f"{name}.key", passphrase)
    card = folder / f"{name}.card"
    organisation = f"Hospital [{name}] Ü"
    public = identity.public.hex()
    write_card(card, SiteCard(name=name, organisation=organisation, public_key=public))
    return card


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A first roster that two of three members have signed."""
    cards = [site(tmp_path, name) for name in NAMES]
    file = tmp_path / "roster.cfl"
    run("propose", file, *cards, "--consortium", "lung")
    for name in NAMES[:2]:
        run("sign", file, "--key", tmp_path / f"{name}.key")
    return file


def test_a_card_is_read_as_it_was_written(tmp_path: Path) -> None:
    card = read_card(site(tmp_path, "north"))
    assert (card.name, card.organisation) == ("north", "Hospital [north] Ü")
    assert fingerprint(card.key) in (tmp_path / "north.card").read_text()


def test_a_first_roster_is_proposed_signed_and_shown(tmp_path: Path) -> None:
    cards = [site(tmp_path, name) for name in NAMES]
    file = tmp_path / "roster.cfl"
    assert "0 of 2 signatures" in run("propose", file, *cards, "--consortium", "lung")
    with pytest.raises(SecAggError, match="0 of 2 signatures"):
        in_force(read_rosters(file), read_rosters(file)[-1].roster.digest())
    assert "1 of 2" in run("sign", file, "--key", tmp_path / "north.key")
    text = run("sign", file, "--key", tmp_path / "hillside.key")
    assert "in force" in text
    roster = read_rosters(file)[-1].roster
    assert text.count(roster.fingerprint()) == 2  # before it is signed, and after
    shown = run("show", file)
    assert f'roster = "{roster.digest().hex()}"' in shown
    for name in NAMES:
        member = roster.member_named(name)
        assert member is not None
        assert fingerprint(member.public_key) in shown
        assert f"Hospital [{name}] Ü{{U+00DC}}" in shown
    assert in_force(read_rosters(file), roster.digest()) == roster
    assert facts(file)["signed"] in (["north", "hillside"], ["hillside", "north"])


def test_signatures_that_were_given_in_two_places_are_merged(tmp_path: Path) -> None:
    cards = [site(tmp_path, name) for name in NAMES]
    one, two = tmp_path / "one.cfl", tmp_path / "two.cfl"
    run("propose", one, *cards, "--consortium", "lung", "--quorum", 3)
    two.write_bytes(one.read_bytes())
    run("sign", one, "--key", tmp_path / "north.key")
    run("sign", two, "--key", tmp_path / "harbour.key")
    run("sign", one, "--key", tmp_path / "hillside.key", "--merge", two)
    assert facts(one)["state"] == "in force"
    assert sorted(facts(one)["signed"]) == sorted(NAMES)  # type: ignore[call-overload]


def test_a_successor_names_its_predecessor_and_keeps_ids(first: Path, tmp_path: Path) -> None:
    pinned = read_rosters(first)[-1].roster
    after = tmp_path / "next.cfl"
    run("propose", after, site(tmp_path, "valley"), "--after", first, "--without", "harbour")
    assert facts(after)["state"] == "0 of 2 signatures"
    run("sign", after, "--key", tmp_path / "harbour.key")  # who leaves may sign, too
    run("sign", after, "--key", tmp_path / "hillside.key")
    roster = in_force(read_rosters(after), pinned.digest())
    assert [(m.site, m.name) for m in roster.members] == [
        (1, "north"),
        (3, "hillside"),
        (4, "valley"),
    ]
    assert (roster.sequence, roster.predecessor) == (2, pinned.digest())


def test_a_cyrillic_look_alike_is_marked_where_it_is_shown(tmp_path: Path) -> None:
    """An organisation that reads like a trusted one; sites' names are small ASCII letters only."""
    keys = [make_identity(tmp_path / f"{number}.key") for number in range(3)]
    cards = []
    for number, organisation in enumerate(("North Hospital", "Nоrth Hospital", "xаy")):
        card = SiteCard(
            name=f"s{number}", organisation=organisation, public_key=keys[number].public.hex()
        )
        cards.append(tmp_path / f"{number}.card")
        write_card(cards[-1], card)
    file = tmp_path / "roster.cfl"
    shown = run("propose", file, *cards, "--consortium", "lung")
    assert "North Hospital" in shown
    assert "Nо{U+043E}rth Hospital" in shown
    assert "xа{U+0430}y" in shown
    assert "N\\u043erth Hospital" in run("show", file, "--json")
    with pytest.raises(ConfigError, match="name"):
        read_card(_renamed(cards[0], "nоrth"))


def _renamed(card: Path, name: str) -> Path:
    card.write_text(card.read_text("utf-8").replace('"s0"', f'"{name}"'), "utf-8")
    return card


def test_an_id_is_not_given_twice_even_to_who_comes_years_later(
    first: Path, tmp_path: Path
) -> None:
    """The site with the highest id leaves; a newcomer and a returning member are told apart."""
    file, signers = first, ("north", "harbour")
    for step, (cards, without) in enumerate(
        [([], "hillside"), (["valley"], None), ([], "valley"), (["moor", "hillside"], None)]
    ):
        after = tmp_path / f"{step}.cfl"
        new = [
            tmp_path / f"{name}.card" if name == "hillside" else site(tmp_path, name)
            for name in cards
        ]
        run("propose", after, *new, "--after", file, *(["--without", without] if without else []))
        for name in signers:
            run("sign", after, "--key", tmp_path / f"{name}.key")
        file = after
    members = facts(file)["members"]
    named = {member["name"]: member["id"] for member in members}  # type: ignore[attr-defined]
    assert named == {"north": 1, "harbour": 2, "hillside": 3, "moor": 5}


def test_a_site_changes_its_key_by_a_new_card(first: Path, tmp_path: Path) -> None:
    (tmp_path / "north.key").rename(tmp_path / "old.key")
    after = tmp_path / "next.cfl"
    run("propose", after, site(tmp_path, "north"), "--after", first)
    for key in ("old", "harbour"):
        run("sign", after, "--key", tmp_path / f"{key}.key")
    members = facts(after)["members"]
    assert [member["id"] for member in members] == [1, 2, 3]  # type: ignore[attr-defined]
    assert facts(after)["state"] == "in force"


def test_who_has_no_say_cannot_sign(first: Path, tmp_path: Path) -> None:
    site(tmp_path, "stranger")
    before = first.read_bytes()
    with pytest.raises(SecAggError, match="not among those who sign"):
        run("sign", first, "--key", tmp_path / "stranger.key")
    assert first.read_bytes() == before


def test_a_key_with_a_passphrase_is_asked_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = [site(tmp_path, name, b"open sesame") for name in NAMES]
    file = tmp_path / "roster.cfl"
    run("propose", file, *cards, "--consortium", "lung")
    arguments = ["rounds", "roster", "sign", str(file), "--key", str(tmp_path / "north.key")]
    done = CliRunner().invoke(app, arguments, input="open sesame\n")
    assert done.exit_code == 0
    assert "open sesame" not in done.output
    monkeypatch.setenv("CRAFTSFL_IDENTITY_PASSPHRASE", "open sesame")
    run("sign", file, "--key", tmp_path / "harbour.key")
    assert facts(file)["state"] == "in force"


def test_what_cannot_be_proposed_is_refused_in_words(first: Path, tmp_path: Path) -> None:
    card = tmp_path / "north.card"
    with pytest.raises(ConfigError, match="exists already"):
        run("propose", first, card, "--consortium", "lung")
    with pytest.raises(ConfigError, match="consortium's name"):
        run("propose", tmp_path / "x.cfl", card)
    with pytest.raises(ConfigError, match="does not list nobody"):
        run("propose", tmp_path / "x.cfl", "--after", first, "--without", "nobody")
    with pytest.raises(ConfigError, match=r"not a file of rosters"):
        run("show", card)
    with pytest.raises(ConfigError, match=r"unknown key|missing"):
        file = tmp_path / "bad.card"
        file.write_text('name = "north"\n')
        run("propose", tmp_path / "x.cfl", file, "--consortium", "lung")


def test_an_unfinished_roster_has_no_successor(tmp_path: Path) -> None:
    cards = [site(tmp_path, name) for name in NAMES]
    file = tmp_path / "roster.cfl"
    run("propose", file, *cards, "--consortium", "lung")
    with pytest.raises(SecAggError, match="0 of 2 signatures"):
        run("propose", tmp_path / "next.cfl", "--after", file, "--without", "north")
