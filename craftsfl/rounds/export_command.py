"""`craftsfl audit export`: it needs the coordinator's side, so `craftsfl.cli` puts it in place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def audit_export(
    settings: Annotated[Path, typer.Argument(help="The consortium's settings, consortium.toml.")],
    handed: Annotated[
        list[Path], typer.Argument(help="What each site has handed over, a file of each.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The bundle to write.")],
    without_vectors: Annotated[
        bool,
        typer.Option(
            "--without-vectors",
            help="Leave the masked vectors out: they are named by their digests, and sums are not "
            "worked out again.",
        ),
    ] = False,
) -> None:
    """Write everything about a study into one file, for an auditor.

    At the coordinator. Each site makes its part: craftsfl site hand-over.
    """
    import hashlib
    import shlex

    from craftsfl.new_file import check_is_new
    from craftsfl.rounds.export import export_bundle

    check_is_new(out)
    data = export_bundle(settings, handed, out, with_vectors=not without_vectors)
    typer.echo(f"{out}: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")
    typer.echo(f"Check it: craftsfl audit verify {shlex.quote(str(out))}")
