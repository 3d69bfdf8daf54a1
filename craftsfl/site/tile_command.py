"""`craftsfl site tile`, as it is typed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from client.slides.cutting import TilingRequest
    from client.slides.run import TilingSummary


def site_tile(
    slides: Annotated[
        Path,
        typer.Argument(
            help="The folder with the slides, and with metadata.csv: a row for each slide."
        ),
    ],
    out: Annotated[
        Path, typer.Argument(help="The folder for the tiles: new, or one to be gone on with.")
    ],
    size: Annotated[int, typer.Option(help="Pixels of a tile's side.")] = 256,
    mpp: Annotated[
        float, typer.Option(help="Micrometres of a tile's pixel; 0.5 is a 20x objective.")
    ] = 0.5,
    slide_mpp: Annotated[
        float | None,
        typer.Option(help="Micrometres of a slide's pixel, for slides that do not say it."),
    ] = None,
    most: Annotated[int, typer.Option(help="Tiles of a slide at most; 0 for all.")] = 200,
    tissue: Annotated[float, typer.Option(help="Least share of a tile that is tissue.")] = 0.4,
    pen: Annotated[float, typer.Option(help="Largest share of a tile that is pen.")] = 0.05,
) -> None:
    """Cut tiles out of whole slides (SVS, TIFF and others), for training.

    The table has the columns of a tile folder's, with file_name naming a slide.
    OUT gets metadata.csv with the same texts and patients for every tile. An
    interrupted run goes on where it was: repeat the command. Slides that
    cannot be used are listed in quarantine.csv with the reason.

    Labels and overview photographs of slides are never read, and no file is
    named after a slide or a patient. Look at contact-sheet-1.png.
    """
    from client.slides.cutting import TilingRequest
    from client.slides.filters import TileRules
    from client.slides.grid import TileCut, check_plausible

    if slide_mpp is not None:
        check_plausible(slide_mpp, "--slide-mpp")
    request = TilingRequest(
        slides, out, TileCut(size, mpp), TileRules(tissue, pen), slide_mpp=slide_mpp, most=most
    )
    typer.echo(_told(out, _with_bar(request)))


def _with_bar(request: TilingRequest) -> TilingSummary:
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

    from client.slides.run import TilingProgress, tile_slides
    from craftsfl.terminal import progress_bars

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with progress_bars(*columns) as bar:
        task = bar.add_task("opening the slides", total=None)

        def show(at: TilingProgress) -> None:
            bar.update(
                task,
                total=at.slides,
                completed=at.slide - 1 + at.share,
                description=f"slide {at.slide} of {at.slides}, {at.tiles} tiles",
            )

        return tile_slides(request, show)


def _told(out: Path, done: TilingSummary) -> str:
    lines = [
        f"{out / 'metadata.csv'}: {done.tiles} tiles of {done.slides} slides, {done.patients} "
        "patients. Its texts and ids stay here like the slides.",
        f"Look at what was kept: {', '.join(map(str, done.sheets))}. A tile that you delete is "
        "out of the table after the same command.",
    ]
    if done.left_out:
        lines.append(
            f"Left out: {len(done.left_out)} rows or slides. The reasons: {out / 'quarantine.csv'}"
        )
    if done.unnamed:
        lines.append(f"In no row of the table, so not cut: {done.unnamed} files.")
    if done.unlisted:
        lines.append(
            "No longer in the table of slides, so no longer in metadata.csv; their folders can be "
            f"deleted: {', '.join(done.unlisted)}"
        )
    folder = out.resolve()
    lines.append(
        f"Next: craftsfl site init FOLDER --name NAME --data {shlex.quote(str(folder))}. A "
        "hospital that has its site.toml writes there, under [data]: "
        f"folder = {json.dumps(str(folder), ensure_ascii=False)}"
    )
    return "\n".join(lines)
