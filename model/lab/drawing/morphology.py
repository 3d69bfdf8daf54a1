"""What a pathologist would name in each of TCGA's 33 studies: the prompts for real bases.

Written from general pathology knowledge for this project, not reviewed by a clinician. The embedded
tiny base knows other words, those of `model.lab.tissue.captions`.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import NamedTuple


class Morphology(NamedTuple):
    """A study's diagnosis, organ and three to five phrases for what its tiles show."""

    name: str
    organ: str
    phrases: tuple[str, ...]


# code | name | organ | phrases, on as many lines as they need, "/" between them
_TABLE = """
ACC  | adrenocortical carcinoma | adrenal cortex |
    diffuse sheets of eosinophilic cells / nuclear pleomorphism / capsular invasion / broad
    fibrous bands / confluent necrosis
BLCA | bladder urothelial carcinoma | bladder |
    papillary fronds lined by thickened urothelium / invasive nests of urothelial cells /
    squamous differentiation / muscularis propria invasion
BRCA | breast invasive carcinoma | breast |
    irregular ducts and solid nests in desmoplastic stroma / single-file infiltrating cells
    / comedo necrosis / tumour-infiltrating lymphocytes
CESC | cervical squamous cell carcinoma | cervix |
    nests of atypical squamous cells / keratin pearls / koilocytic change / stromal
    lymphocytic infiltrate
CHOL | cholangiocarcinoma | bile duct |
    angulated glands in dense fibrous stroma / perineural invasion / intracytoplasmic mucin
COAD | colon adenocarcinoma | colon |
    cribriform glands with dirty necrosis / pencillate hyperchromatic nuclei / goblet cell
    depletion / desmoplastic stroma
DLBC | diffuse large B-cell lymphoma | lymph node |
    diffuse sheets of large lymphoid cells / vesicular nuclei with prominent nucleoli /
    brisk mitoses / effaced nodal architecture
ESCA | oesophageal carcinoma | oesophagus |
    intestinal-type glands on Barrett mucosa / keratinizing squamous nests / submucosal
    invasion
GBM  | glioblastoma | brain |
    pseudopalisading necrosis / microvascular proliferation / hypercellular pleomorphic
    astrocytes / fibrillary background
HNSC | head and neck squamous cell carcinoma | head and neck |
    infiltrating squamous nests / keratin pearls / intercellular bridges / desmoplasia
KICH | chromophobe renal cell carcinoma | kidney |
    pale reticular cytoplasm / prominent cell membranes / raisinoid nuclei with perinuclear
    halo
KIRC | clear cell renal cell carcinoma | kidney |
    nests of cells with clear cytoplasm / delicate branching vasculature / round nuclei with
    nucleoli / haemorrhage
KIRP | papillary renal cell carcinoma | kidney |
    papillae with fibrovascular cores / foamy macrophages / psammoma bodies / basophilic
    cuboidal cells
LAML | acute myeloid leukaemia | bone marrow |
    hypercellular marrow / sheets of blasts with fine chromatin / reduced megakaryocytes
LGG  | lower grade glioma | brain |
    round nuclei with perinuclear halos / chicken-wire vasculature / fibrillary glial
    background / mild hypercellularity
LIHC | hepatocellular carcinoma | liver |
    thickened trabeculae / pseudoglandular pattern / bile plugs / polygonal eosinophilic
    hepatocytes / steatosis
LUAD | lung adenocarcinoma | lung |
    acinar glands / lepidic growth along alveolar walls / micropapillary tufts / mucin
    production
LUSC | lung squamous cell carcinoma | lung |
    keratinizing nests / intercellular bridges / central necrosis / hyperchromatic polygonal
    cells
MESO | mesothelioma | pleura |
    tubulopapillary epithelioid growth / spindle sarcomatoid cells / bland cuboidal cells in
    myxoid stroma
OV   | ovarian serous cystadenocarcinoma | ovary |
    slit-like papillae / marked nuclear atypia / high mitotic rate / psammoma bodies / solid
    sheets
PAAD | pancreatic ductal adenocarcinoma | pancreas |
    irregular glands in abundant desmoplastic stroma / perineural invasion / incomplete
    lumina
PCPG | phaeochromocytoma or paraganglioma | adrenal medulla |
    zellballen nests / granular amphophilic cytoplasm / rich capillary network
PRAD | prostate adenocarcinoma | prostate |
    small infiltrating glands / prominent nucleoli / absent basal layer / cribriform glands
    / fused glands
READ | rectal adenocarcinoma | rectum |
    malignant glands with dirty necrosis / desmoplasia / tumour budding
SARC | soft tissue sarcoma | soft tissue |
    fascicles of spindle cells / storiform pattern / pleomorphic giant cells / myxoid stroma
    / lipoblasts
SKCM | cutaneous melanoma | skin |
    nests of epithelioid melanocytes / melanin pigment / prominent eosinophilic nucleoli /
    dermal invasion
STAD | stomach adenocarcinoma | stomach |
    poorly cohesive signet ring cells / intestinal-type tubules / extracellular mucin pools
TGCT | testicular germ cell tumour | testis |
    sheets of large clear cells / fibrous septa with lymphocytes / embryonal carcinoma with
    necrosis
THCA | thyroid carcinoma | thyroid |
    papillae with nuclear grooves / optically clear nuclei / intranuclear pseudoinclusions /
    colloid follicles
THYM | thymoma | thymus |
    lobules separated by fibrous bands / epithelial cells mixed with lymphocytes /
    perivascular spaces
UCEC | endometrial carcinoma | endometrium |
    back-to-back endometrioid glands / squamous morules / loss of intervening stroma
UCS  | uterine carcinosarcoma | uterus |
    biphasic malignant glands and sarcoma / heterologous cartilage / high-grade nuclei
UVM  | uveal melanoma | eye |
    spindle melanocytes / epithelioid melanocytes with nucleoli / melanin pigment
"""


def _entry(text: str) -> tuple[str, Morphology]:
    code, name, organ, phrases = (" ".join(part.split()) for part in text.split("|"))
    return code, Morphology(name, organ, tuple(phrases.split(" / ")))


# A line without indentation starts an entry.
CLINICAL = MappingProxyType(dict(map(_entry, re.split(r"\n(?! )", _TABLE.strip()))))
