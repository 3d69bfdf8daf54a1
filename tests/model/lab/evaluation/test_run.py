"""All metrics together, on tiles of coloured noise."""

from __future__ import annotations

import pytest

from model.lab.evaluation import METRICS, Answer, Plan, Question, TooFewError, evaluate
from model.lab.evaluation.encode import EncoderSpace
from privacy.errors import ConfigError, ModelError
from tests.model.lab.evaluation.fakes import COLOURS, FIGURES, ColourEncoder, colour_tiles


def _question(patients: int = 16, generated: int = 3, *, training: bool = True) -> Question:
    encoder = ColourEncoder()
    return Question(
        real=colour_tiles(patients, 4, 0),
        generated=colour_tiles(patients, generated, 1),
        spaces=(EncoderSpace(encoder),),
        judge=encoder,
        phrases=COLOURS,
        paired=True,
        training=colour_tiles(16, 4, 0, first=104) if training else None,
    )


def _names(answer: Answer) -> set[str]:
    return {figure.metric for figure in answer.figures}


@pytest.fixture(scope="module")
def answer() -> Answer:
    return evaluate(_question(), Plan(resamples=40, epsilon=4.0))


def test_every_metric_gives_its_figures(answer: Answer) -> None:
    assert _names(answer) == set().union(*FIGURES.values())
    assert not answer.unavailable
    assert set(answer.nearest) == {"colours", "pixels"}


def test_every_figure_carries_numbers_seed_and_interval(answer: Answer) -> None:
    for figure in answer.figures:
        assert figure.n_generated == 48 and figure.n_real == 64 and figure.patients == 16
        assert figure.low <= figure.value <= figure.high, figure.metric
        assert figure.source and figure.beside, figure.metric


def test_the_same_seed_gives_the_same_figures_and_another_does_not() -> None:
    plan = Plan(resamples=20, metrics=("kid", "alignment"))
    first, again = (evaluate(_question(), plan).figures for _ in range(2))
    assert first == again
    other = evaluate(_question(), Plan(seed=1, resamples=20, metrics=("kid", "alignment"))).figures
    assert [f.low for f in other] != [f.low for f in first]


@pytest.mark.parametrize("metric", sorted(FIGURES))
def test_a_metric_asked_for_by_name_comes_alone(metric: str) -> None:
    assert _names(evaluate(_question(), Plan(resamples=5, metrics=(metric,)))) == FIGURES[metric]


def test_too_few_images_are_a_gap_with_a_reason_or_an_error_if_asked_for() -> None:
    few = _question(patients=3, generated=1)
    found = evaluate(few, Plan(resamples=5))
    gaps = {(gap.metric, gap.encoder): gap.reason for gap in found.unavailable}
    assert "needs 16 real images" in gaps["frechet", "colours"]
    assert "needs 6 generated images" in gaps["neighbours", "colours"]
    assert "kid" in _names(found)
    with pytest.raises(TooFewError, match="needs 16 real images"):
        evaluate(few, Plan(resamples=5, metrics=("frechet",)))


def test_without_training_tiles_memorisation_is_a_gap() -> None:
    found = evaluate(_question(training=False), Plan(resamples=5))
    assert [gap.metric for gap in found.unavailable] == ["memorisation"]


def test_the_judge_of_training_is_refused_before_any_work() -> None:
    plan = Plan(training_digests=frozenset({ColourEncoder.digest}))
    with pytest.raises(ModelError, match="took part"):
        evaluate(_question(), plan)


def test_unknown_metrics_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=f"fid.*{METRICS[0]}"):
        Plan(metrics=("fid",))


def test_alignment_asked_for_without_a_judge_is_refused() -> None:
    question = Question(colour_tiles(4, 2, 0), colour_tiles(4, 2, 1), ())
    with pytest.raises(ConfigError, match="needs a judge"):
        evaluate(question, Plan(metrics=("alignment",)))


def test_other_metrics_need_no_judge() -> None:
    question = Question(
        colour_tiles(8, 2, 0), colour_tiles(8, 2, 1), (EncoderSpace(ColourEncoder()),)
    )
    assert _names(evaluate(question, Plan(resamples=5, metrics=("kid",)))) == {"kid"}
    gaps = evaluate(question, Plan(resamples=5)).unavailable
    assert ("alignment", "No judge was named.") in {(gap.metric, gap.reason) for gap in gaps}
