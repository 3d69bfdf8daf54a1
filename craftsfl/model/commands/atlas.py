"""`craftsfl model atlas`: every cancer type on one page, and how far pictures follow words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from craftsfl.model.commands.which_model import AdapterOption, BaseOption, TrackingOption
from craftsfl.numbers import LARGEST_SEED

_JUDGE = "Who judges"


def model_atlas(
    out: Annotated[Path, typer.Argument(help="A new folder, or one to go on with.")],
    base: BaseOption = None,
    adapter: AdapterOption = None,
    tracking_uri: TrackingOption = None,
    words: Annotated[
        Literal["tissue", "clinical"] | None,
        typer.Option(help="Whose phrases: what the embedded base knows, or a pathologist's."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            help="An image-text encoder that took no part in training; tissue words have one.",
            rich_help_panel=_JUDGE,
        ),
    ] = None,
    study: Annotated[
        Path | None,
        typer.Option(
            help="The adapter's study.toml: an encoder that it trains towards is refused.",
            rich_help_panel=_JUDGE,
        ),
    ] = None,
    each: Annotated[int, typer.Option(min=1, max=100, help="Pictures of each phrase.")] = 4,
    seed: Annotated[
        int, typer.Option(max=LARGEST_SEED, help="The first picture's; the next ones count on.")
    ] = 0,
    steps: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    guidance: Annotated[float, typer.Option(min=0.0)] = 3.0,
    size: Annotated[
        int | None, typer.Option(min=8, help="Pixels a side; the base's own if left out.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Show what a model draws of 33 cancer types, and name the weakest.

    Draws pictures for every phrase of every type and asks an encoder that took no
    part in training whether they show it. OUT/index.html is the page: it works
    offline. The same command goes on where it was interrupted.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

    from craftsfl.model.atlas.facts import atlas_json
    from craftsfl.model.atlas.make import AtlasRequest, make_atlas
    from craftsfl.model.atlas.page import ATLAS_PAGE, share_text
    from craftsfl.model.drawing import DrawingModels
    from craftsfl.terminal import progress_bars
    from model.sampling import SamplerSettings

    models = DrawingModels(base, adapter, tracking_uri)
    settings = SamplerSettings(steps, guidance, size)
    request = AtlasRequest(out, models, settings, words, judge, study, each, seed)
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with progress_bars(*columns) as progress:
        task = progress.add_task("starting", total=None)
        made = make_atlas(
            request,
            lambda stage, done, every: progress.update(
                task, description=stage, completed=done, total=every
            ),
        )
    atlas = made.atlas
    if json:
        typer.echo(atlas_json(atlas), nl=False)
        return
    there = f" ({made.found} were already there)" if made.found else ""
    typer.echo(f"{out / ATLAS_PAGE}: {made.images} pictures{there}.")
    typer.echo(f"{share_text(atlas.overall)} follow their phrase. The weakest:")
    for kind in atlas.weakest:
        typer.echo(f"  {kind.code}  {share_text(kind.obedience)}  {kind.name}")
    for note in atlas.notes:
        typer.echo(note)
