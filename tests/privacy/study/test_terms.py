"""What follows from a study alone: its event, its whole schedule, the constants of a step."""

from __future__ import annotations

from privacy.accounting import epsilon, public_capacity
from privacy.dpsgd.release import Release
from privacy.mechanisms.local import PoissonGaussian, local_event
from privacy.study.manifest import Study
from privacy.study.terms import event_of, events_of, mechanism_of, whole_schedule
from tests.client.studies import make_study

TRAINING = {"sampling_rate": 0.5, "noise_multiplier": 8.0, "clipping_norm": 0.2, "steps": 3}


def study_of(**training: object) -> Study:
    return make_study(rounds=10, training=training, privacy={"attempts": 2})


def test_the_event_of_a_study_is_one_round() -> None:
    event = event_of(study_of(**TRAINING))
    assert event == local_event(**TRAINING)
    # Ledgers of before the noise was exact hold another event for the same attempts.
    assert events_of(study_of(**TRAINING)) == {event, PoissonGaussian(**TRAINING)}


def test_the_whole_schedule_is_rounds_times_attempts() -> None:
    study = study_of(sampling_rate=0.25, noise_multiplier=2.0, steps=3)
    (total,) = {sum(event.steps for event in whole_schedule(study))}
    assert total == 60
    assert epsilon(whole_schedule(study), 1e-5) > 0


def test_the_constants_of_a_step_come_from_the_study() -> None:
    assert mechanism_of(study_of(**TRAINING)).constants(500) == Release(0.2, 8.0, 250.0)


def test_the_capacity_of_a_step_comes_from_the_whole_schedule() -> None:
    found = mechanism_of(study_of(**TRAINING)).capacity(500)
    assert found == public_capacity(500, 0.5, 60, study_of().privacy.delta)
