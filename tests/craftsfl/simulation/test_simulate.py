"""A whole simulated study: real agents, real ledgers and messages, a random base."""

from __future__ import annotations

import math
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from craftsfl.simulation.config import SIMULATED_ARMS, Arm, SimulationConfig
from craftsfl.simulation.folder import SimulationFolder
from craftsfl.simulation.references import noise_of
from craftsfl.simulation.run import simulate, simulated_results
from model.adapters import load_adapter
from model.losses import denoising
from privacy.accounting import epsilon
from privacy.errors import ConfigError, CraftsflError, ModelError
from privacy.ledger import SqliteLedger
from privacy.study.manifest import load_study
from privacy.study.terms import event_of
from tests.craftsfl.simulation.worlds import (
    Configure,
    Finished,
    Killed,
    Seen,
    again,
    changed,
    small_study,
)

SAMPLES = Path(__file__).parents[3] / "docs/examples"


@pytest.fixture
def no_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens a ledger fails."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a ledger was opened")

    monkeypatch.setattr(SqliteLedger, "__init__", refuse)


def vector(result_or_path: Any) -> np.ndarray:
    return load_adapter(result_or_path.adapter).vector


def test_a_pooled_study_is_charged_learned_and_measured(
    finished: Finished, tinier_base: Path
) -> None:
    result = finished.result
    study = small_study(tinier_base)
    assert (result.arm, result.sites, result.patients, result.steps) == ("pooled", 3, 6, 2)
    assert result.epsilon == pytest.approx(epsilon([event_of(study)] * 2, 1e-5), rel=1e-6)
    assert finished.seen.trained() == ["step 1 of 2", "step 2 of 2"]
    assert np.abs(vector(result)).max() > 0
    assert result.gain.patients == 3
    assert result.gain.low < result.gain.mean < result.gain.high
    assert simulated_results(finished.config) == [result]


def test_a_simulated_adapter_claims_nothing(finished: Finished) -> None:
    saved = load_adapter(finished.result.adapter)
    assert saved.origin is not None
    assert saved.origin.epsilon is None
    assert (saved.origin.run, saved.origin.study) == ("simulation", "simulated-sample-pooled")


def test_a_finished_arm_is_not_repeated(finished: Finished) -> None:
    seen = Seen()
    assert simulate(finished.config, seen) == finished.result
    assert seen.done == []


@pytest.mark.slow
def test_the_same_seed_gives_the_same_tissue_and_references(
    configure: Configure, tinier_base: Path, tmp_path: Path
) -> None:
    study = small_study(tinier_base, rounds=1)
    config = configure(study=study, arm="central")
    first = vector(simulate(config))
    second = vector(simulate(again(config, tmp_path / "second")))
    assert first.tobytes() == second.tobytes()
    other = replace(config, folder=tmp_path / "third", seed=1)
    assert vector(simulate(other)).tobytes() != first.tobytes()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    "at",
    [
        ("step 2 of 2", 2),
        pytest.param(("step 2 of 2", 0), marks=pytest.mark.slow),
        pytest.param(("the gain", 0), marks=pytest.mark.slow),
    ],
)
def test_a_killed_simulation_goes_on_and_loses_no_finished_step(
    configure: Configure, tinier_base: Path, at: tuple[str, int]
) -> None:
    with pytest.raises(Killed):
        simulate(configure(), Seen(killed_at=at))
    seen = Seen()
    result = simulate(configure(), seen)
    assert seen.trained() == ([] if at[0] == "the gain" else ["step 2 of 2"])
    study = small_study(tinier_base)
    # The step under way was charged to nobody: as many events as the study has steps.
    assert result.epsilon == pytest.approx(epsilon([event_of(study)] * 2, 1e-5), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["noise-off", "central"])
def test_a_reference_that_was_killed_ends_as_one_that_never_was(
    configure: Configure, tmp_path: Path, arm: Arm, no_ledger: None
) -> None:
    config = configure(arm=arm)
    with pytest.raises(Killed):
        simulate(config, Seen(killed_at=("step 2 of 2", 1)))
    seen = Seen()
    resumed = simulate(config, seen)
    assert seen.trained() == ["step 2 of 2"]
    whole = simulate(again(config, tmp_path / "whole"))
    assert vector(resumed).tobytes() == vector(whole).tobytes()
    assert resumed.epsilon is None


@pytest.mark.slow
@pytest.mark.ci
def test_each_site_may_add_all_of_its_own_noise(configure: Configure, tinier_base: Path) -> None:
    study = small_study(tinier_base, "local", rounds=1)
    result = simulate(configure(study=study))
    assert result.arm == "local"
    assert result.epsilon == pytest.approx(epsilon([event_of(study)], 1e-5), rel=1e-6)


@pytest.mark.parametrize(
    ("arm", "mechanism"),
    [
        ("noise-off", "pooled"),
        pytest.param("central", "pooled", marks=pytest.mark.slow),
        pytest.param("alone", "pooled", marks=pytest.mark.slow),
        pytest.param("noise-off", "local", marks=pytest.mark.slow),
        pytest.param("central", "local", marks=pytest.mark.slow),
        pytest.param("alone", "local", marks=[pytest.mark.slow, pytest.mark.ci]),
    ],
)
def test_arms_that_are_no_federation_touch_no_ledger(
    configure: Configure, tinier_base: Path, arm: Arm, mechanism: str, no_ledger: None
) -> None:
    study = small_study(tinier_base, mechanism, rounds=1)
    config = configure(study=study, arm=arm)
    result = simulate(config)
    assert result.epsilon is None
    assert (result.sites, result.patients) == ((1, 2) if arm == "alone" else (3, 6))
    assert not list(config.folder.rglob("*.sqlite*"))


def test_noise_of_each_arm() -> None:
    pooled = load_study(SAMPLES / "pooled/study.toml")
    sigma = pooled.training.noise_multiplier
    expected = {"noise-off": 0, "central": sigma * math.sqrt(3 / 2), "alone": sigma}
    for arm, noise in {**expected, "local": sigma * math.sqrt(3)}.items():
        assert noise_of(arm, pooled) == pytest.approx(noise)
    local = load_study(SAMPLES / "study.toml")
    assert noise_of("central", local) == pytest.approx(
        local.training.noise_multiplier * math.sqrt(3)
    )


@pytest.mark.slow
def test_noise_off_lies_nearer_to_the_best_than_noise(
    configure: Configure, tinier_base: Path
) -> None:
    """All arms see the same gradients: without noise the first step is their mean's direction."""
    study = small_study(tinier_base, rounds=1, noise_multiplier=1e-3)
    study = changed(study, aggregation={"strategy": "momentum", "floor": None})
    off = vector(simulate(configure(study=study, arm="noise-off")))
    little = vector(simulate(configure(study=study, arm="central")))
    assert off @ little / np.linalg.norm(off) / np.linalg.norm(little) > 0.99


@pytest.mark.slow
def test_a_hundred_sites_may_take_the_place_of_three(
    configure: Configure, tinier_base: Path
) -> None:
    study = small_study(tinier_base, rounds=1)
    result = simulate(configure(study=study, sites=7, patients=1))
    assert (result.sites, result.patients) == (7, 7)


@pytest.mark.slow
def test_no_slot_is_waited_for(configure: Configure, tinier_base: Path) -> None:
    study = small_study(tinier_base, rounds=1)
    study = changed(study, cohort={"reply_slot": 86_000.0, "round_deadline": 86_400.0})
    assert simulate(configure(study=study)).seconds < 300


# Bad input


@pytest.mark.parametrize(
    ("options", "words", "hint"),
    [
        ({"sites": 2}, "2 site(s) make no consortium", "--sites 3 or more"),
        ({"arm": "alone", "alone": "nowhere"}, "No simulated site is called nowhere", "site-1"),
        ({"strategy": lambda parameters: None}, "its optimiser cannot be replaced", "local"),
        ({"encoder": object()}, "compares with no encoder", "stage-two"),
    ],
)
def test_what_cannot_be_simulated_is_said_in_words(
    configure: Configure, options: dict[str, Any], words: str, hint: str
) -> None:
    with pytest.raises(CraftsflError) as caught:
        simulate(configure(**options))
    assert words in caught.value.message.replace("\n", " ")
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"arm": "noisy"}, f"The arms are {', '.join(SIMULATED_ARMS)}"),
        ({"held_out": 1}, "an interval needs two patients"),
        ({"patients": 0}, "patients is 0"),
        ({"data": Path("x"), "patients": 3}, "cannot be chosen"),
    ],
)
def test_a_configuration_that_means_nothing_cannot_be_made(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        SimulationConfig(study=Path("x"), folder=Path("y"), **options)


def test_without_a_study_file_the_path_is_named(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml does not exist"):
        simulate(configure(study=tmp_path / "nowhere.toml"))


def test_fewer_sites_than_the_cohorts_floor(configure: Configure, tinier_base: Path) -> None:
    study = small_study(tinier_base, sites=5)
    with pytest.raises(ConfigError) as caught:
        simulate(configure(study=study, sites=4))
    assert "need 5 sites (cohort.min_sites), and 4 are simulated" in caught.value.message
    assert "--sites 5 or more" in caught.value.hint


def test_a_threshold_study_has_no_pooled_arm(configure: Configure, tinier_base: Path) -> None:
    study = small_study(tinier_base, "local")
    with pytest.raises(ConfigError, match="does not pool its noise") as caught:
        simulate(configure(study=study, arm="pooled"))
    assert "--arm local" in caught.value.hint


@pytest.mark.slow
def test_a_study_without_noise_is_simulated_as_such_alone(
    configure: Configure, tinier_base: Path, no_ledger: None
) -> None:
    study = small_study(tinier_base, "local", noise_multiplier=0.0, rounds=1)
    with pytest.raises(ConfigError) as caught:
        simulate(configure(study=study))
    assert "--arm noise-off" in caught.value.hint
    assert simulate(configure(study=study, arm="noise-off")).epsilon is None


def test_a_layout_that_the_base_lacks(configure: Configure, tinier_base: Path) -> None:
    config = configure(study=small_study(tinier_base, rounds=1), arm="noise-off")
    study = changed(small_study(tinier_base), adapter={"targets": ["attn9.to_q"]})
    with pytest.raises(ModelError, match=r"attn9\.to_q"):
        simulate(configure(study=study))
    study = changed(small_study(tinier_base), pooled={"parameters": 7})
    with pytest.raises(ConfigError, match=r"pooled\.parameters is\s+7"):
        simulate(configure(study=study, arm="noise-off"))
    simulate(config)  # the folder was not taken by what could not begin


# The folder


def test_the_folder_of_another_study_is_left_alone(finished: Finished) -> None:
    with pytest.raises(ConfigError, match=r"another simulation.*seed is 0, not 3") as caught:
        simulate(replace(finished.config, seed=3))
    assert "--dir" in caught.value.hint
    assert simulate(finished.config) == finished.result


def test_a_folder_that_no_simulation_made_is_left_alone(configure: Configure) -> None:
    folder = configure().folder
    folder.mkdir()
    (folder / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="no simulation made it"):
        simulate(configure())
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_folder(configure: Configure) -> None:
    configure().folder.touch()
    with pytest.raises(ConfigError, match="is a file"):
        simulate(configure())


def test_two_simulations_cannot_have_one_folder(configure: Configure) -> None:
    folder = SimulationFolder(configure().folder)
    with folder.held({"a": 1}), pytest.raises(ConfigError, match="A simulation is running"):
        simulate(configure())


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_kept_ledgers_are_whole_while_they_are_written(configure: Configure) -> None:
    """A kill after a step finds the ledgers as they were at its end, not as they became."""
    with pytest.raises(Killed):
        simulate(configure(), Seen(killed_at=("step 2 of 2", 3)))
    place = SimulationFolder(configure().folder).arm("pooled", "")
    kept = place.restore()
    assert kept is not None
    assert kept[0]["done"] == 1
    with sqlite3.connect(place.live / "site-1.sqlite") as ledger:
        before = ledger.execute("SELECT count(*) FROM entry").fetchone()
    assert before == (5,)  # the binding, the session, and of one step: intent, charge, what left


# A loss of one's own


@pytest.mark.slow
def test_a_loss_of_ones_own_is_an_arm_of_its_own(configure: Configure) -> None:
    def halved(unet: Any, rows: Any, schedule: Any) -> torch.Tensor:
        return denoising(unet, rows, schedule) * (rows.timesteps > 500)

    plain = simulate(configure(arm="noise-off"))
    own = simulate(configure(arm="noise-off", loss=halved))
    assert "halved" in own.own
    assert vector(own).tobytes() != vector(plain).tobytes()
    assert len(simulated_results(configure())) == 2


def test_a_loss_that_couples_patients_is_refused(configure: Configure) -> None:
    def centred(unet: Any, rows: Any, schedule: Any) -> torch.Tensor:
        losses = denoising(unet, rows, schedule)
        return losses - losses.mean()

    with pytest.raises(ModelError, match="couples patients"):
        simulate(configure(loss=centred))


def test_a_loss_that_fails_ends_the_simulation_with_its_own_error(
    configure: Configure, tinier_base: Path
) -> None:
    def broken(unet: Any, rows: Any, schedule: Any) -> torch.Tensor:
        if len(rows.timesteps) == 4:  # as in the check before
            return denoising(unet, rows, schedule)
        raise ZeroDivisionError("of my own")

    study = small_study(tinier_base, patients=3)
    with pytest.raises(ZeroDivisionError, match="of my own"):
        simulate(configure(study=study, loss=broken))


@pytest.mark.slow
def test_a_loss_of_another_shape(configure: Configure) -> None:
    def one(unet: Any, rows: Any, schedule: Any) -> torch.Tensor:
        return denoising(unet, rows, schedule).mean()

    with pytest.raises(ModelError, match=r"returns \(\) for 4 rows"):
        simulate(configure(loss=one))
