"""`craftsfl model augment`: pictures for one's own classes, and whether they help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from craftsfl.model.commands.which_model import (
    MODELS_PANEL,
    AdapterOption,
    BaseOption,
    TrackingOption,
)
from craftsfl.numbers import LARGEST_SEED

if TYPE_CHECKING:
    from craftsfl.model.augmenting.done import Augmented, AugmentRequest

_HOW = "How much"


def model_augment(
    tiles: Annotated[
        Path, typer.Argument(help="Your labelled tiles (imagefolder with metadata.csv).")
    ],
    out: Annotated[Path, typer.Option(help="A folder for pictures, classifiers and recipe.json.")],
    label: Annotated[
        str, typer.Option(help="The column of the table that holds the label.")
    ] = "diagnosis",
    captions: Annotated[
        Path | None,
        typer.Option(help='A CSV file (label,text); "LABEL, ORGAN." of the table if left out.'),
    ] = None,
    base: BaseOption = None,
    adapter: AdapterOption = None,
    tracking_uri: TrackingOption = None,
    encoder: Annotated[
        str,
        typer.Option(help="The frozen encoder under the classifier.", rich_help_panel=MODELS_PANEL),
    ] = "tiny",
    judge: Annotated[
        str,
        typer.Option(
            help="Another one, for images and texts: it filters.", rich_help_panel=MODELS_PANEL
        ),
    ] = "tiny-evaluator",
    study: Annotated[
        Path | None,
        typer.Option(
            help="The adapter's study.toml: a judge that it trains towards is refused.",
            rich_help_panel=MODELS_PANEL,
        ),
    ] = None,
    base_for: Annotated[
        list[str] | None,
        typer.Option(
            help="A label that the base draws, without the adapter; repeatable.",
            rich_help_panel=MODELS_PANEL,
        ),
    ] = None,
    target: Annotated[
        int, typer.Option(min=1, help="Pictures to keep of each class.", rich_help_panel=_HOW)
    ] = 32,
    most: Annotated[
        int, typer.Option(min=1, help="Draw at most so many for each.", rich_help_panel=_HOW)
    ] = 3,
    folds: Annotated[
        int, typer.Option(help="Folds of patients to test on.", rich_help_panel=_HOW)
    ] = 4,
    share: Annotated[
        list[float] | None,
        typer.Option(
            help="Also as if only this share of the patients were labelled; repeatable.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    guidance: Annotated[float, typer.Option(min=0.0)] = 3.0,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Of pictures and folds.")] = 0,
    confirmed: Annotated[
        bool, typer.Option("--patient-ids-confirmed", help="The ids are patients' after all.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print recipe.json.")] = False,
) -> None:
    """Draw pictures of your own classes, and see whether they help a classifier.

    Draws each class up to a target, keeps what the judge takes for it, trains a
    small classifier on a frozen encoder, and compares real tiles alone with real
    and synthetic ones, always on patients who trained neither. Writes what was
    done, and which classifier inherits the adapter's privacy and which does not.
    An interrupted run goes on if the command is repeated.
    """
    from craftsfl.model.augmenting.done import AugmentRequest
    from craftsfl.model.drawing import DrawingModels

    request = AugmentRequest(
        tiles=tiles,
        out=out,
        label=label,
        captions=captions,
        models=DrawingModels(base, adapter, tracking_uri),
        encoder=encoder,
        judge=judge,
        target=target,
        most=most,
        folds=folds,
        shares=tuple(dict.fromkeys((*(share or ()), 1.0))),
        seed=seed,
        steps=steps,
        guidance=guidance,
        ids_confirmed=confirmed,
        base_for=tuple(dict.fromkeys(base_for or ())),
        study=study,
    )
    _show(_run(request), as_json=as_json)


def _run(request: AugmentRequest) -> Augmented:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

    from craftsfl.model.augmenting.recipe import augment
    from craftsfl.terminal import progress_bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with progress_bars(*columns) as progress:
        task = progress.add_task("reading", total=None)
        return augment(
            request,
            lambda what, done, every: progress.update(
                task, description=what, completed=done, total=every
            ),
        )


def _show(done: Augmented, *, as_json: bool) -> None:
    from craftsfl.model.augmenting.page import augmentation_table, augmentation_words
    from craftsfl.model.augmenting.promises import about_figures
    from craftsfl.terminal import output

    if as_json:
        typer.echo(done.to_json(), nl=False)
        return
    output().print(augmentation_table(done))
    typer.echo("\n".join([*augmentation_words(done), about_figures()]))
    typer.echo(f"What was done is in {done.request.out}: recipe.json, augmentation.html.")
