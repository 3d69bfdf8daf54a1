from __future__ import annotations

import numpy as np
import pytest

from model.lab.evaluation.alignment import (
    CaptionedImages,
    Judged,
    alignment,
    caption_hits,
    chance_of_image,
    image_hits,
    profile_agreement,
    profile_correlations,
    retrieval,
)
from model.lab.evaluation.encode import EncoderSpace
from model.lab.evaluation.figures import Figure, ImageSet
from model.lab.evaluation.patients import multiplicities
from model.quality.alignment import TooFewError, distinct_captions
from model.quality.embedding import embed_texts
from tests.model.lab.evaluation.fakes import COLOURS, ColourEncoder, colour_tiles


def _captioned(images: ImageSet, captions: tuple[str, ...]) -> CaptionedImages:
    encoder = ColourEncoder()
    own = distinct_captions(captions, images.captions)[1][1]
    weights = multiplicities(images.patients, 50, np.random.default_rng(0))
    features = EncoderSpace(encoder).features(images.images)
    return CaptionedImages(features, embed_texts(encoder, captions), own, images.patients, weights)


def _judged(real: ImageSet, generated: ImageSet) -> tuple[Judged, CaptionedImages, CaptionedImages]:
    captions = distinct_captions(real.captions, generated.captions)[0]
    judged = Judged("colours", real, generated, 0)
    return judged, _captioned(generated, captions), _captioned(real, captions)


def _mislabelled(images: ImageSet) -> ImageSet:
    """Images of which none shows its caption."""
    return ImageSet(np.roll(images.images, 3, axis=0), images.captions, images.patients)


def _by_name(figures: list[Figure]) -> dict[str, Figure]:
    return {figure.metric: figure for figure in figures}


def test_images_that_follow_their_captions_beat_shuffled_ones() -> None:
    figures = _by_name(alignment(*_judged(colour_tiles(16, 3, 0), colour_tiles(16, 2, 1))))
    gain = figures["alignment_gain"]
    assert gain.low > 0.2
    own, shuffled = figures["alignment"].value, figures["alignment"].beside[0].value
    assert gain.value == pytest.approx(own - shuffled)
    assert gain.beside[0].value == pytest.approx(gain.value, abs=0.3)


def test_images_that_show_something_else_do_not() -> None:
    generated = _mislabelled(colour_tiles(16, 1, 1))
    figures = _by_name(alignment(*_judged(colour_tiles(16, 3, 0), generated)))
    assert figures["alignment_gain"].low < 0
    assert figures["alignment"].beside[1].value > figures["alignment"].value


def _table(images: list[list[float]], own: list[int]) -> CaptionedImages:
    """Captions are the axes of a plane of three dimensions."""
    return CaptionedImages(
        np.array(images, np.float32),
        np.eye(3, dtype=np.float32),
        np.array(own),
        np.arange(len(own)),
        np.ones((1, len(own))),
    )


def test_ranks_by_hand() -> None:
    # Image 0 is nearest to its caption 0; image 1 to caption 0, then to its own, 1.
    table = _table([[1.0, 0.2, 0.1], [0.8, 0.6, 0.0]], [0, 1])
    assert caption_hits(table, 1).tolist() == [1, 0]
    assert caption_hits(table, 2).tolist() == [1, 1]
    # Caption 0: image 0 (0.98) before image 1 (0.8). Caption 1: image 1 before image 0.
    assert image_hits(table, 1)[:2].tolist() == [1, 1]
    assert np.isnan(image_hits(table, 1)[2])  # nobody's caption


def test_an_encoder_that_says_nothing_scores_chance_or_less() -> None:
    table = _table([[1.0, 1.0, 1.0]] * 6, [0, 0, 1, 1, 2, 2])
    assert caption_hits(table, 1) == pytest.approx(1 / 3)
    assert image_hits(table, 1).tolist() == [0, 0, 0]


def test_chance_of_an_image_by_hand() -> None:
    # 4 images, 2 captions of 3 and 1: among 2 random ones, 1 - C(1,2)/C(4,2) = 1 and 1/2.
    assert chance_of_image(np.array([0, 0, 0, 1]), 2) == pytest.approx(0.75)


def test_retrieval_stands_beside_real_tiles_and_chance() -> None:
    figures = _by_name(retrieval(*_judged(colour_tiles(16, 3, 0), colour_tiles(16, 2, 1))))
    assert set(figures) == {
        f"{way}_r{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5)
    }  # 8 captions: R@10 would be 1 whatever happens
    first = figures["image_to_text_r1"]
    assert [(r.name, r.n) for r in first.beside] == [("real tiles", 48), ("chance", None)]
    assert first.beside[1].value == 1 / 8
    assert first.low > 1 / 8


def test_retrieval_needs_two_captions() -> None:
    one = colour_tiles(1, 4, 0)
    with pytest.raises(TooFewError, match="two distinct captions"):
        retrieval(*_judged(one, one))


def test_pearson_row_by_row() -> None:
    x = np.array([[1.0, 2, 3], [1, 2, 3], [5, 5, 5]])
    y = np.array([[2.0, 4, 6], [3, 2, 1], [1, 2, 3]])
    assert profile_correlations(x, y).tolist() == pytest.approx([1, -1, 0])


def test_agreement_of_faithful_and_of_other_images() -> None:
    phrases = embed_texts(ColourEncoder(), COLOURS)
    real, faithful = colour_tiles(16, 3, 0), colour_tiles(16, 2, 1)
    right = profile_agreement(*_judged(real, faithful), phrases)[0]
    wrong = profile_agreement(*_judged(real, _mislabelled(colour_tiles(16, 1, 1))), phrases)[0]
    assert right.value > 0.5 and right.low > right.beside[0].value
    assert wrong.value < 0.2 and wrong.low < 0
    assert right.beside[1].name == "other real patients" and right.beside[1].n == 48


def test_agreement_needs_common_captions_and_phrases() -> None:
    real = colour_tiles(4, 2, 0)
    other = ImageSet(real.images, ("grey x",) * 8, real.patients)
    with pytest.raises(TooFewError, match="real tile's caption"):
        profile_agreement(*_judged(real, other), embed_texts(ColourEncoder(), COLOURS))
    with pytest.raises(TooFewError, match="3 phrases"):
        profile_agreement(*_judged(real, real), embed_texts(ColourEncoder(), COLOURS[:2]))
