"""Read, draw, encode, compare: from options to a report and its images."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from craftsfl.model.evaluation.inputs import (
    TileFolder,
    check_disjoint,
    check_generated,
    image_set,
    masks,
    read_tiles,
)
from craftsfl.model.evaluation.options import EvaluationOptions
from craftsfl.model.evaluation.report import EvaluationReport
from craftsfl.model.evaluation.subjects import (
    ImageSource,
    drawn_source,
    open_subject,
    public_prompts,
)
from model.base import image_size
from model.encoders import SHIPPED_ENCODERS, load_encoder, load_image_text_encoder
from model.lab.drawing.morphology import CLINICAL
from model.lab.drawing.prompts import read_prompts
from model.lab.evaluation import Answer, ImageSet, Plan, Question, TooFewError, evaluate
from model.lab.evaluation.encode import EncoderSpace
from model.lab.evaluation.mask import mask_figures
from model.lab.evaluation.run import attempt
from model.lab.evaluation.subject import drift_figures
from model.lab.tissue.captions import PHRASES
from model.quality.alignment import check_independent
from privacy.errors import ConfigError
from privacy.study.manifest import load_study

Tell: TypeAlias = Callable[[str], None]
_FEW_PATIENTS = 10


@dataclass(frozen=True)
class Examined:
    """The report, and the images for the page."""

    report: EvaluationReport
    question: Question


@dataclass(frozen=True)
class _Folders:
    real: TileFolder
    training: TileFolder | None


@dataclass(frozen=True)
class _Sides:
    """Both sides, where the generated one comes from, and what else to measure."""

    real: ImageSet
    generated: ImageSet
    source: ImageSource
    extra: Callable[[Answer, Plan], None]
    found: int | None = None  # pictures in the folder of generated ones
    left_out: int = 0  # of its rows


def examine(options: EvaluationOptions, tell: Tell) -> Examined:
    """All figures. Raises `CraftsflError`; `DataError` may name files and stays at the site."""
    plan = _plan(options)
    spaces = tuple(EncoderSpace(load_encoder(name)) for name in dict.fromkeys(options.encoders))
    judge = load_image_text_encoder(options.judge) if options.judge else None
    if judge is not None:  # before anything long
        check_independent(judge.name, judge.digest, plan.training_digests)
    phrases = _phrases(options)
    if options.drift_prompts is not None:
        read_prompts(options.drift_prompts)
    tell("reading tiles")
    folders = _folders(options)
    with tempfile.TemporaryDirectory() as scratch:
        if options.generated is not None:
            sides = _from_folder(options, folders)
        else:
            sides = _drawn(options, folders, (spaces, tell, Path(scratch)))
        _check_study(options, sides.source)
        if judge is not None:
            check_independent(judge.name, judge.digest, sides.source.encoders)
        side = sides.real.images.shape[1]
        training = folders.training
        question = Question(
            sides.real,
            sides.generated,
            spaces,
            judge,
            phrases,
            paired=options.generated is None,
            training=_set(training, side, options) if training is not None else None,
        )
        plan = replace(plan, epsilon=sides.source.epsilon)
        answer = evaluate(question, plan, tell)
        sides.extra(answer, plan)
    notes = (
        *_cut(folders, sides, question),
        *_notes(options, folders, question),
        *_seen(plan, question),
        *_doubts(answer),
        *((sides.source.claims,) if sides.source.claims else ()),
    )
    report = EvaluationReport(answer, _about(options, sides, question), options.public, notes)
    return Examined(report, question)


def _plan(options: EvaluationOptions) -> Plan:
    study = None if options.study is None else load_study(options.study)
    digests: frozenset[str] = frozenset()
    if study is not None and study.stage_two is not None:
        digests = study.stage_two.encoder_digests
    return Plan(options.seed, options.resamples, options.metrics, digests)


def _check_study(options: EvaluationOptions, source: ImageSource) -> None:
    """Another study's encoder says nothing about what this adapter was trained with.

    A file may claim any study; layers or a rank that the study does not name do not belong to it.
    """
    if options.study is None or source.study is None:
        return
    study = load_study(options.study)
    if study.digest().hex() != source.study or source.lora not in (None, study.adapter):
        raise ConfigError(
            f"The adapter was not trained by the study of {options.study}.",
            "Name the study.toml of its run, and the adapter as that run released it.",
        )


def _folders(options: EvaluationOptions) -> _Folders:
    real = read_tiles(options.real, ids_confirmed=options.ids_confirmed)
    if options.training is None:
        return _Folders(real, None)
    training = read_tiles(options.training, ids_confirmed=options.ids_confirmed)
    check_disjoint(real, training)
    return _Folders(real, training)


def _set(folder: TileFolder, side: int, options: EvaluationOptions) -> ImageSet:
    return image_set(folder, side, most=options.most, seed=options.seed)


def _from_folder(options: EvaluationOptions, folders: _Folders) -> _Sides:
    """Existing pictures, grouped by prompt: pictures of one prompt resemble each other."""
    if options.generated is None:
        raise ConfigError("No folder of generated images was named.", "Name it: --generated.")
    folder = read_tiles(options.generated, ids_confirmed=True)  # no patient's
    check_generated(folders.real, folder)
    side = folder.side()
    real, generated = _set(folders.real, side, options), _set(folder, side, options)
    first = int(real.patients.max()) + 1
    prompts = np.unique(np.asarray(generated.captions), return_inverse=True)[1]
    one = len(np.unique(prompts)) == 1
    owners = np.arange(len(generated)) if one else prompts
    generated = replace(generated, patients=(first + owners).astype(np.int64))

    def extra(answer: Answer, plan: Plan) -> None:
        found = masks(folder, side, generated)
        if found is None and plan.metrics is not None and "mask" in plan.metrics:
            raise ConfigError(
                "Some generated images have no mask, or there are more of them than --most.",
                "Sample them with --mask; metadata.csv then names the masks.",
            )
        if found is not None and plan.wants("mask"):
            attempt(answer, ("mask", "-"), plan, _mask_work(generated, found, options.seed))

    source = drawn_source(folder.data.tiles[0].path)
    return _Sides(real, generated, source, extra, len(folder.data.tiles), folder.left_out)


def _mask_work(
    generated: ImageSet, found: NDArray[np.int64], seed: int
) -> Callable[[Answer], None]:
    def work(answer: Answer) -> None:
        answer.figures += mask_figures(generated, found, seed)

    return work


def _drawn(
    options: EvaluationOptions,
    folders: _Folders,
    how: tuple[tuple[EncoderSpace, ...], Tell, Path],
) -> _Sides:
    """Images drawn now, from the captions of the real tiles."""
    spaces, tell, scratch = how
    tell("loading the model")
    subject, source, embedded = open_subject(options.model, options.seed, scratch)
    real = _set(folders.real, image_size(subject.pipeline), options)
    prompts = public_prompts(options.drift_prompts, embedded=embedded)
    wanted = options.metrics is None or "drift" in options.metrics
    tell("drawing")
    pairs = None
    if wanted:
        pairs = subject.before_and_after(prompts)
    else:
        subject.put()
    generated = subject.draw(real, options.images or len(real))

    def extra(answer: Answer, plan: Plan) -> None:
        def work(answer: Answer) -> None:
            if pairs is None:
                raise TooFewError("Drift is an adapter's: name one with --adapter.")
            answer.figures += drift_figures(subject, pairs, spaces)

        if wanted:
            attempt(answer, ("drift", "-"), plan, work)

    return _Sides(real, generated, source, extra)


def _phrases(options: EvaluationOptions) -> tuple[str, ...]:
    """Public phrases for the profiles: from the file, or those that the judge can know."""
    if options.phrases is not None:
        return tuple(prompt.text for prompt in read_prompts(options.phrases))
    if options.judge in SHIPPED_ENCODERS:
        return tuple(phrase for pair in PHRASES.values() for phrase in pair)
    clinical = (phrase for kind in CLINICAL.values() for phrase in kind.phrases)
    return tuple(dict.fromkeys(clinical))


def _about(options: EvaluationOptions, sides: _Sides, question: Question) -> dict[str, object]:
    source, judge = sides.source, question.judge
    return {
        "title": source.title(),
        "base": source.base,
        "adapter": source.adapter,
        "epsilon": source.epsilon,
        "delta": source.delta,
        "encoders": {space.name: space.encoder.digest for space in question.spaces},
        "judge": {judge.name: judge.digest} if judge is not None else None,
        "seed": options.seed,
        "resamples": options.resamples,
        "side_px": int(sides.real.images.shape[1]),
        "real_images": len(sides.real),
        "generated_images": len(sides.generated),
        "patients": len(np.unique(sides.real.patients)),
        "training_images": len(question.training) if question.training is not None else None,
    }


def _cut(folders: _Folders, sides: _Sides, question: Question) -> Iterator[str]:
    """What was left out because of --most, or because it could not be read."""
    training = folders.training.data.tiles if folders.training is not None else ()
    for name, used, found in (
        ("real tiles", len(question.real), len(folders.real.data.tiles)),
        ("training tiles", len(question.training or ()), len(training)),
        ("generated images", len(question.generated), sides.found),
    ):
        if found is not None and used < found:
            yield f"{used} of {found} {name} were used, drawn at random by the seed (--most)."
    if sides.left_out:
        yield (
            f"{sides.left_out} generated rows could not be used and were left out. The same file "
            "under several ids is left out too: a generator that repeats itself would seem better."
        )


def _notes(options: EvaluationOptions, folders: _Folders, question: Question) -> tuple[str, ...]:
    notes = []
    patients = len(np.unique(question.real.patients))
    if patients < _FEW_PATIENTS:
        notes.append(f"{patients} patients: intervals over so few are rough and often too narrow.")
    for name, folder in (("real", folders.real), ("training", folders.training)):
        if folder is not None and folder.left_out:
            notes.append(f"{folder.left_out} {name} rows could not be used and were left out.")
        if folder is not None and folder.data.doubt:
            notes.append(f"{name.capitalize()} patient ids are doubtful: {folder.data.doubt}.")
    if question.judge is not None:
        notes.append(_about_judge(options, question.judge.name))
    return tuple(notes)


def _seen(plan: Plan, question: Question) -> tuple[str, ...]:
    """Training encoders among those that distances are measured with."""
    seen = [s.name for s in question.spaces if s.encoder.digest in plan.training_digests]
    return tuple(
        f"Training used {name}: distances in its space may be flattering." for name in seen
    )


def _doubts(answer: Answer) -> tuple[str, ...]:
    """A judge that does not understand the real tiles does not understand others either."""
    for figure in answer.figures:
        for reference in figure.beside:
            known = figure.metric == "alignment_gain" and reference.name == "real tiles"
            if known and reference.low is not None and reference.low <= 0:
                return (
                    f"{figure.encoder} does not tell the real tiles' captions from shuffled ones: "
                    "its figures on captions mean nothing here. Name another --judge.",
                )
    return ()


def _about_judge(options: EvaluationOptions, name: str) -> str:
    if options.study is None:
        return (
            f"Captions were judged by {name}. Whether it took part in training was not checked: "
            "name the study (--study)."
        )
    return f"Captions were judged by {name}, which took no part in this study's training."
