"""`craftsfl site join`: what is refused before anybody is asked, and what a yes changes."""

from __future__ import annotations

import datetime
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.agent.startup import load, load_rules
from client.agent.state import StateFolder
from client.policy import SiteRules, limits_of
from client.settings import load_policy, load_site
from craftsfl.cli import app
from craftsfl.site.check.finding import Fact, Finding
from craftsfl.site.check.study import check_roster
from craftsfl.site.joining.authority import check_authority
from craftsfl.site.joining.earlier import earlier_names
from privacy.budget import Book, cannot_end
from privacy.error_ids import ErrorId
from privacy.errors import CraftsflError
from privacy.files import lock
from privacy.identity import fingerprint, load_identity, make_identity
from privacy.ledger import AttemptKey, Entry, State
from privacy.secagg.chain import AgreedRoster, read_rosters, write_rosters
from privacy.secagg.roster import SignedRoster, add_signature, propose_roster
from privacy.study.invitation import invitation_of, read_invitation, write_invitation
from privacy.study.manifest import load_study
from tests.craftsfl.founded import NAMES, fingerprint_in, invite, type_in
from tests.privacy.secagg.consortium import roster_of

YES = "y\ny\n"


@dataclass(frozen=True)
class World:
    """A consortium that has invited three hospitals."""

    folder: Path
    digits: str

    @property
    def invitation(self) -> Path:
        return self.folder / "colon" / "invitation.cfl"

    def site(self, name: str = "north") -> Path:
        return self.folder / name / "site.toml"

    def join(self, name: str = "north", *words: object, answers: str | None = None) -> str:
        typed = f"{self.digits}\n{YES}" if answers is None else answers
        return type_in("site", "join", self.site(name), self.invitation, *words, answers=typed)

    def refused(
        self, name: str = "north", *words: object, answers: str | None = None
    ) -> CraftsflError:
        before = self.files(name)
        with pytest.raises(CraftsflError) as caught:
            self.join(name, *words, answers=answers)
        assert self.files(name) == before and caught.value.hint
        return caught.value

    def files(self, name: str = "north") -> dict[str, bytes]:
        own = self.folder / name
        return {str(p.relative_to(own)): p.read_bytes() for p in own.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("joining")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRAFTSFL_CACHE", str(folder / "cache"))
        return World(folder, invite(folder))


@pytest.fixture
def world(master: World, tmp_path: Path) -> World:
    for name in ("colon", *NAMES):
        shutil.copytree(master.folder / name, tmp_path / name)
    for name in NAMES:
        path = tmp_path / name / "site.toml"
        path.write_text(path.read_text().replace(str(master.folder), str(tmp_path)))
    shutil.copytree(master.folder / "tiles", tmp_path / "tiles")
    return World(tmp_path, master.digits)


def test_what_is_shown_and_kept(world: World) -> None:
    told = world.join()
    invitation = read_invitation(world.invitation)
    for name in NAMES:
        key = load_identity(world.folder / name / "site.key").public
        assert fingerprint(key) in told
    assert invitation.rosters.roster.fingerprint() in told
    assert "6 steps and 1 spare attempt, each charged" in told and "at delta 5e-06" in told
    assert f"Joined. Next: craftsfl site serve {world.site()}" in told
    loaded = load(world.site())  # as the agent reads it: policy, study, key, roster
    assert loaded.rules.study.digest() == invitation.study.digest()
    assert loaded.roster.lacking == 1 and loaded.roster.signed_by(loaded.membership.identity.public)
    assert loaded.settings.gateway is not None
    assert loaded.settings.gateway.superlink == "localhost:9092"
    assert loaded.settings.gateway.root_certificates is not None
    assert loaded.settings.gateway.root_certificates.read_text() == invitation.authority


def test_the_policy_allows_the_whole_study_and_no_more(world: World) -> None:
    world.join()
    study, policy = (
        load_study(world.folder / "north" / "study.toml"),
        load_policy(world.folder / "north" / "policy.toml"),
    )
    rules = SiteRules("north", study, policy)
    rules.check()
    rules.check_budget()
    assert (
        cannot_end(rules.charges, Book().allowance(limits_of(policy), rules.charges.charge)) is None
    )
    assert policy.studies == (study.digest().hex(),) and policy.bases == (study.base.digest,)
    for change in (
        {"rounds": study.rounds + 1},
        {"adapter": study.adapter.model_copy(update={"rank": 2})},
        {"training": study.training.model_copy(update={"noise_multiplier": 1.0})},
    ):
        other = study.model_copy(update=change)
        with pytest.raises(CraftsflError, match="The policy forbids"):
            SiteRules("north", other, policy).check()


def test_a_no_changes_nothing(world: World) -> None:
    before = world.files()
    for answers in ("n\n", "y\nn\n"):
        done = CliRunner().invoke(
            app,
            ["site", "join", str(world.site()), str(world.invitation)],
            input=f"{world.digits}\n{answers}",
        )
        assert done.exit_code == 1 and "othing was changed" in done.output
        assert world.files() == before


def test_digits_from_the_phone_are_typed_as_people_type_them(world: World) -> None:
    assert "Joined" in world.join(answers=f"{world.digits.replace(' ', '-')}\n{YES}")


@pytest.mark.parametrize("digits", ["one other", "12345 67890 12345 67890 12345 67890"])
def test_another_fingerprint_is_refused_before_anything_is_shown(world: World, digits: str) -> None:
    if digits == "one other":
        digits = world.digits[:-1] + str((int(world.digits[-1]) + 1) % 10)
    error = world.refused(answers=f"{digits}\n{YES}")
    assert error.id == ErrorId.FINGERPRINT_DIFFERS
    assert "have it sent another way" in error.hint


def test_a_fingerprint_that_is_too_short_is_no_other_one(world: World) -> None:
    error = world.refused(answers=f"{world.digits[:-1]}\n{YES}")
    assert error.id == ErrorId.FINGERPRINT_DIFFERS
    assert "30 digits, and 29" in error.message
    assert "read it out on the phone" in error.hint


def changed(old: str, new: str) -> Callable[[World], None]:
    """On its way: something in the file."""

    def action(world: World) -> None:
        text = world.invitation.read_text()
        assert old in text
        world.invitation.write_text(text.replace(old, new))

    return action


def other_signer(world: World) -> None:
    """Somebody puts an authority of their own into it."""
    made = read_invitation(world.invitation)
    write_invitation(
        world.invitation, invitation_of(made.superlink, "theirs", made.rosters, made.study_text)
    )


@pytest.mark.parametrize(
    "action",
    [
        changed("localhost:9092", "elsewhere.example:9092"),
        changed("rounds = 6 ", "rounds = 5 "),
        changed("declared_patients = 12", "declared_patients = 13"),
        other_signer,
    ],
    ids=["address", "steps", "patients", "authority"],
)
def test_whatever_is_changed_on_the_way_changes_the_fingerprint(
    world: World, action: Callable[[World], None]
) -> None:
    action(world)
    assert world.refused().id == ErrorId.FINGERPRINT_DIFFERS


@pytest.mark.parametrize(
    ("action", "says"),
    [
        (changed("format = 1", "format = 2"), "format"),
        (changed('rosters = "', 'rosters = "!'), "its rosters are damaged"),
        (changed('rosters = "Y3Jh', 'rosters = "AAAA'), "its rosters are damaged|does not begin"),
        (changed("superlink = ", "superlinks = "), "unknown key superlinks"),
        (changed("noise_multiplier", "noise_multiplyer"), "noise_multiplyer"),
    ],
    ids=["format", "text", "bytes", "key", "study"],
)
def test_what_is_damaged_is_no_invitation(
    world: World, action: Callable[[World], None], says: str
) -> None:
    action(world)
    error = world.refused()
    assert error.id == ErrorId.INVITATION_UNUSABLE
    assert any(part in error.message for part in says.split("|")), error.message
    assert "rounds add makes it" in error.hint


def test_an_invitation_for_another_key_is_refused_first(world: World) -> None:
    """Also where the fingerprint is right: somebody sent a card in this hospital's name."""
    own = world.folder / "north"
    (own / "site.key").unlink()
    (own / "site.key.ledger").unlink()
    make_identity(own / "site.key")
    error = world.refused()
    assert "lists another key for north" in error.message
    assert error.id == ErrorId.INVITATION_UNUSABLE and "on the phone" in error.hint


def test_an_invitation_for_others_is_refused(world: World) -> None:
    path = world.site()
    path.write_text(path.read_text().replace('name = "north"', 'name = "south"'))
    error = world.refused()
    assert "not for south: its roster lists north, harbour, hillside" in error.message


def test_a_key_that_others_can_read_is_refused(world: World) -> None:
    (world.folder / "north" / "site.key").chmod(0o644)
    assert "others can read or change it" in world.refused().message


def test_yes_needs_a_fingerprint_and_no_doubt(world: World) -> None:
    assert "nobody has compared" in world.refused("north", "--yes").message
    table = world.folder / "tiles" / "north" / "metadata.csv"
    names = [f"{number}.svs" for number in range(100)]
    rows = table.read_text().splitlines()
    header = rows[0].split(",")
    at = header.index("patient_id")
    fixed = [line.split(",") for line in rows[1:]]
    for row, name in zip(fixed, names, strict=False):
        row[at] = name
    table.write_text("\n".join([rows[0], *(",".join(row) for row in fixed)]) + "\n")
    scripted = ("--yes", "--expect-fingerprint", world.digits)
    error = world.refused("north", *scripted)
    assert error.id == ErrorId.PERSONS_UNCONFIRMED and "--patient-ids-confirmed" in error.hint
    assert "Joined" in world.join("north", *scripted, "--patient-ids-confirmed", answers="")


def test_an_agent_that_runs_has_to_be_told(world: World) -> None:
    """It goes on with the study that it knows, and a second `site serve` would not start."""
    state = StateFolder(load_site(world.site()).agent.state)
    state.agent_lock.parent.mkdir(parents=True, exist_ok=True)
    held = lock(state.agent_lock)
    try:
        assert f"Next: craftsfl site reload {world.site()}, since" in world.join()
    finally:
        os.close(held)


def test_joining_again_is_harmless(world: World) -> None:
    world.join()
    before = world.files()
    told = world.join()  # ids were confirmed: it does not ask again
    after = world.files()
    assert "Joined" in told
    assert {name for name in after if not name.startswith("earlier/")} == set(before)
    assert {name: after[name] for name in before} == before


def test_rosters_of_another_consortium_or_older_ones_are_refused(world: World) -> None:
    world.join()
    old = world.invitation.read_bytes()
    file = world.folder / "north" / "roster.cfl"
    kept = file.read_bytes()
    write_rosters(file, [SignedRoster(roster_of([1, 2, 3]))])
    assert "do not continue those of test-consortium" in world.refused().message
    file.write_bytes(kept)
    write_rosters(file, successor(world).chain)
    world.invitation.write_bytes(old)
    assert "older than roster 2" in world.refused().message


def successor(world: World) -> AgreedRoster:
    """What this hospital has later: harbour and north have signed, and hillside has left."""
    (first,) = read_rosters(world.folder / "north" / "roster.cfl")
    signed: SignedRoster = first
    for name in ("north", "harbour"):
        signed = add_signature(signed, load_identity(world.folder / name / "site.key"), None)
    second = propose_roster(first.roster.members[:2], 2, predecessor=first.roster)
    return AgreedRoster((signed, second))


def entries_of(world: World, name: str = "north") -> list[Entry]:
    """As if every attempt of the joined study had been charged."""
    site = load_site(world.site(name))
    rules = SiteRules(name, load_study(site.study), load_policy(site.policy))
    charge, digest = rules.charges.charge, rules.study.digest()
    return [
        Entry(AttemptKey(digest, 1, number + 1, 1), charge, State.COMMITTED, number, 0.0, 0.0)
        for number in range(rules.charges.most)
    ]


class Ledger:
    """What `site join` reads of a ledger."""

    def __init__(self, entries: list[Entry]) -> None:
        self._entries = entries

    def entries(self) -> list[Entry]:
        return self._entries


def next_invitation(world: World, *options: object) -> str:
    sites = [word for name in NAMES for word in ("--site", f"{name}=12")]
    path = world.folder / f"next-{len(list(world.folder.iterdir()))}.toml"
    type_in("rounds", "plan", *sites, "--write", path, "--name", "colon-2", *options)
    told = type_in("rounds", "add", world.folder / "colon" / "consortium.toml", "--study", path)
    return fingerprint_in(told)


def test_a_second_study_takes_the_next_slice_of_the_same_budget(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.join()
    before = load_policy(world.folder / "north" / "policy.toml")
    spent = entries_of(world)
    monkeypatch.setattr(
        "craftsfl.site.joining.join.read_own_ledger", lambda state, site: Ledger(spent)
    )
    second = World(world.folder, next_invitation(world, "--steps", 6))
    told = second.join()
    assert "is used, " in told and "policy.toml will allow more than before" in told
    after = load_policy(world.folder / "north" / "policy.toml")
    assert (after.epsilon, after.delta) == (before.epsilon, before.delta)
    assert after.across_studies == before.across_studies
    study = load_study(world.folder / "north" / "study.toml")
    assert study.name == "colon-2" and set(after.studies) == {*before.studies, study.digest().hex()}
    assert earlier_names(world.folder / "north" / "study.toml") == {
        spent[0].charge.study_digest: "colon"
    }
    (kept,) = (world.folder / "north" / "earlier").iterdir()
    assert load_policy(kept / "policy.toml") == before
    # A third one is one too many, which is said before anybody is asked anything.
    charges = SiteRules("north", study, after).charges
    spent += [
        Entry(AttemptKey(study.digest(), 1, n + 1, 1), charges.charge, State.COMMITTED, n, 0.0, 0.0)
        for n in range(charges.most)
    ]
    third = World(world.folder, next_invitation(world, "--steps", 7))
    error = third.refused()
    assert "does not fit into what is left" in error.message
    assert "--lifetime-epsilon" in error.hint and "is left: ask the operator" in error.hint
    told = third.join("north", "--lifetime-epsilon", 20, "--expect-fingerprint", third.digits)
    assert load_policy(world.folder / "north" / "policy.toml").epsilon == 20


def test_who_wants_a_smaller_lifetime_budget_gets_it(world: World) -> None:
    world.join("north", "--lifetime-epsilon", 8)
    assert load_policy(world.folder / "north" / "policy.toml").epsilon == 8
    for no in (0, 1e9, "inf", "nan"):
        assert "is no budget" in world.refused("harbour", "--lifetime-epsilon", no).message
    error = world.refused("harbour", "--lifetime-epsilon", 4)
    assert "the lifetime budget would be 4" in error.message


def test_before_joining_serving_names_the_way(world: World) -> None:
    with pytest.raises(CraftsflError, match="has joined no study yet") as caught:
        type_in("site", "serve", world.site())
    assert "craftsfl site join" in caught.value.hint


def test_a_public_authority_is_named_nowhere_and_an_own_one_again(world: World) -> None:
    made = read_invitation(world.invitation)
    public = invitation_of(made.superlink, "", made.rosters, made.study_text)
    write_invitation(world.invitation, public)
    digits = public.fingerprint()
    world.join("north", "--expect-fingerprint", digits, "--yes", "--patient-ids-confirmed")
    site = load_site(world.site())
    assert site.gateway is not None and site.gateway.root_certificates is None
    write_invitation(world.invitation, made)
    world.join()
    site = load_site(world.site())
    assert site.gateway is not None and site.gateway.root_certificates is not None
    assert site.gateway.root_certificates.read_text() == made.authority


@pytest.mark.parametrize(
    ("days", "says"),
    [(-1, "valid from"), (4000, "expired on"), (0, "")],
    ids=["early", "late", "now"],
)
def test_the_authority_has_to_be_valid_by_this_clock(world: World, days: int, says: str) -> None:
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    authority = read_invitation(world.invitation).authority
    if not says:
        check_authority(authority, now)
        check_authority("", now)
        return
    with pytest.raises(CraftsflError, match=says) as caught:
        check_authority(authority, now)
    assert "clock" in caught.value.hint


def test_an_authority_that_is_none_is_refused(world: World) -> None:
    made = read_invitation(world.invitation)
    other = invitation_of(made.superlink, "theirs", made.rosters, made.study_text)
    write_invitation(world.invitation, other)
    error = world.refused(answers=f"{other.fingerprint()}\n{YES}")
    assert error.id == ErrorId.CERTIFICATE_UNUSABLE


def test_what_the_desk_is_told_of_a_roster_that_others_still_sign(world: World) -> None:
    world.join()
    told = [item for item in check_roster(load_rules(world.site())) if isinstance(item, Fact)]
    assert "waits for 1 signature of others" in told[0].value
    file = world.folder / "north" / "roster.cfl"
    write_rosters(file, [SignedRoster(read_rosters(file)[-1].roster)])
    (found,) = check_roster(load_rules(world.site()))
    assert isinstance(found, Finding) and "lacks this site's own" in found.words
