"""`craftsfl audit empirical`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class AuditedMechanism(StrEnum):
    """Which training code is audited."""

    LOCAL = "local"
    POOLED = "pooled"
    BOTH = "both"


def audit_empirical(
    mechanism: Annotated[
        AuditedMechanism, typer.Option(help="How noise is added in the study.")
    ] = AuditedMechanism.BOTH,
    releases: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=1000,
            show_default="40 of local, 24 of pooled",
            help="Steps, each with 48 canaries: more see more.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the canaries, and of who takes part in a step.")
    ] = 0,
    one_run: Annotated[
        bool, typer.Option(help="Also bound epsilon from below by one release of 1,000 canaries.")
    ] = True,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Try whether the training code that is installed here keeps the promise that it makes.

    Canaries, made-up patients, go through a site's own code, and an attacker
    who knows all but the noise says who took part. Needs no study and no data;
    takes about a minute. Ends with 1 if anything contradicts what is charged.
    """
    from craftsfl.empirical.audit import AUDITED_MECHANISMS
    from craftsfl.empirical.report import AuditRequest, report_audit

    both = mechanism is AuditedMechanism.BOTH
    kinds = tuple(kind for kind in AUDITED_MECHANISMS if both or kind == mechanism.value)
    if not report_audit(AuditRequest(kinds, releases, seed, one_run, json)):
        raise typer.Exit(1)
