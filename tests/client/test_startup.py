"""The agent with the real model code, on the random tiny pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.agent.own_ledger import open_ledger
from client.agent.ready import ReadyAgent
from client.agent.site_agent import AgentParts
from client.agent.startup import LoadedSite, RuledSite, load
from client.agent.state import StateFolder, state_folder
from client.data import SiteData
from client.patients import open_patients
from client.policy import SiteRules
from client.trainer.loading import load_data, load_trainer
from craftsfl.processes.agent_watch import AgentWatch
from model.encoders.files import find_encoder, shipped_encoder
from privacy.errors import (
    AccountingError,
    ConfigError,
    DeploymentError,
    LedgerError,
    ModelError,
    PolicyError,
    SecAggError,
)
from privacy.ledger import AttemptKey, Charge, read_ledger
from privacy.secagg.chain import write_rosters
from privacy.secagg.roster import add_signature, propose_roster
from privacy.secagg.server import Stage
from privacy.study.manifest import Study
from privacy.study.terms import event_of
from privacy.wire.bodies import Running
from tests.client.studies import study_of
from tests.pooled_study import pooled_values
from tests.privacy.ledger.ledgers import spent_by

from .fakes import PausingClock
from .hospital import Hospital, write_hospital, write_study
from .masked import IDENTITIES, SIGNED, MaskedAttempt
from .pictures import write_folder
from .studies import NAMES, ROSTER, make_study


def nothing(done: int, total: int) -> None:
    """Nobody watches."""


def read(site: LoadedSite, state: StateFolder) -> SiteData:
    with open_patients(state.path) as patients:
        return load_data(site, state, patients)


def test_a_round_with_the_real_trainer(tmp_path: Path, tinier_base: Path) -> None:
    study = study_of(tinier_base)
    site = load(write_hospital(tmp_path, study=study))
    with state_folder(tmp_path / "state") as state, open_ledger(state, "north") as ledger:
        trainer = load_trainer(site, read(site, state), state, nothing)
        layout = trainer.layout
        parts = AgentParts(site.rules, ledger, trainer, clock=PausingClock())
        agent = ReadyAgent(parts, site.membership).make()
        adapter = np.zeros(layout.parameters, dtype=np.float32)
        attempt = MaskedAttempt(study, adapter=adapter, layout=layout)
        attempt.updates = dict.fromkeys(attempt.peers, adapter)
        attempt.to(Stage.DONE, agent)
    assert np.count_nonzero(attempt.total()) > layout.parameters / 2
    assert state.cache.stat().st_mode & 0o077 == 0


def test_a_site_without_a_usable_tile_takes_part_with_noise_alone(
    tmp_path: Path, tinier_base: Path
) -> None:
    site = load(write_hospital(tmp_path, study=study_of(tinier_base)))
    write_folder(tmp_path / "tiles", patients=0)
    with state_folder(tmp_path / "state") as state:
        trainer = load_trainer(site, read(site, state), state, nothing)
        start = np.zeros(trainer.layout.parameters, dtype=np.float32)
        update = trainer.train(start, progress=nothing, should_stop=lambda: False)
    assert np.count_nonzero(update) > trainer.layout.parameters / 2


def with_regulation(base: Path) -> Study:
    """A study of stage two, whose reference is the embedded encoder."""
    from model.digest import folder_digest

    pinned = {"source": "tiny", "digest": find_encoder("tiny").digest()}
    structure = {"weight": 0.5, "margin": 0.9, "block": "up_blocks.0", "encoder": pinned}
    phrases = ["fat", "glands", "mucin"]
    effects = {"weight": 0.5, "margin": 0.5, "encoder": pinned, "phrases": phrases}
    return make_study(
        base={"digest": folder_digest(base), "source": str(base)},
        training={"loss": "stage-two"},
        stage_two={"structure": structure, "effects": effects, "drift": {"weight": 0.5}},
    )


@pytest.mark.slow
@pytest.mark.skipif(shipped_encoder("tiny") is None, reason="no tiny encoder here")
def test_a_study_of_stage_two_is_served_where_the_policy_names_the_encoder(
    tmp_path: Path, tiny_base: Path
) -> None:
    settings = write_hospital(tmp_path, study=with_regulation(tiny_base))
    with pytest.raises(PolicyError, match="not among `encoders`"):
        load(settings)
    policy = tmp_path / "policy.toml"
    policy.write_text('encoders = ["any"]\n' + policy.read_text())
    site = load(settings)
    with state_folder(tmp_path / "state") as state:
        trainer = load_trainer(site, read(site, state), state, nothing)
        start = np.zeros(trainer.layout.parameters, dtype=np.float32)
        update = trainer.train(start, progress=nothing, should_stop=lambda: False)
        assert len(list(state.cache.glob("encoded-*"))) == 1
    assert np.isfinite(update).all()
    assert np.count_nonzero(update) > trainer.layout.parameters / 2


def test_another_base_than_the_pinned_is_refused(tmp_path: Path, tiny_base: Path) -> None:
    study = make_study(base={"digest": "sha256:" + "0" * 64, "source": str(tiny_base)})
    site = load(write_hospital(tmp_path, study=study))
    with state_folder(tmp_path / "state") as state:
        data = read(site, state)
        with pytest.raises(ModelError, match="digest"):
            load_trainer(site, data, state, nothing)


def test_an_adapter_above_the_bound_is_refused(tmp_path: Path, tiny_base: Path) -> None:
    settings = write_hospital(tmp_path, study=study_of(tiny_base))
    with (tmp_path / "policy.toml").open("a") as policy:
        policy.write("max_parameters = 10\n")
    site = load(settings)
    with state_folder(tmp_path / "state") as state:
        data = read(site, state)
        with pytest.raises(PolicyError, match="max_parameters is 10"):
            load_trainer(site, data, state, nothing)


def test_the_real_process_trains_silently_and_ends_on_sigterm(
    tmp_path: Path, tiny_base: Path
) -> None:
    """Captions longer than the text encoder takes, which diffusers would quote in a warning."""
    from model.adapters import layout_of

    study = study_of(tiny_base, steps=100, noise_multiplier=20.0)
    cohort = study.cohort.model_copy(update={"reply_slot": 60.0})
    study = study.model_copy(update={"cohort": cohort})
    hospital = Hospital(tmp_path, module="client.agent")
    write_study(tmp_path / "study.toml", study)
    metadata = tmp_path / "tiles" / "metadata.csv"
    metadata.write_text(metadata.read_text().replace("canary caption", "canary " * 100))
    hospital.start()
    hospital.wait_for(hospital.is_serving)
    layout = layout_of(tiny_base, study.adapter)
    adapter = np.zeros(layout.parameters, dtype=np.float32)
    attempt = MaskedAttempt(study, adapter=adapter, layout=layout)
    attempt.to(Stage.INPUT, hospital)
    assert attempt.ask(hospital) == Running()
    watch = AgentWatch(hospital.folder / "a.sock")
    hospital.wait_for(lambda: watch.state.phase == "training")
    watch.close()
    assert hospital.terminate() == 0
    assert "Ready." in hospital.log
    assert "canary" not in hospital.log
    assert "Traceback" not in hospital.log
    ledger = read_ledger(hospital.state / "ledger.sqlite")
    assert (spent_by(ledger), len(ledger.entries())) == (0, 1)


def test_the_deltas_of_all_studies_are_summed(tmp_path: Path) -> None:
    site = load(write_hospital(tmp_path, study=make_study()))
    other = make_study(name="earlier")
    with open_ledger(StateFolder(tmp_path), "north") as ledger:
        own = Charge(site.rules.study.digest(), event_of(other), 1e-5)
        ledger.intent(AttemptKey(own.study_digest, 1, 1, 1), own)
        site.rules.check_other_studies(ledger.entries())
        theirs = Charge(other.digest(), event_of(other), 1e-6)
        ledger.intent(AttemptKey(other.digest(), 1, 1, 1), theirs)
        with pytest.raises(PolicyError, match=r"deltas of all studies sum to 1\.1e-05"):
            site.rules.check_other_studies(ledger.entries())


def test_delta_is_held_against_the_declared_cohort(tmp_path: Path) -> None:
    study = make_study()
    large = study.sites[0].model_copy(update={"declared_patients": 100_000})
    study = study.model_copy(update={"sites": (large, *study.sites[1:])})
    with pytest.raises(AccountingError, match="delta"):
        load(write_hospital(tmp_path, study=study))


@pytest.mark.parametrize("across", ["", 'across_studies = "rdp-filter"\nrdp_order = 8\n'])
def test_the_policys_delta_is_held_against_the_declared_cohort(tmp_path: Path, across: str) -> None:
    study = make_study(privacy={"delta": 1e-6})
    large = study.sites[0].model_copy(update={"declared_patients": 100_000})
    study = study.model_copy(update={"sites": (large, *study.sites[1:])})
    settings = write_hospital(tmp_path, study=study)
    policy = tmp_path / "policy.toml"
    policy.write_text(policy.read_text() + across)
    with pytest.raises(PolicyError, match=r"1e-05 in policy\.toml but may be at most 1e-06"):
        load(settings)


@pytest.mark.parametrize(
    ("training", "text"),
    [
        ({"noise_multiplier": 5e4}, "noise_multiplier is 50000"),
        ({"sampling_rate": 1e-9}, "sampling_rate is 1e-09"),
        ({"steps": 10_000_000}, "steps is 10000000"),
        ({"steps": 1_000_000}, "60000000 steps"),
    ],
)
def test_a_schedule_that_nobody_can_account_for_is_told_before_the_data_is_read(
    tmp_path: Path, training: dict[str, object], text: str
) -> None:
    settings = write_hospital(tmp_path, study=make_study(rounds=30, training=training))
    policy = tmp_path / "policy.toml"
    policy.write_text(policy.read_text() + "max_steps_per_round = 100000000\n")
    with pytest.raises(AccountingError, match=text):
        load(settings)


def test_quarantine_is_listed_at_the_site(tmp_path: Path) -> None:
    site = load(write_hospital(tmp_path, study=make_study()))
    write_folder(tmp_path / "tiles", patients=10)
    (tmp_path / "tiles" / "canary-file-0-0.png").unlink()
    state = StateFolder(tmp_path)
    assert len(read(site, state).tiles) == 19
    assert "canary-file-0-0.png,the file is missing" in state.quarantine.read_text()


def test_a_state_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DeploymentError, match="cannot be used"),
        state_folder(tmp_path / "file" / "state"),
    ):
        pass


@pytest.mark.parametrize("harm", ["deleted", "emptied"])
def test_a_lost_ledger_is_not_replaced_by_an_empty_one(tmp_path: Path, harm: str) -> None:
    site = load(write_hospital(tmp_path, study=make_study()))
    state = StateFolder(tmp_path)
    with open_ledger(state, "north") as ledger:
        charge = Charge(bytes(32), event_of(make_study()), 1e-5)
        ledger.intent(AttemptKey(bytes(32), 1, 1, 1), charge)
    read(site, state)
    open_ledger(state, "north").close()
    if harm == "deleted":
        state.ledger.unlink()
    else:
        state.ledger.write_bytes(b"")
    with pytest.raises(LedgerError, match=r"is missing.*Restore it"):
        open_ledger(state, "north")


def test_an_order_at_which_nothing_fits_is_told_at_the_start(tmp_path: Path) -> None:
    settings = write_hospital(tmp_path, study=make_study())
    policy = tmp_path / "policy.toml"
    text = policy.read_text().replace("epsilon = 20.0", "epsilon = 1.0")
    policy.write_text(text + 'across_studies = "rdp-filter"\nrdp_order = 3\n')
    with pytest.raises(AccountingError, match=r"nothing fits.*Use order"):
        load(settings)


def examinations(folder: Path) -> None:
    """Every tile's patient_id becomes an accession number."""
    table = folder / "tiles" / "metadata.csv"
    table.write_text(table.read_text().replace("canary-patient-", "S21-1234"))


def test_ids_of_examinations_are_warned_of_loudly_and_stop_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = write_hospital(tmp_path, study=make_study())
    examinations(tmp_path)
    (tmp_path / "state").mkdir()
    assert read(load(settings), StateFolder(tmp_path / "state")).patients == 10
    assert "10 of 10 ids look like accession numbers" in caplog.text
    assert "EACH ID COUNTS AS ONE PERSON" in caplog.text
    assert "S21" not in caplog.text


@pytest.mark.parametrize("doubtful", [False, True])
def test_ids_that_nobody_has_confirmed_are_refused_whatever_they_are(
    tmp_path: Path, doubtful: bool
) -> None:
    """Before the data are looked at: one patient's ids must not decide whether the agent starts."""
    settings = write_hospital(tmp_path, study=make_study())
    if doubtful:
        examinations(tmp_path)
    settings.write_text(settings.read_text().replace("patient_ids_confirmed = true\n", ""))
    with pytest.raises(ConfigError, match=r"Nobody has confirmed.*craftsfl site suspicions"):
        load(settings)


@pytest.mark.parametrize("patients", [0, 1, 4, 21])
def test_another_cohort_than_declared_is_warned_of_and_stops_nothing(
    tmp_path: Path, patients: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Declared are 10: at 4 and 5, one patient more would have decided whether the agent starts."""
    settings = write_hospital(tmp_path, study=make_study())
    write_folder(tmp_path / "tiles", patients=patients, tiles=1)
    (tmp_path / "state").mkdir()
    assert read(load(settings), StateFolder(tmp_path / "state")).patients == patients
    assert f"declares 10 patients for north, but the data folder has {patients}" in caplog.text
    assert ("NO TILE CAN BE USED" in caplog.text) == (patients == 0)


@pytest.mark.parametrize(("declared", "left_out"), [(10, 0), (7, 3)])
def test_who_is_enrolled_beyond_the_declared_places_is_told_and_stops_nothing(
    tmp_path: Path, declared: int, left_out: int, caplog: pytest.LogCaptureFixture
) -> None:
    site = load(write_hospital(tmp_path, study=make_study()))
    values = pooled_values()
    values["sites"][0]["declared_patients"] = declared
    rules = SiteRules("north", Study.model_validate(values), site.rules.policy)
    (tmp_path / "tiles" / "tile-0-0.png").write_bytes(b"no picture: enrolled all the same")
    (tmp_path / "state").mkdir()
    with open_patients(tmp_path / "state") as patients:
        data = load_data(RuledSite(site.settings, rules), StateFolder(tmp_path / "state"), patients)
    assert (data.enrolled, data.patients) == (10, 10)
    words = f"THE LAST {left_out} OF 10 PATIENTS IN THE TABLE TAKE NO PART: the study declares 7"
    assert (words in caplog.text) == bool(left_out)
    assert ("TAKE NO PART" in caplog.text) == bool(left_out)


@pytest.mark.parametrize(("planned", "told"), [(0, False), (1, True)])
def test_how_many_may_collude_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, planned: int, told: bool
) -> None:
    study = make_study(4, privacy={"noise_colluders": planned})
    with caplog.at_level("INFO", "craftsfl.agent"):
        load(write_hospital(tmp_path, study=study))
    assert "A sum is of 3 to 4 sites. Of the others 1 may side with the coordinator" in caplog.text
    assert ("noise_colluders = 1" in caplog.text) is told


def with_passphrase(folder: Path, line: bytes) -> Path:
    """A hospital whose key has the passphrase "correct horse"."""
    settings = write_hospital(folder, study=make_study())
    (folder / "site.key").write_bytes(IDENTITIES["north"].pem(b"correct horse"))
    (folder / "words").write_bytes(line)
    (folder / "words").chmod(0o600)
    return settings


@pytest.mark.parametrize("line", [b"correct horse", b"correct horse\r\nbattery\n"])
def test_a_key_with_a_passphrase_is_opened_by_its_file(tmp_path: Path, line: bytes) -> None:
    settings = with_passphrase(tmp_path, line)
    with pytest.raises(ConfigError, match="protected by a passphrase"):
        load(settings)
    with settings.open("a") as stream:
        stream.write('passphrase_file = "words"\n')
    assert load(settings).membership.identity.public == IDENTITIES["north"].public
    (tmp_path / "words").chmod(0o640)
    with pytest.raises(ConfigError, match="others can read or change it"):
        load(settings)


def test_a_wrong_passphrase_is_not_quoted(tmp_path: Path) -> None:
    settings = with_passphrase(tmp_path, b"wrong canary")
    with settings.open("a") as stream:
        stream.write('passphrase_file = "words"\n')
    with pytest.raises(ConfigError, match="passphrase is wrong") as caught:
        load(settings)
    assert "canary" not in str(caught.value)


def test_a_successor_needs_no_new_pin(tmp_path: Path) -> None:
    """West leaves; the others have signed that, and study and policy stay as they are."""
    settings = write_hospital(tmp_path, study=make_study())
    later = propose_roster([m for m in ROSTER.members if m.name != "west"], 2, predecessor=ROSTER)
    for name in NAMES[:3]:
        later = add_signature(later, IDENTITIES[name], ROSTER)
    write_rosters(tmp_path / "roster.cfl", [SIGNED, later])
    assert load(settings).membership.roster == later.roster
    write_rosters(
        tmp_path / "roster.cfl",
        [SIGNED, propose_roster(later.roster.members, 2, predecessor=ROSTER)],
    )
    with pytest.raises(SecAggError, match="0 of 3 signatures"):
        load(settings)


def test_a_site_that_left_is_told(tmp_path: Path) -> None:
    settings = write_hospital(tmp_path, study=make_study())
    later = propose_roster([m for m in ROSTER.members if m.name != "north"], 2, predecessor=ROSTER)
    for name in NAMES[1:]:
        later = add_signature(later, IDENTITIES[name], ROSTER)
    write_rosters(tmp_path / "roster.cfl", [SIGNED, later])
    with pytest.raises(ConfigError, match="lists no key for north"):
        load(settings)
