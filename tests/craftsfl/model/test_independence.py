"""Who may judge an adapter's pictures: as its file says, or its study."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from craftsfl.model.evaluation.subjects import drawn_source
from craftsfl.model.independence import encoders_trained_towards
from model.generation.provenance import Drawing, Provenance, write_png
from model.origin import Origin, encoders_of
from privacy.errors import ConfigError
from privacy.study.manifest import Study

ENCODER = "sha256:" + "ab" * 32
ORIGIN = Origin("sha256:" + "0" * 64, "study", "0" * 64, "1", 50, 8.0, 1e-5)
BASE = Drawing(base=ORIGIN.base, steps=2, guidance=3.0, software="craftsfl")


def adapted(origin: Origin | None) -> Drawing:
    return replace(BASE, adapter="sha256:" + "1" * 64, origin=origin)


def with_encoder(values: dict[str, Any]) -> Study:
    term: dict[str, Any] = {"weight": 0.1, "margin": 0.1, "block": "up_blocks.1"}
    term["encoder"] = {"digest": ENCODER, "source": "local"}
    training = values["training"] | {"loss": "stage-two"}
    return Study.model_validate(values | {"training": training, "stage_two": {"structure": term}})


def test_a_file_says_what_it_was_trained_towards() -> None:
    assert encoders_trained_towards(adapted(replace(ORIGIN, encoders=(ENCODER,))), None) == {
        ENCODER
    }
    assert encoders_trained_towards(adapted(replace(ORIGIN, encoders=())), None) == frozenset()
    assert encoders_trained_towards(BASE, None) == frozenset()


def test_an_older_file_does_not_say_and_its_study_does(study_values: dict[str, Any]) -> None:
    study = with_encoder(study_values)
    own = replace(ORIGIN, study_digest=study.digest().hex())
    assert encoders_trained_towards(adapted(ORIGIN), None) is None
    assert encoders_trained_towards(adapted(None), None) is None
    assert encoders_trained_towards(adapted(own), study) == {ENCODER}
    plain = Study.model_validate(study_values)
    both = replace(own, study_digest=plain.digest().hex(), encoders=(ENCODER,))
    assert encoders_trained_towards(adapted(both), plain) == {ENCODER}
    assert encoders_of(study) == (ENCODER,)
    assert encoders_of(plain) == ()


def test_another_study_is_refused(study_values: dict[str, Any]) -> None:
    study = with_encoder(study_values)
    for drawing, words in (
        (BASE, "without its adapter"),
        (adapted(None), "not trained by the study"),
        (adapted(ORIGIN), "not trained by the study"),
    ):
        with pytest.raises(ConfigError, match=words):
            encoders_trained_towards(drawing, study)


def test_pictures_say_it_too(tmp_path: Path) -> None:
    """`craftsfl model evaluate` looks at what drew them before it believes a judge."""
    drawing = adapted(replace(ORIGIN, encoders=(ENCODER,)))
    picture = tmp_path / "picture.png"
    write_png(Image.new("RGB", (8, 8)), picture, Provenance(drawing, ("Glands.",), (1,)))
    assert drawn_source(picture).encoders == (ENCODER,)
