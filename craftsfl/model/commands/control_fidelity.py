"""`craftsfl model control-fidelity`: do samples follow their masks?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from craftsfl.numbers import refuse_nan


def model_control_fidelity(
    data: Annotated[
        Path | None,
        typer.Option(help="A public folder of images/ and masks/; drawn tissue if left out."),
    ] = None,
    fluorescence: Annotated[
        bool, typer.Option("--fluorescence", help="Condition on the markers, not on the mask.")
    ] = False,
    base: Annotated[
        str | None, typer.Option(help="A base's folder or hub id; the tiny one if left out.")
    ] = None,
    control: Annotated[
        str | None, typer.Option(help="A control's folder; the shipped one if left out.")
    ] = None,
    adapter: Annotated[
        Path | None, typer.Option(help="A trained adapter (.safetensors) to put on the base.")
    ] = None,
    prompt: Annotated[str, typer.Option(help="The caption of every sample of --data.")] = "",
    each: Annotated[int, typer.Option(min=2, help="Drawn tiles of each morphology.")] = 8,
    strength: Annotated[float, typer.Option(min=0.0, max=10.0, callback=refuse_nan)] = 1.0,
    picture: Annotated[Path | None, typer.Option(help="Write some samples to this PNG.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the figures to this file.")] = None,
) -> None:
    """Sample under masks, find the nuclei again, and compare them with a shuffled control."""
    from craftsfl.model.control import (
        TrialModels,
        TrialRequest,
        check_trial_files,
        control_trial,
        write_trial,
    )
    from model.lab.control.reading import ConditionKind
    from model.lab.control.trial import TrialSettings

    check_trial_files(picture, json)
    kind: ConditionKind = "fluorescence" if fluorescence else "mask"
    question = TrialRequest(kind, data, prompt, each, TrialSettings(strength=strength))
    done = control_trial(question, TrialModels(base, control, adapter))
    typer.echo(done.fidelity.report())
    write_trial(done, picture, json)
