"""Captions that name cancer type, organ and morphology, for the 33 studies of TCGA.

The table is written for synthetic pictures from general knowledge; it is not a clinical source.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from model.lab.tissue.tile import MORPHOLOGIES
from privacy.errors import ModelError


@dataclass(frozen=True)
class CancerType:
    """One TCGA study: code, full name, organ, and which of MORPHOLOGIES its tiles show."""

    code: str
    name: str
    organ: str
    morphologies: tuple[str, ...]


# code | name | organ | morphologies
_TABLE = """
ACC  | adrenocortical carcinoma | adrenal gland | solid_nests necrosis stroma
BLCA | bladder urothelial carcinoma | bladder | papillary solid_nests keratin stroma
BRCA | breast invasive carcinoma | breast | single_files cribriform mucin fat stroma lymphoid
CESC | cervical squamous cell carcinoma | cervix | keratin solid_nests lymphoid
CHOL | cholangiocarcinoma | bile duct | glands stroma mucin
COAD | colon adenocarcinoma | colon | glands cribriform necrosis mucin
DLBC | diffuse large B-cell lymphoma | lymph node | lymphoid necrosis
ESCA | oesophageal carcinoma | oesophagus | keratin glands solid_nests
GBM  | glioblastoma | brain | spindle_cells necrosis
HNSC | head and neck squamous cell carcinoma | oral cavity | keratin solid_nests stroma
KICH | chromophobe renal cell carcinoma | kidney | solid_nests stroma
KIRC | clear cell renal carcinoma | kidney | solid_nests necrosis fat
KIRP | papillary renal cell carcinoma | kidney | papillary necrosis
LAML | acute myeloid leukaemia | bone marrow | lymphoid fat
LGG  | lower grade glioma | brain | spindle_cells mucin
LIHC | hepatocellular carcinoma | liver | solid_nests glands fat
LUAD | lung adenocarcinoma | lung | glands papillary mucin
LUSC | lung squamous cell carcinoma | lung | keratin necrosis solid_nests
MESO | mesothelioma | pleura | spindle_cells papillary stroma
OV   | ovarian serous carcinoma | ovary | papillary solid_nests necrosis
PAAD | pancreatic adenocarcinoma | pancreas | glands stroma mucin
PCPG | phaeochromocytoma and paraganglioma | adrenal medulla | solid_nests spindle_cells
PRAD | prostate adenocarcinoma | prostate | cribriform glands single_files
READ | rectal adenocarcinoma | rectum | glands cribriform mucin
SARC | sarcoma | soft tissue | spindle_cells necrosis fat
SKCM | cutaneous melanoma | skin | solid_nests spindle_cells lymphoid
STAD | stomach adenocarcinoma | stomach | single_files glands mucin
TGCT | testicular germ cell tumour | testis | lymphoid solid_nests necrosis
THCA | thyroid carcinoma | thyroid | papillary glands
THYM | thymoma | thymus | lymphoid spindle_cells
UCEC | endometrial carcinoma | endometrium | glands cribriform papillary
UCS  | uterine carcinosarcoma | uterus | spindle_cells glands necrosis
UVM  | uveal melanoma | eye | spindle_cells solid_nests
"""


def _parse(line: str) -> CancerType:
    code, name, organ, morphologies = (part.strip() for part in line.split("|"))
    return CancerType(code, name, organ, tuple(morphologies.split()))


CANCER_TYPES = MappingProxyType({t.code: t for t in map(_parse, _TABLE.strip().splitlines())})

PHRASES = MappingProxyType(
    {
        "glands": ("round glands with open lumens", "glands lined by columnar cells"),
        "cribriform": ("cribriform sheets with punched-out lumens", "a cribriform growth pattern"),
        "papillary": ("papillary fronds with fibrovascular cores", "slender papillary fronds"),
        "solid_nests": ("solid nests of tumour cells", "packed solid nests"),
        "spindle_cells": ("fascicles of spindle cells", "parallel spindle cells"),
        "single_files": ("single files of small cells", "cells infiltrating in single files"),
        "lymphoid": ("dense lymphoid sheets", "sheets of small lymphoid cells"),
        "necrosis": ("granular necrosis with nuclear dust", "confluent necrosis"),
        "mucin": ("mucin pools with floating clusters", "pale pools of mucin"),
        "fat": ("fat with thin septa", "mature fat cells"),
        "keratin": ("keratin pearls among squamous cells", "whorled keratin pearls"),
        "stroma": ("fibrous stroma", "collagenous stroma with few cells"),
    }
)

TEMPLATES = (
    "{name}, {organ}: {what}.",
    "H&E section of {organ}, {name}, {what}.",
    "{what} in {name} of the {organ}.",
    "Histology of {organ} with {what}; {name}.",
)


@dataclass(frozen=True)
class CaptionWords:
    """Which of TEMPLATES, and which of a morphology's PHRASES by index, captions are made of."""

    templates: tuple[str, ...] = TEMPLATES
    phrases: tuple[int, ...] = (0, 1)


ALL_WORDS = CaptionWords()


def caption(
    study_code: str, morphology: str, rng: np.random.Generator, words: CaptionWords = ALL_WORDS
) -> str:
    """A caption such as "colon adenocarcinoma, colon: round glands with open lumens."

    Any morphology may be named for any study. Raises ModelError for an unknown study or morphology.
    """
    if study_code not in CANCER_TYPES:
        raise ModelError(
            f"Unknown study {study_code!r}.", f"Choose one of {', '.join(CANCER_TYPES)}."
        )
    if morphology not in PHRASES:
        raise ModelError(
            f"Unknown morphology {morphology!r}.", f"Choose one of {', '.join(MORPHOLOGIES)}."
        )
    study = CANCER_TYPES[study_code]
    template = words.templates[int(rng.integers(len(words.templates)))]
    what = PHRASES[morphology][words.phrases[int(rng.integers(len(words.phrases)))]]
    return template.format(name=study.name, organ=study.organ, what=what)


def studies_showing(morphology: str) -> tuple[str, ...]:
    """Codes of the studies whose tiles show this morphology."""
    return tuple(code for code, t in CANCER_TYPES.items() if morphology in t.morphologies)
