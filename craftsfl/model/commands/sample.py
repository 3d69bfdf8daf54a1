"""`craftsfl model sample`: what a base draws, with or without an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from craftsfl.model.commands.which_model import AdapterOption, BaseOption, TrackingOption
from craftsfl.numbers import refuse_nan

if TYPE_CHECKING:
    from craftsfl.model.drawing import DrawingRequest, Follow

_WHAT, _FOLLOW = "What to draw", "What to follow"


def model_sample(
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[PROMPT]...", help="Prompts.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="One picture (PNG): a row for each prompt and seed.")
    ] = None,
    out_dir: Annotated[
        Path | None,
        typer.Option(help="A folder of pictures with metadata.csv, ready for a training job."),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="A file of prompts, one a line.", rich_help_panel=_WHAT)
    ] = None,
    cancer_type: Annotated[
        list[str] | None,
        typer.Option(
            help='A TCGA code or name, or "all": a prompt for each morphology.',
            rich_help_panel=_WHAT,
        ),
    ] = None,
    words: Annotated[
        Literal["tissue", "clinical"] | None,
        typer.Option(
            help="For --cancer-type: what the embedded base knows, or a pathologist's.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    list_types: Annotated[
        bool, typer.Option("--list-types", help="Show the cancer types and their morphologies.")
    ] = False,
    seed: Annotated[
        list[int] | None,
        typer.Option(help="Draw each prompt with each seed.", rich_help_panel=_WHAT),
    ] = None,
    count: Annotated[
        int,
        typer.Option(
            min=1, help="Pictures of each prompt, all with different seeds.", rich_help_panel=_WHAT
        ),
    ] = 1,
    base: BaseOption = None,
    adapter: AdapterOption = None,
    tracking_uri: TrackingOption = None,
    steps: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    guidance: Annotated[float, typer.Option(min=0.0)] = 3.0,
    size: Annotated[
        int | None, typer.Option(min=8, help="Pixels a side; the base's own if left out.")
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Nuclear masks: a file (.png, .npy, .mat) or a folder.", rich_help_panel=_FOLLOW
        ),
    ] = None,
    fluorescence: Annotated[
        Path | None,
        typer.Option(help="Fluorescence: a file or a folder.", rich_help_panel=_FOLLOW),
    ] = None,
    control: Annotated[
        str | None,
        typer.Option(
            help="A ControlNet's folder; the embedded base's if left out.", rich_help_panel=_FOLLOW
        ),
    ] = None,
    fit: Annotated[
        Literal["resize", "crop"],
        typer.Option(help="crop: the centred square of a mask.", rich_help_panel=_FOLLOW),
    ] = "resize",
    strength: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=10.0,
            callback=refuse_nan,
            help="Strength of the control.",
            rich_help_panel=_FOLLOW,
        ),
    ] = 1.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the --out file.")] = False,
) -> None:
    """Draw synthetic pictures: one to look at (--out), or a data set (--out-dir).

    With --adapter, --out shows the base and the adapted model side by side.
    Each PNG says which model drew it, under which privacy, and that it shows
    no patient; see craftsfl model describe.
    """
    from privacy.errors import ConfigError

    if list_types:
        from craftsfl.model.provenance import show_types
        from craftsfl.terminal import output

        show_types(words or "clinical", output())
        return
    if (out is None) == (out_dir is None):
        raise ConfigError("Where to?", "Give either --out picture.png or --out-dir FOLDER.")
    if out is not None:
        from craftsfl.model.outputs import check_picture

        check_picture(out, overwrite=overwrite)
    types = tuple(cancer_type or ())
    if types:
        from model.lab.drawing.prompts import type_prompts

        type_prompts(types, "clinical")  # report a typo before torch is loaded
    from craftsfl.model.drawing import DrawingModels, DrawingRequest, Wanted
    from model.sampling import SamplerSettings

    wanted = Wanted(tuple(texts or ()), prompts, types, words, tuple(seed or ()), count)
    models = DrawingModels(base, adapter, tracking_uri)
    follow = _follow(mask, fluorescence, control, fit, strength)
    request = DrawingRequest(wanted, models, SamplerSettings(steps, guidance, size), follow)
    _draw(request, out, out_dir, overwrite)


def _follow(
    mask: Path | None,
    fluorescence: Path | None,
    control: str | None,
    fit: Literal["resize", "crop"],
    strength: float,
) -> Follow | None:
    from craftsfl.model.drawing import Follow
    from privacy.errors import ConfigError

    if mask is not None and fluorescence is not None:
        raise ConfigError("Masks and fluorescence do not go together.", "Give one of the two.")
    if mask is not None:
        return Follow("mask", mask, control, fit, strength)
    if fluorescence is not None:
        return Follow("fluorescence", fluorescence, control, fit, strength)
    if control is not None:
        raise ConfigError("The control has nothing to follow.", "Add --mask or --fluorescence.")
    return None


def _draw(request: DrawingRequest, out: Path | None, out_dir: Path | None, overwrite: bool) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

    from craftsfl.model.drawing import draw_grid, draw_into
    from craftsfl.terminal import progress_bars

    if out is not None:
        draw_grid(request, out, overwrite=overwrite)
        typer.echo(str(out))
    if out_dir is not None:
        columns = ("drawing", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with progress_bars(*columns) as progress:
            task = progress.add_task("drawing", total=None)
            summary = draw_into(
                request,
                out_dir,
                lambda done, every: progress.update(task, completed=done, total=every),
            )
        there = f" ({summary.found} were already there)" if summary.found else ""
        typer.echo(f"{out_dir}: {summary.images} synthetic pictures{there}")
