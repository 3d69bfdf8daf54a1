from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.lab.drawing.morphology import CLINICAL
from model.lab.drawing.prompts import (
    find_type,
    morphology,
    plain_prompts,
    read_prompts,
    type_prompts,
)
from model.lab.tissue.captions import CANCER_TYPES, PHRASES
from privacy.errors import ModelError

SHARED = Path(__file__).parents[5] / "shared" / "data" / "text" / "tcga33_morphology.json"


def test_every_type_has_three_to_five_clinical_phrases_each_its_own() -> None:
    assert set(CLINICAL) == set(CANCER_TYPES)
    assert len(CLINICAL) == 33
    for kind in CLINICAL.values():
        assert 3 <= len(set(kind.phrases)) == len(kind.phrases) <= 5
        assert all(phrase == phrase.strip() and "/" not in phrase for phrase in kind.phrases)


@pytest.mark.skipif(not SHARED.is_file(), reason="the table of morphologies is not here")
def test_the_clinical_table_is_the_one_that_was_handed_over() -> None:
    types = json.loads(SHARED.read_text("utf-8"))["types"]
    assert {code: list(kind.phrases) for code, kind in CLINICAL.items()} == {
        code: values["morphology"] for code, values in types.items()
    }


def test_the_embedded_base_is_asked_in_words_that_it_was_trained_on() -> None:
    known = {phrase for phrases in PHRASES.values() for phrase in phrases}
    for code in CANCER_TYPES:
        phrases = morphology(code, "tissue").phrases
        assert set(phrases) <= known
        assert 3 <= len(set(phrases)) == len(phrases) <= 6


@pytest.mark.parametrize(
    "name, code",
    [
        ("COAD", "COAD"),
        ("coad", "COAD"),
        ("Colon Adenocarcinoma", "COAD"),
        ("esophageal carcinoma", "ESCA"),
        ("oesophageal  carcinoma", "ESCA"),
        ("acute myeloid leukemia", "LAML"),
        ("testicular germ cell tumor", "TGCT"),
        ("pheochromocytoma or paraganglioma", "PCPG"),
        ("diffuse large B cell lymphoma", "DLBC"),
        ("clear cell renal cell carcinoma", "KIRC"),
        ("clear cell renal carcinoma", "KIRC"),
    ],
)
def test_a_type_is_found_by_code_and_by_name_however_spelled(name: str, code: str) -> None:
    assert find_type(name) == code


@pytest.mark.parametrize(
    "name, near", [("COADD", "COAD"), ("lung", "LUAD"), ("glioblastom", "GBM"), ("zzz", "types")]
)
def test_an_unknown_type_is_answered_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(ModelError, match=f"Unknown cancer type '{name}'.*{near}"):
        find_type(name)


def test_a_type_becomes_a_prompt_for_each_phrase() -> None:
    prompts = type_prompts(["COAD", "colon adenocarcinoma"], "clinical")
    assert len(prompts) == 4
    assert prompts[0].text == "colon adenocarcinoma, colon: cribriform glands with dirty necrosis."
    assert {(prompt.organ, prompt.diagnosis) for prompt in prompts} == {
        ("colon", "colon adenocarcinoma")
    }
    assert len({p.diagnosis for p in type_prompts(["all"], "clinical")}) == 33


def test_a_file_has_a_prompt_a_line(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeffDrüsen\n\n  stroma \nDrüsen\n".encode())
    assert [prompt.text for prompt in read_prompts(path)] == ["Drüsen", "stroma"]


@pytest.mark.parametrize(
    "content, says", [(b"", "holds no prompt"), (b"\n \n", "no prompt"), (b"\xff\xfe", "UTF-8")]
)
def test_a_file_without_prompts_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=says):
        read_prompts(path)


def test_a_missing_file_and_an_empty_prompt_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        read_prompts(tmp_path / "none.txt")
    with pytest.raises(ModelError, match="A prompt is empty"):
        plain_prompts(["glands", " "])
