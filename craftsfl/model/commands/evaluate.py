"""`craftsfl model evaluate`: real tiles against generated ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from craftsfl.numbers import LARGEST_SEED


def model_evaluate(
    real: Annotated[
        Path,
        typer.Argument(
            help="Real tiles (imagefolder with metadata.csv) of patients not trained on."
        ),
    ],
    generated: Annotated[
        Path | None,
        typer.Option(
            help="Generated tiles, as `model sample --out-dir` writes them; else --base draws."
        ),
    ] = None,
    training: Annotated[
        Path | None, typer.Option(help="The tiles trained on, which may have been memorised.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="A base's digest, folder or hub name; default: tiny."),
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="An adapter's file, or models:/NAME/VERSION or @ALIAS.")
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(help="For distances; repeatable: a general and a pathology one."),
    ] = None,
    judge: Annotated[
        str, typer.Option(help="The image-text encoder for captions, not used in training.")
    ] = "tiny-evaluator",
    study: Annotated[
        Path | None,
        typer.Option(help="study.toml: names the training encoder, which is refused as judge."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Only this one; repeatable. Default: all that are possible."),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(min=1, help="How many to draw; default: as many as there are real ones."),
    ] = None,
    most: Annotated[
        int, typer.Option(min=2, help="Use at most this many tiles of a folder.")
    ] = 5000,
    phrases: Annotated[
        Path | None, typer.Option(help="Public phrases for semantic agreement, one a line.")
    ] = None,
    drift_prompts: Annotated[
        Path | None, typer.Option(help="Public prompts for the drift, one a line.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    guidance: Annotated[float, typer.Option(min=0.0)] = 3.0,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Of images, splits and resampling.")
    ] = 0,
    resamples: Annotated[int, typer.Option(min=2, help="Bootstrap draws of patients.")] = 200,
    confirmed: Annotated[
        bool, typer.Option("--patient-ids-confirmed", help="The ids are patients' after all.")
    ] = False,
    public: Annotated[
        bool, typer.Option("--public-data", help="No tile is from a patient who could object.")
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Write one page with plots and images.")] = None,
    with_patients: Annotated[
        bool,
        typer.Option("--with-patients", help="PATIENTS' TILES on the page: keep it here."),
    ] = False,
    tracking_uri: Annotated[
        str | None, typer.Option(help="Log the figures to this MLflow; also used for models:/.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="Log into this MLflow run.")] = None,
    experiment: Annotated[
        str | None, typer.Option(help="Log into a new run of this experiment.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """How good, faithful and original generated tiles are, next to real ones; split by patient."""
    from craftsfl.model.evaluation import EvaluationOptions, run_evaluation
    from craftsfl.model.evaluation.subjects import Model
    from craftsfl.model.evaluation.tracking import destination

    run_evaluation(
        EvaluationOptions(
            real=real,
            generated=generated,
            training=training,
            model=Model(base, adapter, tracking_uri, steps, guidance),
            encoders=tuple(encoder or ("tiny", "tiny-evaluator")),
            judge=judge or None,
            study=study,
            metrics=tuple(metric) if metric else None,
            most=most,
            images=images,
            phrases=phrases,
            drift_prompts=drift_prompts,
            seed=seed,
            resamples=resamples,
            ids_confirmed=confirmed,
            public=public,
            html=html,
            with_patients=with_patients,
            destination=destination(tracking_uri, run, experiment),
            as_json=as_json,
        )
    )
