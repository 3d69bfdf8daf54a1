"""Which phrases the domain's captions would be compared with, for a person to read."""

from __future__ import annotations

from bench.output import BenchRow
from bench.stage_two_setting import (
    DOMAIN_CAPTIONS,
    EFFECTS,
    SHOWN,
    StageTwoSetting,
    phrase_captions,
)
from model.encoders import load_image_text_encoder
from model.losses import nearest_phrases, phrase_likeness


def reference_rows(setting: StageTwoSetting) -> list[BenchRow]:
    """A row for each caption and each of its phrases.

    `names`: the morphology that the phrase names; `right`: whether the caption's tiles show it,
    which nothing in training knows. The last row has their share.
    """
    terms = setting.effects(EFFECTS, private=False)
    named = phrase_captions(setting.constants.phrases)
    encoder = load_image_text_encoder(terms.encoder.source, digest=terms.encoder.digest)
    likeness = phrase_likeness(encoder, DOMAIN_CAPTIONS, terms.phrases)
    r, chosen = nearest_phrases(likeness, terms.nearest)
    rows: list[BenchRow] = []
    for caption, own_r, own in zip(DOMAIN_CAPTIONS, r.tolist(), chosen.tolist(), strict=True):
        for alike, place in zip(own_r, own, strict=True):
            phrase = terms.phrases[place]
            rows.append(_row(caption, phrase, alike, named[phrase], SHOWN[caption]))
    right = sum(bool(row["right"]) for row in rows) / len(rows)
    mean = float(r.mean())
    rows.append({**_row("all captions", "", mean, "", ""), "right": right})
    return rows


def _row(caption: str, phrase: str, r: float, names: str, shown: str) -> BenchRow:
    return {"caption": caption, "phrase": phrase, "r": r, "names": names, "right": names == shown}
