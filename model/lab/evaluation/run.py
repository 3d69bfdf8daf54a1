"""All metrics of one evaluation, and which of them these images do not allow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from model.encoders import ImageTextEncoder
from model.lab.evaluation import alignment as align
from model.lab.evaluation.compare import SetMetric, Sets, compare
from model.lab.evaluation.encode import EncoderSpace, PixelSpace, Space, views
from model.lab.evaluation.figures import Figure, ImageSet, Unavailable
from model.lab.evaluation.frechet import Frechet
from model.lab.evaluation.kernels import ClipDiscrepancy, KernelDistance
from model.lab.evaluation.memorisation import Found, Suspects, memorisation
from model.lab.evaluation.neighbours import Neighbours
from model.lab.evaluation.patients import DEFAULT_RESAMPLES, Resampling, resample
from model.quality.alignment import TooFewError, check_independent, distinct_captions
from model.quality.embedding import embed_texts
from privacy.errors import ConfigError

METRICS = (
    "frechet",
    "kid",
    "cmmd",
    "neighbours",
    "alignment",
    "retrieval",
    "agreement",
    "memorisation",
    "drift",
    "mask",
)
SET_METRICS: dict[str, SetMetric] = {
    "frechet": Frechet(),
    "kid": KernelDistance(),
    "neighbours": Neighbours(),
}


@dataclass(frozen=True)
class Plan:
    """How to evaluate. `metrics` named explicitly must be possible; None: all that are."""

    seed: int = 0
    resamples: int = DEFAULT_RESAMPLES
    metrics: tuple[str, ...] | None = None
    training_digests: frozenset[str] = frozenset()  # of encoders that took part in training
    epsilon: float | None = None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.metrics or ()) - set(METRICS))
        if unknown:
            raise ConfigError(
                f"Unknown metric: {', '.join(unknown)}.", f"Known: {', '.join(METRICS)}."
            )

    def wants(self, metric: str) -> bool:
        """Whether this metric is wanted: by name, or because no names were given."""
        return self.metrics is None or metric in self.metrics


@dataclass(frozen=True)
class Question:
    """What to compare. Real tiles are of patients who were not trained on.

    judge: an image-text encoder not used in training. phrases: public. paired: the generated
    images carry the numbers of the real patients whose captions were their prompts.
    """

    real: ImageSet
    generated: ImageSet
    spaces: tuple[EncoderSpace, ...]
    judge: ImageTextEncoder | None = None
    phrases: tuple[str, ...] = ()
    paired: bool = False
    training: ImageSet | None = None


@dataclass
class Answer:
    """Figures, gaps, and the nearest training tile of each generated image, by space."""

    figures: list[Figure] = field(default_factory=list)
    unavailable: list[Unavailable] = field(default_factory=list)
    nearest: dict[str, Found] = field(default_factory=dict)


Step = Callable[[str], None]  # called with what is being computed


def evaluate(question: Question, plan: Plan, on_step: Step = lambda _: None) -> Answer:
    """Every wanted metric.

    A metric that needs more images is listed with the reason if all metrics were wanted, and raises
    `TooFewError` if it was named explicitly. Raises `ModelError` for a judge that took part in
    training.
    """
    if question.judge is not None:
        check_independent(question.judge.name, question.judge.digest, plan.training_digests)
    answer = Answer()
    for metric, encoder, work in _work(question, plan):
        on_step(f"{metric}, {encoder}")
        attempt(answer, (metric, encoder), plan, work)
    return answer


def attempt(
    answer: Answer, what: tuple[str, str], plan: Plan, work: Callable[[Answer], None]
) -> None:
    """Do the work; note (metric, encoder) as unavailable if there are too few images."""
    try:
        work(answer)
    except TooFewError as error:
        if plan.metrics is not None:
            raise
        answer.unavailable.append(Unavailable(*what, str(error)))


Work = tuple[str, str, Callable[[Answer], None]]


def _work(question: Question, plan: Plan) -> Iterator[Work]:
    """(metric, encoder, what to do) in the order of the table."""
    real, generated = question.real, question.generated
    drawn = resample(
        real.patients,
        generated.patients,
        paired=question.paired,
        resamples=plan.resamples,
        seed=plan.seed,
    )
    for space in question.spaces:
        yield from _set_work(space, question, plan, drawn)
    if plan.wants("cmmd") and not any(knows_texts(space) for space in question.spaces):
        yield "cmmd", "-", _absent("CMMD needs an encoder of images and texts: --encoder.")
    judge = question.judge
    if judge is None:
        if {"alignment", "retrieval", "agreement"} & set(plan.metrics or ()):
            raise ConfigError("Alignment needs a judge.", "Name an image-text encoder: --judge.")
        if plan.metrics is None:
            yield "alignment", "-", _absent("No judge was named.")
    else:
        yield from _caption_work(judge, question, plan, drawn)
    if plan.wants("memorisation"):
        yield from _memory_work(question, plan, drawn)


def _absent(reason: str) -> Callable[[Answer], None]:
    def work(answer: Answer) -> None:
        raise TooFewError(reason)

    return work


def knows_texts(space: EncoderSpace) -> bool:
    """Whether it is the space of an image-text encoder, as CMMD needs."""
    return isinstance(space.encoder, ImageTextEncoder)


def _set_work(
    space: EncoderSpace, question: Question, plan: Plan, drawn: Resampling
) -> Iterator[Work]:
    metrics = dict(SET_METRICS)
    if knows_texts(space):
        metrics["cmmd"] = ClipDiscrepancy()
    wanted = {name: metric for name, metric in metrics.items() if plan.wants(name)}
    if not wanted:
        return
    sets = Sets(
        space.name,
        space.features(question.real.images),
        space.features(question.generated.images),
        question.real.patients,
        plan.seed,
    )
    for name, metric in wanted.items():

        def work(answer: Answer, metric: SetMetric = metric) -> None:
            figures, gaps = compare(metric, sets, drawn)
            answer.figures += figures
            answer.unavailable += gaps

        yield name, space.name, work


def _caption_work(
    judge: ImageTextEncoder, question: Question, plan: Plan, drawn: Resampling
) -> Iterator[Work]:
    if not any(plan.wants(name) for name in ("alignment", "retrieval", "agreement")):
        return
    real, generated = _captioned(judge, question, drawn)
    judged = align.Judged(judge.name, question.real, question.generated, plan.seed)
    if plan.wants("alignment"):
        yield _adding("alignment", judge.name, lambda: align.alignment(judged, generated, real))
    if plan.wants("retrieval"):
        yield _adding("retrieval", judge.name, lambda: align.retrieval(judged, generated, real))
    if plan.wants("agreement") and question.phrases:
        phrases = embed_texts(judge, question.phrases)
        yield _adding(
            "agreement",
            judge.name,
            lambda: align.profile_agreement(judged, generated, real, phrases),
        )


def _adding(metric: str, encoder: str, figures: Callable[[], list[Figure]]) -> Work:
    def work(answer: Answer) -> None:
        answer.figures += figures()

    return metric, encoder, work


def _captioned(
    judge: ImageTextEncoder, question: Question, drawn: Resampling
) -> tuple[align.CaptionedImages, align.CaptionedImages]:
    """Real and generated images in the judge's space, over the captions of both."""
    texts, (own_real, own_generated) = distinct_captions(
        question.real.captions, question.generated.captions
    )
    space, text_features = EncoderSpace(judge), embed_texts(judge, texts)
    return (
        align.CaptionedImages(
            space.features(question.real.images),
            text_features,
            own_real,
            question.real.patients,
            drawn.real,
        ),
        align.CaptionedImages(
            space.features(question.generated.images),
            text_features,
            own_generated,
            question.generated.patients,
            drawn.generated,
        ),
    )


def _memory_work(question: Question, plan: Plan, drawn: Resampling) -> Iterator[Work]:
    training = question.training
    if training is None:
        reason = "Memorisation needs the tiles that the adapter was trained on: --training."
        yield "memorisation", "-", _absent(reason)
        return
    spaces: list[Space] = [*question.spaces[:1], PixelSpace()]
    for space in spaces:

        def work(answer: Answer, space: Space = space) -> None:
            suspects = _suspects(space, question, training, (plan, drawn))
            figures, found = memorisation(suspects)
            answer.figures += figures
            answer.nearest[space.name] = found

        yield "memorisation", space.name, work


def _suspects(
    space: Space, question: Question, training: ImageSet, how: tuple[Plan, Resampling]
) -> Suspects:
    plan, drawn = how
    real, generated = question.real, question.generated
    once = np.ones((1, len(training)))  # training tiles stay as they are
    return Suspects(
        space.name,
        training=views(space, training.images, training.patients, once),
        held_out=views(space, real.images, real.patients, drawn.real),
        generated=views(space, generated.images, generated.patients, drawn.generated),
        seed=plan.seed,
        epsilon=plan.epsilon,
    )
