"""The manifest's loss: a table for each term, and the same digest as ever for studies without."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from privacy.config import check
from privacy.errors import ConfigError
from privacy.study.manifest import Study
from privacy.study.stage_two import StageTwo

DIGEST = "sha256:" + "ab" * 32
TERMS: dict[str, Any] = {
    "effects": {
        "weight": 0.5,
        "margin": 0.5,
        "encoder": {"source": "tiny", "digest": DIGEST},
        "phrases": ["glands", "fat", "mucin", "keratin"],
        "nearest": 2,
    },
    "structure": {
        "weight": 0.5,
        "margin": 0.64,
        "block": "up_blocks.1",
        "encoder": {"source": "tiny", "digest": DIGEST},
    },
    "drift": {"weight": 0.5},
    "grounding": {
        "weight": 0.1,
        "temperature": 0.01,
        "captions": ["glands", "fat, breast"],
        "each": 2,
    },
}


@pytest.fixture
def values(study_values: dict[str, Any]) -> dict[str, Any]:
    study_values["training"]["loss"] = "stage-two"
    study_values["stage_two"] = TERMS
    return study_values


def load(values: dict[str, Any]) -> Study:
    return check(values, Study, where="study.toml")


def test_all_terms_or_some(values: dict[str, Any]) -> None:
    study = load(values)
    assert study.stage_two is not None
    assert study.stage_two.structure is not None
    assert study.stage_two.structure.margin == 0.64
    for name in TERMS:
        fewer = load({**values, "stage_two": {k: v for k, v in TERMS.items() if k != name}})
        assert getattr(fewer.stage_two, name) is None
        assert fewer.digest() != study.digest()


def test_studies_of_one_stage_keep_their_digest(study_values: dict[str, Any]) -> None:
    """Ledgers and policies name studies by it: a table that is not there is not in it."""
    study = load(study_values)
    values = study.model_dump(
        mode="json",
        exclude={
            "stage_two": True,
            "adapter": {"frozen_a"},
            "privacy": {"noise_colluders", "mechanism"},
            "aggregation": {"floor", "averaging"},
            "pooled": True,
            "chosen": True,
            "promotion": True,
            "auditors": True,
        },
    )
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    assert study.digest() == hashlib.sha256(b"craftsfl/study/v1\0" + text.encode()).digest()
    known = "4908000b6226624eed09f18a0b77c85ddefbbd1ca0641e6e1dc892c93270504b"  # before the table
    assert study.digest().hex() == known
    frozen = {**study_values, "adapter": {**study_values["adapter"], "frozen_a": True}}
    assert load(frozen).digest() != study.digest()


def changed(table: str, **change: Any) -> dict[str, Any]:
    return {**TERMS, table: {**TERMS[table], **change}}


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        (None, "exactly where"),
        ({}, "has no term"),
        ({**TERMS, "adaptive": {}}, "unknown key stage_two.adaptive"),
        (changed("structure", weight=0), "weight"),
        (changed("structure", margin=1.5), "margin"),
        (changed("structure", block=""), "block"),
        (changed("structure", encoder={"source": "tiny"}), "digest is missing"),
        (changed("structure", wieght=1), r"did you mean weight\?"),
        (changed("effects", weight=0), "weight"),
        (changed("effects", margin=-2), "margin"),
        (changed("effects", phrases=["a"]), "phrases"),
        (changed("effects", phrases=["a", "b", "a"]), "listed twice"),
        (changed("effects", nearest=5), "nearest is 5 but only 4"),
        (changed("effects", nearest=0), "nearest"),
        (changed("effects", least=1.0), "least"),
        (changed("effects", least=-0.1), "least"),
        (changed("effects", encoder={"source": "tiny"}), "digest is missing"),
        ({"correlation": TERMS["structure"]}, "called structure now"),
        (changed("drift", weight=-1.0), "weight"),
        (changed("grounding", temperature=0), "temperature"),
        (changed("grounding", temperature=9e-4), "temperature"),
        (changed("grounding", captions=[]), "captions"),
        (changed("grounding", captions=["a", "a"]), "listed twice"),
        (changed("grounding", each=3), "each is 3 but only 2"),
        (changed("grounding", each=0), "each"),
    ],
)
def test_what_cannot_be_meant_is_refused(values: dict[str, Any], terms: Any, words: str) -> None:
    if terms is None:
        del values["stage_two"]
    else:
        values["stage_two"] = terms
    with pytest.raises(ConfigError, match=words):
        load(values)


def test_constants_without_the_loss_are_refused(values: dict[str, Any]) -> None:
    values["training"]["loss"] = "denoising"
    with pytest.raises(ConfigError, match="exactly where"):
        load(values)


def test_the_sample_in_the_documentation_is_valid(study_values: dict[str, Any]) -> None:
    text = (Path(__file__).parents[3] / "docs" / "stage-two.md").read_text("utf-8")
    sample = tomllib.loads(text.split("```toml\n")[1].split("```")[0])
    study_values["training"] |= sample["training"]
    study = load({**study_values, "stage_two": sample["stage_two"]})
    assert study.stage_two is not None
    assert None not in dict(study.stage_two).values()


def test_the_encoders_of_all_terms_take_part_in_training(values: dict[str, Any]) -> None:
    other = {**TERMS["effects"], "encoder": {"source": "x", "digest": "sha256:" + "cd" * 32}}
    values["stage_two"] = {**TERMS, "effects": other}
    terms = load(values).stage_two
    assert terms is not None
    assert terms.encoder_digests == {DIGEST, "sha256:" + "cd" * 32}
    assert StageTwo(drift=terms.drift).encoder_digests == frozenset()


def test_the_old_name_of_a_term_says_what_to_do(values: dict[str, Any]) -> None:
    """A study of before the term was renamed: an error that names the new table."""
    old = {"correlation": TERMS["structure"], "drift": TERMS["drift"]}
    told = "stage_two.correlation is called structure now, .*rename the table at every site"
    with pytest.raises(ConfigError, match=told) as caught:
        load({**values, "stage_two": old})
    assert "did you mean" not in caught.value.message
    renamed = {"structure": old["correlation"], "drift": old["drift"]}
    assert load({**values, "stage_two": renamed}).stage_two is not None
