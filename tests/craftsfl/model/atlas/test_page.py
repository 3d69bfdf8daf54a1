"""The page: everything on it, nothing from elsewhere, and markup is text."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from craftsfl.model.atlas.facts import (
    Atlas,
    AtlasJudge,
    AtlasPhrase,
    AtlasPicture,
    AtlasType,
    atlas_json,
    atlas_notes,
)
from craftsfl.model.atlas.page import render_atlas
from model.generation.provenance import Drawing
from model.lab.atlas.obedience import Obedience
from model.origin import Origin

MARKUP = "<script>alert(1)</script>\x1b[2J"
DRAWING = Drawing("sha256:" + "1" * 64, 20, 3.0, "craftsfl 0.1.0")
ADAPTED = replace(
    DRAWING,
    adapter="sha256:" + "2" * 64,
    adapter_source=MARKUP,
    origin=Origin("sha256:" + "1" * 64, "study", "3" * 64, "1", 2, 3.9, 1e-5),
)


def obedience(followed: int, count: int = 4, gain: float = 0.5) -> Obedience:
    share = followed / count
    return Obedience(
        followed, count, share, share / 2, (1 + share) / 2, gain, gain - 0.1, gain + 0.1
    )


def kind(code: str, followed: int, gain: float = 0.5) -> AtlasType:
    likest = ["fat"] * followed + ["mucin"] * (4 - followed)
    pictures = tuple(
        AtlasPicture(f"images/{code}-{n}.png", n, near) for n, near in enumerate(likest)
    )
    phrase = AtlasPhrase("mature fat", "fat", f"{code} {MARKUP}: mature fat.", pictures)
    own = obedience(followed, gain=gain)
    return AtlasType(code, f"cancer {code}", "organ", (phrase,), own, obedience(4))


def atlas(*types: AtlasType, **changes: Any) -> Atlas:
    judge = AtlasJudge("judge", "sha256:" + "4" * 64, True)
    whole = Atlas(DRAWING, "tissue", 4, judge, 12, types, obedience(9, 12), obedience(11, 12), ())
    return replace(whole, **changes)


FOUR = tuple(kind(code, n) for code, n in (("AAA", 4), ("BBB", 1), ("CCC", 3), ("DDD", 2)))


class Tags(HTMLParser):
    """All tags with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag == name]


def test_every_picture_has_words_and_nothing_comes_from_elsewhere() -> None:
    page = render_atlas(atlas(*FOUR, drawing=ADAPTED))
    tags = Tags(page)
    images = tags.of("img")
    assert len(images) == 16
    assert all("Synthetic picture" in (image["alt"] or "") for image in images)
    assert sum("taken for mucin" in (image["alt"] or "") for image in images) == 6
    assert not tags.of("script") and "http:" not in page and "https:" not in page
    assert "\x1b" not in page and "\\x1b[2J" in page
    ids = [attributes["id"] for _, attributes in tags.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [a["href"] or "" for a in tags.of("a")]
    assert {target[1:] for target in targets if target.startswith("#")} <= set(ids)


def test_the_weakest_are_named_first() -> None:
    page = render_atlas(atlas(*FOUR, kind("EEE", 1, gain=0.4), kind("FFF", 4, gain=0.6)))
    assert re.findall(r"<li><a href=\"#(\w+)\"", page) == ["EEE", "BBB", "DDD", "CCC", "AAA"]
    assert page.index('id="weak"') < page.index("<img")
    assert "1 of 4 (12 to 62 %) follow their phrase" in page


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"control": obedience(0)}, "means nothing"),
        ({"control": None, "overall": obedience(0), "words": "clinical"}, "than by guessing"),
        (
            {"drawing": ADAPTED, "judge": AtlasJudge("judge", "sha256:" + "4" * 64, False)},
            "was not checked",
        ),
        ({}, "look alike"),
    ],
)
def test_notes_say_what_the_figures_are_worth(changes: dict[str, Any], words: str) -> None:
    (found,) = [note for note in atlas_notes(atlas(*FOUR, **changes)) if words in note]
    assert found
    assert len(list(atlas_notes(atlas(*FOUR)))) == 1


def test_json_has_no_infinity_and_says_what_it_is_of() -> None:
    lone = replace(obedience(1, 1), gain_low=float("-inf"), gain_high=float("inf"))
    text = atlas_json(atlas(replace(FOUR[0], obedience=lone), drawing=ADAPTED))
    assert text.isascii()
    found = json.loads(text)
    assert found["types"][0]["obedience"]["gain_high"] is None
    assert found["weakest"] == ["AAA"]
    assert found["drawing"]["adapter"] == ADAPTED.adapter
    assert "3.9" in found["privacy"]
