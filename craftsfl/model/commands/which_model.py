"""The options with which a command is told which model draws."""

from __future__ import annotations

from typing import Annotated, Final

import typer

MODELS_PANEL: Final = "Models"

BaseOption = Annotated[
    str | None,
    typer.Option(
        "--base",
        help="A base's digest or folder; the embedded tiny one if left out.",
        rich_help_panel=MODELS_PANEL,
    ),
]
AdapterOption = Annotated[
    str | None,
    typer.Option(
        "--adapter",
        help="A .safetensors file, models:/NAME/3 or models:/NAME@champion.",
        rich_help_panel=MODELS_PANEL,
    ),
]
TrackingOption = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        help="MLflow, for models:/; MLFLOW_TRACKING_URI if left out.",
        rich_help_panel=MODELS_PANEL,
    ),
]
