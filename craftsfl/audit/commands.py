"""`craftsfl audit`: what an auditor runs."""

from __future__ import annotations

import typer

from craftsfl.empirical.command import audit_empirical

app = typer.Typer(
    no_args_is_help=True,
    suggest_commands=False,
    help="For auditors: check what was promised, and trust nobody's word.",
)
app.command("empirical")(audit_empirical)
