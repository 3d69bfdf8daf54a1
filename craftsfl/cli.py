"""`craftsfl`: a group of commands for each user. Heavy imports wait until a command runs."""

# Why: docs/adr/0029-command-line-and-processes.md

from __future__ import annotations

import logging
import sys
from enum import StrEnum
from typing import Annotated

import typer
from rich.text import Text

from craftsfl.audit import commands as audit
from craftsfl.demo.command import demo
from craftsfl.empirical.command import audit_empirical
from craftsfl.extras import explain_import, failed_import
from craftsfl.model import commands as model
from craftsfl.rounds import commands as rounds
from craftsfl.rounds.export_command import audit_export
from craftsfl.simulation.command import simulate_study
from craftsfl.site import commands as site
from craftsfl.terminal import errors, show_from
from craftsfl.version import installed_version
from privacy.error_ids import ErrorId
from privacy.errors import CraftsflError
from privacy.visible import visible

INTERRUPTED = 130
FAILED = 1

app = typer.Typer(
    name="craftsfl",
    help="Hospitals fine-tune one pathology image generator together; no patient leaves a site.",
    no_args_is_help=True,
    suggest_commands=False,  # click does; both together say it twice
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo)
app.command("simulate")(simulate_study)
app.add_typer(site.app, name="site")
app.add_typer(rounds.app, name="rounds")
app.add_typer(model.app, name="model")
audit.app.command("export")(audit_export)
audit.app.command("empirical")(audit_empirical)
app.add_typer(audit.app, name="audit")


class LogLevel(StrEnum):
    """The least severe level that is shown."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"craftsfl {installed_version()}")
        raise typer.Exit


@app.callback()
def options(
    verbose: Annotated[
        bool,
        typer.Option("-v", "--verbose", help="Say more: --log-level debug."),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "-q", "--quiet", help="No progress, no messages below warnings: --log-level warning."
        ),
    ] = False,
    log_level: Annotated[
        LogLevel | None,
        typer.Option(
            help="The least that is shown: progress and messages are info, the default; debug adds "
            "command lines and what libraries report. Processes that serve and demo start write "
            "the same logs at every level."
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Set how much every command shows."""
    if verbose + quiet + (log_level is not None) > 1:
        raise typer.BadParameter("Give one of --verbose, --quiet and --log-level.")
    level = LogLevel.DEBUG if verbose else LogLevel.WARNING if quiet else log_level
    if level is not None:
        show_from(getattr(logging, level.name))


def main() -> None:
    """Run the command line; errors are text, never a traceback."""
    try:
        app()
    except CraftsflError as error:
        _say(error.message, error.hint, error.id)
        sys.exit(FAILED)
    except OSError as error:
        if error.strerror is None:
            raise
        # A full disk, for one, says no name.
        named = "A file" if error.filename is None else error.filename
        what = f"{named} cannot be used: {error.strerror}."
        _say(what, "Check its owner, and the disk's free space.", ErrorId.FILE_UNUSABLE)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except (ImportError, RuntimeError) as error:
        failed = failed_import(error)
        if failed is None:
            raise
        message, hint = explain_import(failed)
        _say(message, hint, ErrorId.EXTRA_MISSING)
        sys.exit(FAILED)


def _say(message: str, hint: str, id: str) -> None:
    """Print what is wrong and what to do next, as text that cannot act on the terminal."""
    console = errors()
    lines = (
        ("Error:", "bold red", message),
        ("Next:", "bold", hint),
        ("Id:", "dim", f"{id} (docs/errors.md)"),
    )
    for title, style, text in lines:
        if text:
            console.print(Text.assemble((title, style), " ", visible(text, keep="\n")))
