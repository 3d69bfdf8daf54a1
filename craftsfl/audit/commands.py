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
KnownStudy = Annotated[
    str | None, typer.Option(help="The study's digest, as you know it from elsewhere (hex).")
]
KnownRoster = Annotated[
    str | None,
    typer.Option(help="The roster that the study pins: its fingerprint, or its digest (hex)."),
]
Champion = Annotated[
    str | None,
    typer.Option(
        help="The adapter that you were given as the champion: its file, or its SHA-256 (hex)."
    ),
]


@app.command("verify")
def audit_verify(
    bundle: Bundle,
    study: KnownStudy = None,
    roster: KnownRoster = None,
    champion: Champion = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Check everything in a bundle. Ends with 0 if all of it holds, else with 1.

    Works out every ε again from the events in the sites' ledgers, every sum
    from the masked vectors, and every adapter from the sums. Reads nothing
    but the bundle, and asks nobody.
    """
    from craftsfl.audit.show import show_verdict
    from craftsfl.audit.sources import bundle_bytes, champion_told
    from craftsfl.audit.verdict import verify_bundle
    from privacy.audit.checks.membership import KnownDigests

    known, given = KnownDigests.told(study, roster), champion_told(champion)
    verdict = verify_bundle(bundle_bytes(bundle), known, given)
    show_verdict(verdict, roster_known=roster is not None, as_json=as_json)
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


@app.command("sign")
def audit_sign(
    bundle: Bundle,
    name: Annotated[str, typer.Option(help="Your name in the manifest's list of auditors.")],
    key: Annotated[Path, typer.Option(help="The file of your key: craftsfl audit key.")],
    study: KnownStudy = None,
    roster: KnownRoster = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="The signed verdict; beside the bundle unless given."),
    ] = None,
) -> None:
    """Verify a bundle, and sign that all of it holds.

    With --study or --roster, sign only what is of the study and the
    consortium that you know, as with craftsfl audit verify.

    The manifest names who may: nobody is added during a study. An adapter is
    promoted only with the signatures that its manifest asks for.
    """
    from craftsfl.audit.show import WHOSE
    from craftsfl.audit.signing import sign_bundle
    from craftsfl.audit.sources import bundle_bytes
    from craftsfl.passphrase import check_study_key
    from privacy.audit.checks.membership import KnownDigests
    from privacy.errors import ConfigError

    if not name or "/" in name or "\0" in name:
        raise ConfigError(
            "--name is no auditor's name.", "Give the name that study.toml has in [auditors]."
        )
    check_study_key(key)
    file = out or bundle.parent / f"{bundle.name or 'bundle'}.{name}.verdict"
    known = KnownDigests.told(study, roster)
    verdict, signed = sign_bundle(bundle_bytes(bundle), name, key, file, known)
    for line in verdict.not_recomputed:
        typer.echo(f"Not recomputed: {line}")
    for line in verdict.notices:
        typer.echo(f"Note: {line}")
    if roster is None:
        typer.echo(WHOSE)
    typer.echo(f"{file}: {signed.auditor} has verified the bundle {signed.bundle}")


@app.command("key")
def audit_key(
    out: Annotated[Path, typer.Option("-o", "--out", help="The file to make, for you alone.")],
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Do not encrypt it.")
    ] = False,
) -> None:
    """Make an auditor's key, and print the line for the manifest."""
    from craftsfl.audit.signing import check_new_key, make_auditor_key
    from craftsfl.passphrase import new_passphrase

    check_new_key(out)
    public = make_auditor_key(out, None if no_passphrase else new_passphrase())
    typer.echo(f'keys = [{{ name = "YOUR-NAME", key = "{public}" }}]')


@app.command("zipapp")
def audit_zipapp(
    out: Annotated[Path, typer.Option("-o", "--out", help="The file to write.")],
) -> None:
    """Put these commands into one file that runs on a machine like this one.

    It needs the same Python and kind of processor, and nothing else: no
    installation, no network. python FILE verify BUNDLE.
    """
    from craftsfl.audit.zipapp import write_zipapp

    size = write_zipapp(out)
    typer.echo(f"{out}: {size / 2**20:.0f} MiB. Run it: python {out} verify BUNDLE")


@app.command("report")
def audit_report(
    bundle: Bundle,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="The folder to write into; made if absent.")
    ],
) -> None:
    """Write what a bundle shows: a page to read and print, and JSON for registries.

    Made for any bundle that can be read; what does not hold stands on top.
    """
    from craftsfl.audit.report.write import write_report
    from craftsfl.audit.sources import bundle_bytes

    for path in write_report(bundle_bytes(bundle), out):
        typer.echo(str(path))
