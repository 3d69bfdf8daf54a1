"""`craftsfl rounds add`: whose cards count, when there is an invitation, and later studies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from craftsfl.rounds.admissions import Admissions
from craftsfl.rounds.operator import superlink_of
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, CraftsflError, DeploymentError
from privacy.identity import load_identity
from privacy.secagg.card import read_card, write_card
from privacy.secagg.chain import read_rosters, write_rosters
from privacy.secagg.roster import add_signature
from privacy.study.invitation import read_invitation
from privacy.study.manifest import load_study
from server.clock import SystemClock
from server.runs import Runs
from server.settings import load_consortium
from tests.craftsfl.founded import (
    NAMES,
    fingerprint_in,
    init_consortium,
    init_hospitals,
    type_in,
)


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adding")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRAFTSFL_CACHE", str(folder / "cache"))
        init_consortium(folder)
    init_hospitals(folder)
    type_in("site", "init", folder / "valley", "--name", "valley")
    type_in("site", "init", folder / "posing", "--name", "north")
    return folder


@pytest.fixture
def folder(master: Path, tmp_path: Path) -> Path:
    shutil.copytree(master, tmp_path / "it")
    return tmp_path / "it"


def cards(folder: Path) -> list[Path]:
    return [folder / name / f"{name}.card" for name in NAMES]


def add(folder: Path, *words: object) -> str:
    return type_in("rounds", "add", folder / "colon" / "consortium.toml", *words)


def test_the_invitation_comes_with_the_last_card(folder: Path) -> None:
    first, *others = cards(folder)
    told = add(folder, first)
    assert "Cards are missing of harbour, hillside" in told
    assert not (folder / "colon" / "invitation.cfl").exists()
    told = add(folder, *others)
    made = read_invitation(folder / "colon" / "invitation.cfl")
    assert fingerprint_in(told) == made.fingerprint()
    assert [member.name for member in made.rosters.roster.members] == list(NAMES)
    assert made.rosters.unsigned == NAMES and made.rosters.lacking == 2
    study = load_study(folder / "colon" / "study.toml")
    assert study.digest() == made.study.digest()
    assert study.secure_aggregation.roster == made.rosters.roster.digest().hex()
    assert made.fingerprint() not in (folder / "colon" / "invitation.cfl").read_text()


def test_adding_the_same_cards_again_makes_the_same_invitation(folder: Path) -> None:
    told = [add(folder, *cards(folder)) for _ in range(2)]
    assert fingerprint_in(told[0]) == fingerprint_in(told[1])
    assert fingerprint_in(add(folder)) == fingerprint_in(told[0])


@pytest.mark.parametrize(
    ("names", "says", "cure"),
    [
        (["valley"], "the study does not list", "planned it"),
        (["north", "posing"], "another key's card than the one that north sent", "on the phone"),
    ],
)
def test_whose_cards_are_refused(folder: Path, names: list[str], says: str, cure: str) -> None:
    paths = [next((folder / name).glob("*.card")) for name in names]
    with pytest.raises(ConfigError, match=says) as caught:
        add(folder, *paths)
    assert cure in caught.value.hint and caught.value.id == ErrorId.CARD_UNUSABLE
    assert list((folder / "colon" / "cards").iterdir()) == []  # nothing of them was kept


def test_a_key_is_one_hospitals_alone(folder: Path) -> None:
    """Somebody with north's private key sends a card under another name."""
    identity = load_identity(folder / "north" / "site.key")
    stolen = read_card(cards(folder)[1]).signed(identity, str(read_card(cards(folder)[1]).node_key))
    write_card(folder / "stolen.card", stolen)
    with pytest.raises(ConfigError, match="shows a key that north has shown"):
        add(folder, cards(folder)[0], folder / "stolen.card")


def test_a_listed_hospital_keeps_its_key(folder: Path) -> None:
    add(folder, *cards(folder))
    (folder / "colon" / "cards" / "north.card").unlink()
    with pytest.raises(ConfigError, match="another key than the roster lists for north"):
        add(folder, folder / "posing" / "north.card")


def test_a_card_of_an_earlier_version_is_told_what_it_lacks(folder: Path) -> None:
    path = cards(folder)[0]
    lines = [line for line in path.read_text().splitlines() if "node_key" not in line]
    path.write_text("\n".join(line for line in lines if "signature" not in line))
    with pytest.raises(ConfigError, match="does not name the key of the hospital's gateway") as c:
        add(folder, path)
    assert "craftsfl site card" in c.value.hint


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n", "abc".encode("utf-16"), b"a = 1\n", None]
)
def test_an_authority_that_is_none_is_told_before_anything_is_written(
    folder: Path, content: bytes | None
) -> None:
    authority = folder / "colon" / "tls" / "ca.pem"
    authority.unlink()
    if content is None:
        authority.mkdir()
    else:
        authority.write_bytes(content)
    with pytest.raises(ConfigError, match=r"authority .*ca\.pem cannot be used: ") as caught:
        add(folder, *cards(folder))
    assert caught.value.id == ErrorId.CERTIFICATE_UNUSABLE
    assert not (folder / "colon" / "invitation.cfl").exists()
    assert not (folder / "colon" / "roster.cfl").exists()


def test_while_a_run_is_open_nothing_changes(folder: Path) -> None:
    add(folder, *cards(folder))
    settings = load_consortium(folder / "colon" / "consortium.toml")
    settings.state.mkdir()
    with Runs(settings.database_url(), SystemClock()) as runs:
        runs.begin(load_study(settings.study))
    with pytest.raises(ConfigError, match="is open: its study and roster stay"):
        add(folder, *cards(folder))


def sign(folder: Path, *names: str) -> None:
    """As the sites' signatures come through the coordinator."""
    file = folder / "colon" / "roster.cfl"
    *earlier, signed = read_rosters(file)
    before = earlier[-1].roster if earlier else None
    for name in names:
        signed = add_signature(signed, load_identity(folder / name / "site.key"), before)
    write_rosters(file, [*earlier, signed])


def next_study(folder: Path, *names: str) -> Path:
    sites = [word for name in names for word in ("--site", f"{name}=12")]
    path = folder / "next.toml"
    type_in("rounds", "plan", *sites, "--steps", 6, "--write", path, "--name", "colon-2")
    return path


def test_a_later_study_of_the_same_hospitals_needs_no_new_roster(folder: Path) -> None:
    add(folder, *cards(folder))
    sign(folder, "north", "harbour")
    first = read_invitation(folder / "colon" / "invitation.cfl")
    told = add(folder, "--study", next_study(folder, *NAMES))
    second = read_invitation(folder / "colon" / "invitation.cfl")
    assert second.rosters.roster == first.rosters.roster and not second.rosters.lacking
    assert first.study.pooled is not None and second.study.pooled is not None
    assert first.study.pooled.coordinator_key == second.study.pooled.coordinator_key
    assert second.study.name == "colon-2" and fingerprint_in(told) != first.fingerprint()
    (kept,) = (folder / "colon" / "earlier").iterdir()
    assert load_study(kept).digest() == first.study.digest()


def test_who_joins_later_is_let_in_by_who_was_there(folder: Path) -> None:
    add(folder, *cards(folder))
    later = next_study(folder, *NAMES, "valley")
    valley = folder / "valley" / "valley.card"
    with pytest.raises(CraftsflError, match="is still being signed"):
        add(folder, "--study", later, valley)
    sign(folder, "north", "harbour")
    add(folder, "--study", later, valley)
    made = read_invitation(folder / "colon" / "invitation.cfl")
    assert [member.name for member in made.rosters.roster.members] == [*NAMES, "valley"]
    assert made.rosters.unsigned == NAMES and made.rosters.lacking == 2


def test_who_leaves_is_named_and_let_go_by_who_was_there(folder: Path) -> None:
    valley = folder / "valley" / "valley.card"
    add(folder, *cards(folder))
    sign(folder, "north", "harbour")
    add(folder, "--study", next_study(folder, *NAMES, "valley"), valley)
    sign(folder, "north", "harbour")
    (folder / "next.toml").unlink()
    later = next_study(folder, *NAMES)
    with pytest.raises(ConfigError, match=r"does not list valley.*--without valley"):
        add(folder, "--study", later)
    told = add(folder, "--study", later, "--without", "valley")
    assert "valley has left" in told
    made = read_invitation(folder / "colon" / "invitation.cfl")
    assert [member.name for member in made.rosters.roster.members] == list(NAMES)
    assert made.rosters.unsigned == (*NAMES, "valley") and made.rosters.lacking == 3
    left = folder / "colon" / "cards" / "left"
    assert sorted(path.name for path in left.iterdir()) == ["valley.card", "valley.pub"]
    assert not list((folder / "colon" / "cards").glob("valley*"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("somewhere", "the roster does not list it. It lists north, harbour, hillside"),
        (
            "harbour",
            "the study colon lists it. Plan the next study without it: craftsfl rounds plan "
            "--site north=12 --site hillside=12",
        ),
    ],
)
def test_nobody_else_is_left_out(folder: Path, name: str, says: str) -> None:
    add(folder, *cards(folder))
    before = (folder / "colon" / "invitation.cfl").read_bytes()
    with pytest.raises(ConfigError) as caught:
        add(folder, "--without", name)
    assert says in str(caught.value)
    assert (folder / "colon" / "invitation.cfl").read_bytes() == before


def test_gateways_are_admitted_once_the_superlink_answers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(folder, *cards(folder))
    settings = load_consortium(folder / "colon" / "consortium.toml")
    asked: list[str] = []
    answers: list[Exception | None] = [
        DeploymentError("silent", id=ErrorId.SUPERLINK_SILENT),
        ConfigError("there", id=ErrorId.KEY_ADMITTED),
        None,
        None,
    ]

    def register(link: object, path: Path) -> int:
        asked.append(path.stem)
        if (error := answers.pop(0)) is not None:
            raise error
        return 7

    monkeypatch.setattr("craftsfl.rounds.admissions.register_node", register)
    admissions = Admissions(settings, superlink_of(settings))
    cards_folder = folder / "colon" / "cards"
    admissions.look(cards_folder)
    assert asked == ["harbour", "hillside", "north"]
    admissions.look(cards_folder)  # only the one to which nobody answered
    assert asked[3:] == ["harbour"] and answers == []
    admissions.look(cards_folder)
    assert len(asked) == 4
    admissions.close()
