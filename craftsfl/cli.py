"""`craftsfl`: one command with a group for each user. Heavy imports wait until a command runs."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.text import Text

from craftsfl.demo.command import demo
from craftsfl.model import commands as model
from craftsfl.rounds import commands as rounds
from craftsfl.site import commands as site
from privacy.error_ids import ErrorId
from privacy.errors import CraftsflError
from privacy.visible import visible

INTERRUPTED = 130
FAILED = 1

app = typer.Typer(
    name="craftsfl",
    help="Hospitals fine-tune one pathology image generator together; no patient leaves a site.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("demo")(demo)
app.add_typer(site.app, name="site")
app.add_typer(rounds.app, name="rounds")
app.add_typer(model.app, name="model")


def main() -> None:
    """Run the command line; errors are text, never a traceback."""
    try:
        app()
    except CraftsflError as error:
        _say(error.message, error.hint, error.id)
        sys.exit(FAILED)
    except OSError as error:
        if error.filename is None or error.strerror is None:
            raise
        what = f"{error.filename} cannot be used: {error.strerror}."
        _say(what, "Check its owner, and the disk's free space.", ErrorId.FILE_UNUSABLE)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except ModuleNotFoundError as error:
        _say(
            f"{error.name} is not installed.",
            "install craftsfl with the extra that this command needs: craftsfl[site], "
            "craftsfl[operator] or craftsfl[model].",
            ErrorId.EXTRA_MISSING,
        )
        sys.exit(FAILED)


def _say(message: str, hint: str, id: str) -> None:
    """What is wrong and what to do next: without markup, and nothing in it acts on a terminal."""
    console = Console(stderr=True)
    lines = (
        ("Error:", "bold red", message),
        ("Next:", "bold", hint),
        ("Id:", "dim", f"{id} (docs/errors.md)"),
    )
    for title, style, text in lines:
        if text:
            console.print(Text.assemble((title, style), " ", visible(text, keep="\n")))
