"""`craftsfl site memorisation`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from craftsfl.site.site_file import SiteFile


def site_memorisation(
    settings: SiteFile,
    adapter: Annotated[
        Path, typer.Option(help="The released adapter, a .safetensors file; its base: the study's.")
    ],
    out: Annotated[
        Path, typer.Option(help="A new file for the verdict and the closest pairs; stays here.")
    ],
    encoder: Annotated[
        list[str] | None,
        typer.Option(help="For distances, beside plain pixels; repeatable, from this machine."),
    ] = None,
    pictures: Annotated[int, typer.Option(min=20, help="How many to draw.")] = 200,
    most: Annotated[int, typer.Option(min=20, help="Use at most this many tiles.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the pictures and the resampling.")] = 0,
) -> None:
    """Look whether a released generator has learnt single tiles of this site by heart.

    It draws from this site's own captions, and looks for each picture's
    nearest tile, turned and mirrored. A new patient's tiles are near to some
    tile too: each of the site's own patients in turn plays the new one, and
    the verdict is the difference. It stays at this site.
    """
    from craftsfl.site.memorisation.run import MemorisationRequest, report_memorisation

    encoders = tuple(encoder or ("tiny-evaluator",))
    report_memorisation(MemorisationRequest(settings, adapter, out, encoders, pictures, most, seed))
