"""Mistakes of new users: each ends in a sentence with the cure, at the desk of who can mend it.

One row for each mistake that was tried on people's behalf (the numbers are theirs), made on files
that the commands of the first hour have made. What needs whole processes is tested where those are:
`ELSEWHERE` says where, and that the test exists.
"""

from __future__ import annotations

import getpass
import shutil
from pathlib import Path

import pytest
from cryptography import x509

from craftsfl.passphrase import PASSPHRASE, new_passphrase
from craftsfl.processes.supervisor import claim_port
from craftsfl.site.check.command import check_before_serving
from craftsfl.site.check.finding import CheckId
from privacy.errors import CraftsflError
from tests.craftsfl.founded import NAMES, invite, type_in
from tests.craftsfl.mistakes import (
    Four,
    Mistake,
    after,
    base_elsewhere,
    edit,
    gone,
    mode,
    no_cards_yet,
    placeholders,
    port_in_use,
    roster_of_two,
    roster_without_the_own_signature,
    second_study_of_one_delta,
    sign_with_the_gateways_key,
    somebody_elses_key,
    start_twice,
    status,
    study_above_the_budget,
    zeros,
)
from tests.craftsfl.rounds.certificates import certify

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mistakes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRAFTSFL_CACHE", str(folder / "cache"))
        digits = invite(folder)
    for name in NAMES:
        site, invitation = folder / name / "site.toml", folder / "colon" / "invitation.cfl"
        type_in("site", "join", site, invitation, "--yes", "--expect-fingerprint", digits,
                "--patient-ids-confirmed")  # fmt: skip
    return folder


@pytest.fixture
def four(master: Path, tmp_path: Path) -> Four:
    for name in ("colon", "tiles", *NAMES):
        shutil.copytree(master / name, tmp_path / name)
    for name in NAMES:
        site = tmp_path / name / "site.toml"
        site.write_text(site.read_text().replace(str(master), str(tmp_path)))
    four = Four(tmp_path)
    four.edit("colon/consortium.toml", "port = 9092", f"port = {claim_port('127.0.0.1', None)}")
    return four


_ELSEWHERE = (x509.DNSName("consortium.example.org"),)
SERVE: Mistake = Four.serve
START: Mistake = Four.start
AGENT: Mistake = Four.agent

# Number and kind -> the mistake, what is said, and the cure that has to be named.
MISTAKES: dict[str, tuple[Mistake, str, str]] = {
    "1 no names in the certificate": (
        lambda four: (certify(four.colon, names=_ELSEWHERE), four.serve()),
        "does not name 127.0.0.1",
        "subject alternative name IP:127.0.0.1",
    ),
    "2 no authority": (
        after(gone("colon/tls/ca.pem"), SERVE),
        "ca.pem cannot be read",
        "operator.md",
    ),
    "2 no secret": (
        after(gone("colon/superexec.secret"), SERVE),
        "superexec.secret",
        "openssl rand",
    ),
    "3 secret 0644": (
        after(mode("colon/superexec.secret", 0o644), SERVE),
        "others can read",
        "chmod 600",
    ),
    "5 port in use": (
        port_in_use,
        "Port",
        "or choose another port: port in the [superlink] table of consortium.toml.",
    ),
    "6 serve with placeholders": (
        placeholders,
        "still has a placeholder",
        "craftsfl model install",
    ),
    "6 serve without hospitals": (no_cards_yet, "there is none yet", "craftsfl rounds add"),
    "7 start without a SuperLink": (
        START,
        "does not answer: Connection refused.",
        "craftsfl rounds serve",
    ),
    "7 register without a SuperLink": (
        lambda four: type_in(
            "rounds", "register", four.colon / "consortium.toml", four.north / "supernode.pub"
        ),
        "does not answer",
        "craftsfl rounds serve",
    ),
    "9 status before a run": (status, "No run has started yet", "craftsfl rounds start"),
    "10 typo in study.toml": (
        after(edit("colon/study.toml", "min_sites", "min_site"), START),
        "did you mean min_sites",
        "Correct the file",
    ),
    "10 typo in site.toml": (
        after(edit("north/site.toml", "roster = ", "rooster = "), AGENT),
        "did you mean roster",
        "Correct the file",
    ),
    "10 typo in policy.toml": (
        after(edit("north/policy.toml", "max_rank", "max_ranks"), AGENT),
        "did you mean max_rank",
        "Correct the file",
    ),
    "10 typo in consortium.toml": (
        after(edit("colon/consortium.toml", "authority", "autority"), SERVE),
        "did you mean authority",
        "Correct the file",
    ),
    "11 wrong type": (
        after(edit("colon/study.toml", "rounds = 6", 'rounds = "6"'), START),
        "study.toml: rounds",
        "Correct the file",
    ),
    "11 delta 1e-3": (
        after(edit("north/policy.toml", "delta = 1e-05", "delta = 1e-3"), AGENT),
        "policy.toml: delta",
        "Correct the file",
    ),
    "11 capital name": (
        after(edit("north/site.toml", 'name = "north"', 'name = "North"'), AGENT),
        "lower-case letters",
        "Correct the file",
    ),
    "13 signed with supernode.key": (
        sign_with_the_gateways_key,
        "supernode.key is not an identity key",
        "Check both",
    ),
    "14 roster of two": (roster_of_two, "A roster of 2", "three at least"),
    "15 own signature missing": (
        roster_without_the_own_signature,
        "0 of 2 signatures",
        "craftsfl rounds roster sign",
    ),
    "16 base not installed": (base_elsewhere, "is not on this machine", "craftsfl model install"),
    "17 study above the budget": (
        study_above_the_budget,
        "the lifetime budget would be 1",
        "Ask the operator for a study that costs less",
    ),
    "19 second study, delta": (
        second_study_of_one_delta,
        "deltas of all studies sum to",
        "craftsfl rounds plan --studies",
    ),
    "20 wrong site name": (
        after(edit("north/site.toml", 'name = "north"', 'name = "west"'), AGENT),
        "does not list a site called west",
        "Correct `name` in site.toml",
    ),
    "20 another's name": (
        after(edit("north/site.toml", 'name = "north"', 'name = "harbour"'), AGENT),
        "this site's key is",
        "[identity] in site.toml",
    ),
    "20 another's key": (somebody_elses_key, "this site's key is", "[identity] in site.toml"),
    "20 roster in the policy": (
        after(zeros("north/policy.toml", "roster"), AGENT),
        "is not the policy's `roster`",
        "Change policy.toml",
    ),
    "20 base in the policy": (
        after(zeros("north/policy.toml", "bases"), AGENT),
        "is not among `bases`",
        "Change policy.toml",
    ),
    "20 study in the policy": (
        after(zeros("north/policy.toml", "studies"), AGENT),
        "is not among `studies`",
        "Change policy.toml",
    ),
    "21 site.key 0644": (
        after(mode("north/site.key", 0o644), AGENT),
        "others can read or change it",
        "chmod 600",
    ),
    "31 start twice": (start_twice, "is still open", "craftsfl rounds"),
    "42 register another file": (
        lambda four: type_in(
            "rounds", "register", four.colon / "consortium.toml", four.north / "site.toml"
        ),
        "is not a SuperNode's public key",
        ".pub file that craftsfl site init made",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_ends_with_its_cure(four: Four, mistake: str) -> None:
    action, says, cure = MISTAKES[mistake]
    with pytest.raises(CraftsflError) as caught:
        action(four)
    assert says in caught.value.message
    assert cure in caught.value.hint
    for text in (caught.value.message, caught.value.hint):
        assert "Traceback" not in text and "Error:" not in text
    for name in NAMES:  # nothing was charged, and nothing was lost
        assert not (four.folder / name / "state").exists()


def typed(*words: str) -> Mistake:
    """A command; `@` stands for the folder in which everybody's folders are."""
    return lambda four: type_in(*(word.replace("@", str(four.folder)) for word in words))


SETTINGS, INVITATION = "@/colon/consortium.toml", "@/colon/invitation.cfl"
SITE = "@/north/site.toml"
# Kind -> the mistake, what is said, and the cure: of newcomers who came later.
LATER_MISTAKES: dict[str, tuple[Mistake, str, str]] = {
    "no number of patients": (
        typed("rounds", "init", "@/new", "--site", "north"),
        "does not say how many patients",
        "--site north=160",
    ),
    "a path as a name": (
        typed("rounds", "plan", "--site", "../x=40", "--site", "b=40", "--site", "c=40"),
        "lower-case letters, digits and hyphens",
        "craftsfl site init --name",
    ),
    "site.toml in place of a card": (
        typed("rounds", "add", SETTINGS, SITE),
        "is a hospital's settings (site.toml)",
        "Name a hospital's card",
    ),
    "a private key in place of a card": (
        typed("rounds", "add", SETTINGS, "@/north/site.key"),
        "is a key or a certificate in PEM",
        "Name a hospital's card",
    ),
    "a card in place of the invitation": (
        typed("site", "join", SITE, "@/north/north.card"),
        "is a hospital's card",
        "Name an invitation",
    ),
    "the operator's settings at a site": (
        typed("site", "join", SETTINGS, INVITATION),
        "is the operator's settings",
        "Name a hospital's settings (site.toml)",
    ),
    "letters as a fingerprint": (
        typed("site", "join", SITE, INVITATION, "--yes", "--expect-fingerprint", "abc"),
        "has 30 digits, and 0 were given",
        "on the phone",
    ),
    "no number as a budget": (
        typed("site", "join", SITE, INVITATION, "--lifetime-epsilon", "nan"),
        "is no budget",
        "leave it out",
    ),
    "nobody answers": (
        typed("site", "join", SITE, INVITATION),
        "was not answered: nothing was changed",
        "A script gives --yes",
    ),
    "a lost key at join": (
        after(gone("north/site.key"), typed("site", "join", SITE, INVITATION)),
        "site.key cannot be read",
        "restore the file from its backup",
    ),
    "an export before a run": (
        typed("audit", "export", SETTINGS, "@/north.zip", "-o", "@/bundle.zip"),
        "No run has started yet",
        "craftsfl rounds start",
    ),
    "a passphrase without a terminal": (
        lambda four: new_passphrase(),
        "no terminal on which this could be typed unseen",
        "CRAFTSFL_IDENTITY_PASSPHRASE",
    ),
    "somebody leaves who is in the study": (
        typed("rounds", "add", SETTINGS, "--without", "harbour"),
        "the study colon lists it",
        "craftsfl rounds plan",
    ),
}


@pytest.mark.parametrize("mistake", LATER_MISTAKES)
def test_later_ones_end_with_their_cure_too(
    four: Four, mistake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the standard library takes where it finds no terminal; there may be one here.
    monkeypatch.setattr(getpass, "getpass", getpass.fallback_getpass)  # type: ignore[attr-defined]
    monkeypatch.delenv(PASSPHRASE, raising=False)
    action, says, cure = LATER_MISTAKES[mistake]
    with pytest.raises(CraftsflError) as caught:
        action(four)
    assert says in caught.value.message
    assert cure in caught.value.hint


def test_files_that_are_gone_are_seen_by_the_quick_check(four: Four) -> None:
    for name in ("site.key", "site.key.ledger"):
        kept = (four.north / name).read_bytes()
        (four.north / name).unlink()
        report = check_before_serving(four.north / "site.toml")
        said = [found for found in report.findings if found.id is CheckId.PRIVATE_FILES]
        assert any(str(four.north / name) in found.words for found in said)
        assert all("backup" in found.cure for found in said)
        (four.north / name).write_bytes(kept)
        (four.north / name).chmod(0o600)


# Number and kind -> the test that makes the mistake on whole processes, or of a desk's own parts.
ELSEWHERE = {
    "4b the wrong authority, an unknown key": "tests/client/gateway/test_desk.py::"
    "test_every_trouble_has_a_sentence_and_something_to_do",
    "22 one site with the old study": "tests/client/test_roster_gate.py::"
    "test_all_else_is_refused_and_changes_nothing",
    "23 two agents on one state": "tests/client/test_agent_process.py::"
    "test_a_second_agent_on_the_same_state_is_refused",
    "24 two agents on one socket": "tests/client/test_agent_process.py::"
    "test_a_socket_in_use_is_refused",
    "26 home not writable": "tests/client/gateway/test_process.py::"
    "test_unusable_settings_are_told_at_the_desk",
    "28 ledger not writable": "tests/client/test_open_ledger.py::"
    "test_what_is_gone_is_told_and_not_replaced",
    "29 data": "tests/client/test_agent_process.py::test_mistakes_are_told_in_words",
    "30 a site never comes": "tests/server/test_roster_signing.py::"
    "test_until_enough_have_signed_the_run_waits_and_says_for_whom",
    "32 a killed ServerApp": "tests/craftsfl/rounds/test_keeper.py::"
    "test_a_run_whose_serverapp_was_killed_goes_on_under_another_flower_run",
    "33 a killed SuperLink": "tests/craftsfl/rounds/test_keeper.py::"
    "test_a_superlink_that_is_away_is_waited_for",
    "34 a killed agent": "tests/client/test_sealed_kills.py::",
    "35 a killed gateway": "tests/client/gateway/test_courier.py::"
    "test_a_gateway_that_was_killed_goes_on_as_the_same_node_with_the_message_it_carried",
    "37 serve stopped and started": "tests/integration/test_serving.py::"
    "test_a_killed_one_is_followed_at_once_and_a_second_is_refused",
    "38 disk full": "tests/server/test_waiting.py::test_a_full_disk_is_waited_for_before_a_round",
    "40 Ctrl-C": "tests/craftsfl/processes/test_processes.py::"
    "test_signals_to_the_owner_end_the_children",
    "42 withdraw with a typing error": "tests/client/test_consent.py::"
    "test_a_typing_error_withdraws_nobody",
}


@pytest.mark.parametrize("mistake", ELSEWHERE)
def test_the_others_are_made_where_their_processes_are(mistake: str) -> None:
    path, _, name = ELSEWHERE[mistake].partition("::")
    assert f"def {name}" in (ROOT / path).read_text()


def test_every_number_is_looked_at_once() -> None:
    numbers = {key.split()[0] for key in (*MISTAKES, *ELSEWHERE)}
    expected = "1 2 3 4b 5 6 7 9 10 11 13 14 15 16 17 19 20 21 22 23 24 26 28 29 30 31 32 33 34 35"
    assert numbers == {*expected.split(), "37", "38", "40", "42"}
