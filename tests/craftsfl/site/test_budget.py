"""`craftsfl site budget`: figures, table, picture and words, from ledgers as agents write them."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.agent.own_ledger import open_ledger
from client.agent.state import StateFolder
from craftsfl.privacy_words import epsilon_text
from craftsfl.site.budget.explain import NOT_CLAIMED, explanation, percent, show_explanation
from craftsfl.site.budget.picture import check_picture_path, draw_picture
from craftsfl.site.budget.statement import MOST_POINTS, statement_of
from craftsfl.site.budget.table import bar, curve, show_table
from craftsfl.terminal import output
from privacy.accounting import epsilon, tradeoff
from privacy.errors import ConfigError
from privacy.identity import Identity
from privacy.ledger import AttemptKey, Entry, SqliteLedger, State
from privacy.ledger.anchors import Anchors
from privacy.study.terms import event_of
from tests.client.studies import make_study
from tests.craftsfl.called import call
from tests.craftsfl.site.budgets import (
    OTHER,
    STUDY,
    BudgetedHospital,
    charge,
    entries,
    printed,
    rules_of,
)


def test_one_study_is_composed_and_its_rounds_left_are_those_that_fit(tmp_path: Path) -> None:
    rules = rules_of(tmp_path, study_epsilon=4.0)
    statement = statement_of(rules, entries(*[charge()] * 3))
    event = event_of(STUDY)
    assert statement.epsilon == statement.present.epsilon == epsilon([event] * 3, 1e-5)
    assert (statement.present.rounds, statement.present.attempts, statement.present.lost) == (
        3,
        3,
        0,
    )
    left = statement.present.rounds_left
    assert 0 < left < 9
    assert epsilon([event] * (3 + left), 1e-5) <= 4.0 < epsilon([event] * (4 + left), 1e-5)
    assert sum(each.steps for each in statement.planned) == (3 + left) * event.steps


WHOLE = epsilon([event_of(STUDY)] * 12, 1e-5)  # 6 rounds x 2 attempts


@pytest.mark.parametrize(
    ("policy", "refused", "says"),
    [
        ({"study_epsilon": 4.0}, True, "study_epsilon in policy.toml is too small"),
        ({"study_epsilon": 4.0, "allow_partial": True}, False, "ends where the budget does"),
        ({"epsilon": 6.0, "study_epsilon": 6.0}, True, "of all studies together, in policy.toml"),
        ({}, False, "It can end within both"),
    ],
)
def test_it_says_whether_the_study_can_end_as_the_agent_decides(
    tmp_path: Path, policy: dict[str, float | bool], refused: bool, says: str
) -> None:
    """Also where another study left too little; what was charged is part of the schedule."""
    rules = rules_of(tmp_path, **policy)
    spent = entries(*[charge(digest=OTHER)] * 2, charge())
    statement = statement_of(rules, spent)
    assert statement.refused == refused
    assert statement.at_its_end.study.after == pytest.approx(WHOLE)
    used = WHOLE + epsilon([event_of(STUDY)] * 2, 1e-5)
    assert statement.at_its_end.lifetime.after == pytest.approx(used)
    text = " ".join(printed(lambda console: show_table(statement, console)).split())
    assert f"with all 12 attempts: ε {epsilon_text(WHOLE)} of its budget" in text
    assert says in text
    assert ("REFUSES" in text) == refused


def test_the_manifest_caps_the_rounds_left_whatever_the_budget(tmp_path: Path) -> None:
    study = make_study(rounds=2, training={"noise_multiplier": 50.0})
    rules = rules_of(tmp_path, study)
    assert statement_of(rules, []).present.rounds_left == 2 * study.privacy.attempts
    spent = entries(*[charge(study)] * 3)
    assert statement_of(rules, spent).present.rounds_left == 2 * study.privacy.attempts - 3


def test_attempts_that_were_not_charged_cost_nothing_and_are_counted(tmp_path: Path) -> None:
    states = (State.COMMITTED, State.INTENT)
    statement = statement_of(rules_of(tmp_path), entries(*[charge()] * 4, states=states))
    assert (statement.present.rounds, statement.present.attempts, statement.present.lost) == (
        2,
        2,
        2,
    )
    assert statement.epsilon == epsilon([event_of(STUDY)] * 2, 1e-5)


def test_two_attempts_at_one_round_are_one_round_and_two_charges(tmp_path: Path) -> None:
    first, second = entries(charge(), charge())
    again = Entry(
        AttemptKey(charge().study_digest, 7, 1, 2), charge(), State.COMMITTED, 2, 1.8e9, 1.8e9
    )
    statement = statement_of(rules_of(tmp_path), [first, again])
    assert (statement.present.rounds, statement.present.attempts) == (1, 2)
    assert statement_of(rules_of(tmp_path), [first, second]).present.rounds == 2


def test_several_studies_are_added_up_and_share_the_lifetime_budget(tmp_path: Path) -> None:
    rules = rules_of(tmp_path, epsilon=4.0, study_epsilon=3.5)
    mixed = entries(charge(), charge(digest=OTHER), charge())
    statement = statement_of(rules, mixed)
    own, other = (epsilon([event_of(STUDY)] * count, 1e-5) for count in (2, 1))
    assert statement.epsilon == pytest.approx(own + other)
    assert statement.delta == pytest.approx(2e-5)
    assert [line.label for line in statement.lines] == ["demo", "study 00010203"]
    left = statement.present.rounds_left
    event = event_of(STUDY)
    assert epsilon([event] * (2 + left), 1e-5) + other <= 4.0
    assert epsilon([event] * (3 + left), 1e-5) + other > 4.0
    assert {point.study for point in statement.points} == {"demo", "study 00010203"}


def test_a_renyi_filter_composes_several_studies(tmp_path: Path) -> None:
    lines = {"across_studies": "rdp-filter", "rdp_order": 8}
    statement = statement_of(rules_of(tmp_path, **lines), entries(charge(), charge(digest=OTHER)))
    assert statement.composition == "rdp-filter"
    assert 0 < statement.epsilon < math.inf
    assert statement.delta == statement.budget_delta
    assert statement.present.rounds_left >= 1


def test_each_study_has_its_name_and_its_delta(tmp_path: Path) -> None:
    rules = rules_of(tmp_path)
    statement = statement_of(rules, entries(charge(digest=OTHER)), {OTHER: "skin-2024"})
    text = printed(lambda console: show_table(statement, console))
    (row,) = [line for line in text.splitlines() if "skin-2024" in line]
    assert f"{statement.lines[1].delta:.3g}" in row.split()
    assert "study 00010203" not in text


def test_a_charge_without_noise_is_no_privacy_for_ever(tmp_path: Path) -> None:
    bare = make_study(rounds=6, training={"noise_multiplier": 0.0})
    rules = rules_of(tmp_path)
    statement = statement_of(rules, entries(charge(), charge(bare, OTHER)))
    assert math.isinf(statement.epsilon)
    assert [line.rounds_left for line in statement.lines] == [0, 0]
    text = printed(lambda console: show_table(statement, console))
    assert "none (no noise)" in text
    whole = next(
        case for case in explanation(statement).cases if case.name == "what left without noise"
    )
    assert {attack.tpr for attack in whole.attacks} == {1.0}
    draw_picture(statement, tmp_path / "budget.svg")
    assert "no noise" in "".join(ElementTree.parse(tmp_path / "budget.svg").getroot().itertext())


def test_the_curve_has_few_points_ends_with_the_last_charge_and_never_goes_back(
    tmp_path: Path,
) -> None:
    rows = entries(*[charge()] * (2 * MOST_POINTS + 3))
    rows[-2] = Entry(*(getattr(rows[-2], name) for name in Entry.__slots__[:5]), 1.0)
    statement = statement_of(rules_of(tmp_path), rows)
    assert len(statement.points) <= MOST_POINTS
    assert statement.points[-1].lifetime == statement.epsilon
    times = [point.time for point in statement.points]
    spent = [point.lifetime for point in statement.points]
    assert times == sorted(times)
    assert spent == sorted(spent)


def test_what_is_claimed_does_not_depend_on_how_far_the_study_went(tmp_path: Path) -> None:
    # Stopping is adaptive: a figure of what was run until now bounds nothing.
    rules = rules_of(tmp_path, epsilon=6.0, study_epsilon=4.0)
    books = [statement_of(rules, entries(*[charge()] * count)) for count in (0, 1, 3)]
    claims = [[(c.name, c.epsilon, c.attacks) for c in explanation(b).cases] for b in books]
    assert claims[0] == claims[1] == claims[2]
    assert {case[0] for case in claims[0]} == {"demo to its end", "the whole budget"}
    assert books[1].epsilon < books[2].epsilon < claims[0][0][1] <= 4.0


def test_nothing_that_is_shown_speaks_of_epsilon_so_far(tmp_path: Path) -> None:
    statement = statement_of(rules_of(tmp_path), entries(*[charge()] * 3))
    draw_picture(statement, tmp_path / "budget.svg")
    picture = "".join(ElementTree.parse(tmp_path / "budget.svg").getroot().itertext())
    table = printed(lambda console: show_table(statement, console))
    words = printed(lambda console: show_explanation(statement, explanation(statement), console))
    for text in (picture, table, words):
        assert "so far" not in text and "spent" not in text
    assert "used of the budget" in picture
    assert "ε used" in table and "of budget" in table
    assert "not a claim by itself" in " ".join(table.split())


def test_in_a_pipe_no_word_of_the_explanation_is_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    statement = statement_of(rules_of(tmp_path), entries(charge()))
    show_explanation(statement, explanation(statement), output())
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("  - ")] == [f"  - {t}" for t in NOT_CLAIMED]


def test_the_table_shows_what_is_spent_and_left(tmp_path: Path) -> None:
    statement = statement_of(rules_of(tmp_path), entries(*[charge()] * 3))
    text = printed(lambda console: show_table(statement, console), width=80)
    assert f"{statement.epsilon:.2f}" in text
    assert f"{statement.present.rounds_left} rounds" in text
    assert "2027-01-15" in text and "2027-01-17" in text
    assert "█" in text
    assert "rests on this hospital" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80


def test_an_empty_ledger_is_shown_without_a_curve(tmp_path: Path) -> None:
    statement = statement_of(rules_of(tmp_path), [])
    assert list(curve(statement)) == []
    assert "0.00" in printed(lambda console: show_table(statement, console))
    draw_picture(statement, tmp_path / "empty.png")
    assert (tmp_path / "empty.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("spent", "filled"), [(0.0, 0), (1e-6, 1), (5.0, 5), (10.0, 10), (99.0, 10), (math.inf, 10)]
)
def test_a_bar_shows_the_share(spent: float, filled: int) -> None:
    assert bar(spent, 10.0).plain.count("█") == filled


def test_the_words_carry_the_figures_of_the_loss_distribution(tmp_path: Path) -> None:
    statement = statement_of(rules_of(tmp_path), entries(*[charge()] * 3))
    explained = explanation(statement)
    at_its_end, whole = explained.cases
    assert list(at_its_end.attacks) == tradeoff(statement.planned, [0.001, 0.01, 0.05, 0.1])
    for case in explained.cases:
        assert all(attack.fpr <= attack.tpr <= 1 for attack in case.attacks)
    pairs = zip(at_its_end.attacks, whole.attacks, strict=True)
    assert all(a.tpr <= b.tpr for a, b in pairs)
    assert explained.known_under[2] > explained.known_to[2]
    assert explained.known_under[3] > explained.known_to[3]
    assert at_its_end.epsilon < explained.known_to[2] < explained.known_to[3]
    text = printed(lambda console: show_explanation(statement, explained, console), width=80)
    flat = " ".join(text.replace("- ", "").split())
    assert all(percent(case.attacks[1].tpr) in flat for case in explained.cases)
    assert max(map(len, text.splitlines())) <= 80
    assert f"{math.ceil(100 * at_its_end.attacks[1].tpr)} of 100 people" in flat
    assert f"ε {explained.known_under[2]:.2f} for a patient known here under 2" in flat
    for claim in NOT_CLAIMED:
        assert " ".join(claim.split()) in flat


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0.0 %"), (0.19101, "19.2 %"), (0.191, "19.1 %"), (1.0, "100.0 %")]
)
def test_a_share_is_rounded_up(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize("name", ["budget.jpg", "budget", "nowhere/budget.svg"])
def test_a_picture_elsewhere_or_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="budget"):
        check_picture_path(tmp_path / name)


def test_a_picture_names_studies_and_budget_and_is_the_same_every_time(tmp_path: Path) -> None:
    statement = statement_of(rules_of(tmp_path), entries(charge(), charge(digest=OTHER), charge()))
    for name in ("a.svg", "b.svg", "a.png"):
        draw_picture(statement, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    assert root.tag.endswith("svg")
    assert (tmp_path / "a.png").stat().st_size > 5_000


def test_the_command_reads_beside_an_agent_that_works(tmp_path: Path) -> None:
    hospital = BudgetedHospital(tmp_path)
    with hospital.spend(2) as ledger:
        values = json.loads(hospital.budget("--json", "--explain"))
        stop = threading.Event()

        def work() -> None:
            for number in itertools.count(10):
                if stop.is_set():
                    return
                ledger.intent(AttemptKey(charge().study_digest, 7, number, 1), charge())

        thread = threading.Thread(target=work)
        thread.start()
        try:
            text = hospital.budget("--picture", str(tmp_path / "budget.svg"))
        finally:
            stop.set()
            thread.join()
        head = ledger.head()
    assert values["lifetime"]["epsilon"] == pytest.approx(epsilon([event_of(STUDY)] * 2, 1e-5))
    (study,) = values["studies"]
    assert (study["name"], study["rounds"], study["not_charged"]) == ("demo", 2, 1)
    assert study["digest"] == STUDY.digest().hex()
    assert len(values["spending"]) == 2
    assert {row["false_positives"] for row in values["attacks"]} == {0.001, 0.01, 0.05, 0.1}
    assert values["ledger"]["id"] == head.ledger.hex()
    assert values["whole_study"] == {
        "attempts": 12,
        "epsilon": pytest.approx(WHOLE),
        "budget": 12.0,
        "lifetime_epsilon": pytest.approx(WHOLE),
        "lifetime_budget": 20.0,
        "refused": False,
    }
    assert "demo to its end, with all 12 attempts" in " ".join(text.split())
    assert "The ledger is whole and signed" in text
    assert (tmp_path / "budget.svg").exists()


def test_a_site_that_never_worked_has_spent_nothing(tmp_path: Path) -> None:
    hospital = BudgetedHospital(tmp_path)
    values = json.loads(hospital.budget("--json"))
    assert (values["ledger"], values["lifetime"]["epsilon"], values["spending"]) == (None, 0.0, [])
    assert list(hospital.state.path.iterdir()) == []  # it only reads


def lost(state: StateFolder) -> None:
    state.ledger.unlink()
    state.quarantine.write_text("")


def foreign(state: StateFolder) -> None:
    other = StateFolder(state.path.parent / "other")
    other.path.mkdir()
    with open_ledger(other, "south"):
        pass
    for path in state.path.iterdir():
        path.unlink()
    for path in other.path.iterdir():
        path.rename(state.path / path.name)


def another_key(state: StateFolder) -> None:
    state.ledger_key.write_bytes(bytes(32))


@pytest.mark.parametrize(
    ("damage", "says"),
    [(lost, "is missing"), (foreign, "the site south"), (another_key, "another key")],
)
def test_a_ledger_that_is_lost_or_foreign_is_named(
    tmp_path: Path, damage: Callable[[StateFolder], None], says: str
) -> None:
    hospital = BudgetedHospital(tmp_path)
    hospital.spend(1).close()
    damage(hospital.state)
    done = call("site", "budget", hospital.settings)
    assert done.returncode == 1
    assert says in " ".join(done.stderr.split())
    assert "Next:" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_imports_nothing_heavy(tmp_path: Path) -> None:
    hospital = BudgetedHospital(tmp_path)
    hospital.spend(1).close()
    code = (
        "import sys; from pathlib import Path; "
        "from craftsfl.site.budget.command import BudgetOptions, show_budget; "
        "show_budget(Path(sys.argv[1]), BudgetOptions(explain=True, as_json=True)); "
        "heavy = {'torch', 'flwr', 'grpc', 'diffusers', 'opacus', 'mlflow', 'matplotlib'}; "
        "sys.exit(str(sorted(heavy & set(sys.modules))))"
    )
    command = [sys.executable, "-c", code, str(hospital.settings)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.strip() == "[]"


def refused_budget(settings: Path) -> str:
    """What `site budget` says when it refuses; an auditor has this and a copy, and no key."""
    done = call("site", "budget", settings)
    assert done.returncode == 1, done.stdout
    return " ".join(done.stderr.split())


def as_a_copy(hospital: BudgetedHospital) -> None:
    """What somebody gets who asks for the ledger: no key of anything."""
    for name in ("site.key", "site.key.ledger", "state/ledger.key"):
        (hospital.settings.parent / name).unlink()


def test_a_copy_without_any_key_is_read_where_the_roster_names_its_identity(
    tmp_path: Path,
) -> None:
    hospital = BudgetedHospital(tmp_path)
    hospital.spend(2).close()
    as_a_copy(hospital)
    text = " ".join(hospital.budget().split())
    assert "bound to the key that the roster gives to north" in text


@pytest.mark.parametrize("identity", [None, Identity.from_seed(bytes(32))])
def test_a_ledger_with_a_fresh_key_and_one_round_fewer_is_refused(
    tmp_path: Path, identity: Identity | None
) -> None:
    """Whole and signed it is; but by nobody that the consortium knows."""
    hospital = BudgetedHospital(tmp_path)
    hospital.spend(2).close()
    as_a_copy(hospital)
    for file in hospital.state.path.glob("ledger*"):
        file.unlink()
    key = Ed25519PrivateKey.generate()
    anchors = Anchors(identity)
    with SqliteLedger(hospital.state.ledger, key, site="north", anchors=anchors) as ledger:
        attempt = AttemptKey(charge().study_digest, 7, 1, 1)
        ledger.intent(attempt, charge())
        ledger.commit(attempt)
    assert "identity" in refused_budget(hospital.settings)


def test_settings_that_name_no_roster_vouch_for_no_ledger(tmp_path: Path) -> None:
    hospital = BudgetedHospital(tmp_path)
    hospital.spend(2).close()
    text = hospital.settings.read_text().partition("[identity]")[0]
    hospital.settings.write_text(text)
    assert "nobody can tell whose ledger this is" in refused_budget(hospital.settings)
