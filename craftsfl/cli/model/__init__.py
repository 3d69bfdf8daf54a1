"""`craftsfl model`: base models, samples, evaluation. A module for each command."""

from __future__ import annotations

import typer

from craftsfl.cli.model.control_fidelity import control_fidelity
from craftsfl.cli.model.install import install
from craftsfl.cli.model.pretrain import pretrain
from craftsfl.cli.model.pretrain_control import pretrain_control
from craftsfl.cli.model.pretrain_encoder import pretrain_encoder
from craftsfl.cli.model.sample import sample

app = typer.Typer(help="Base models: pretrain, install, sample.", no_args_is_help=True)
for command in (pretrain, pretrain_encoder, install, sample):
    app.command()(command)
for command in (pretrain_control, control_fidelity):
    app.command()(command)
