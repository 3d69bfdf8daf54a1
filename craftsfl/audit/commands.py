"""`craftsfl audit`: the commands of an auditor. A plain install is enough: no torch, no network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Check a study from one file: every signature, every sum, every ε.",
    no_args_is_help=True,
    suggest_commands=False,
)

Bundle = Annotated[
    Path, typer.Argument(help="The bundle, or the word sample for the one that comes with it.")
]


@app.command("verify")
def audit_verify(
    bundle: Bundle,
    study: Annotated[
        str | None, typer.Option(help="The study's digest, as you know it from elsewhere (hex).")
    ] = None,
    roster: Annotated[
        str | None, typer.Option(help="The first roster's digest, as you know it (hex).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Check everything in a bundle. Ends with 0 if all of it holds, else with 1.

    Works out every ε again from the events in the sites' ledgers, every sum
    from the masked vectors, and every adapter from the sums. Reads nothing
    but the bundle, and asks nobody.
    """
    from craftsfl.audit.show import show_verdict
    from craftsfl.audit.sources import bundle_bytes
    from craftsfl.audit.verdict import verify_bundle
    from privacy.audit.checks.membership import KnownDigests

    verdict = verify_bundle(bundle_bytes(bundle), KnownDigests(study, roster))
    show_verdict(verdict, as_json=as_json)
    if not verdict.passed:
        raise typer.Exit(1)


@app.command("tamper")
def audit_tamper(
    bundle: Bundle,
    kind: Annotated[
        str | None, typer.Option(help="What to break; one at random unless given.")
    ] = None,
    seed: Annotated[str | None, typer.Option(help="Break the same thing again.")] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Keep the broken bundle in this file.")
    ] = None,
) -> None:
    """Break one thing in a copy of a bundle, and show how it is found."""
    from craftsfl.audit.show import show_tampered
    from craftsfl.audit.sources import bundle_bytes

    show_tampered(bundle_bytes(bundle), kind, seed, out)
