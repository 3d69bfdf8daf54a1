"""`craftsfl`: one command with a group for each user. Heavy imports wait until a command runs."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from craftsfl.cli import demo, model, rounds, site
from privacy.errors import CraftsflError
from privacy.shown import printable

INTERRUPTED = 130
FAILED = 1

app = typer.Typer(
    name="craftsfl",
    help="Hospitals fine-tune one pathology image generator together; no patient leaves a site.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("demo")(demo.demo)
app.add_typer(site.app, name="site")
app.add_typer(rounds.app, name="rounds")
app.add_typer(model.app, name="model")


def main() -> None:
    """Run the command line; errors are text, never a traceback."""
    try:
        app()
    except CraftsflError as error:
        console = Console(stderr=True)
        console.print(f"[bold red]Error:[/] {_plain(error.message)}", highlight=False)
        if error.hint:
            console.print(f"[bold]Next:[/] {_plain(error.hint)}", highlight=False)
        sys.exit(FAILED)
    except OSError as error:
        if error.filename is None or error.strerror is None:
            raise
        console = Console(stderr=True)
        what = f"{error.filename} cannot be used: {error.strerror}."
        console.print(f"[bold red]Error:[/] {_plain(what)}", highlight=False)
        console.print("[bold]Next:[/] Check its owner, and the disk's free space.")
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except ModuleNotFoundError as error:
        Console(stderr=True).print(
            f"[bold red]Error:[/] {error.name} is not installed.\n[bold]Next:[/] install craftsfl "
            "with the extra that this command needs: craftsfl\\[site], craftsfl\\[operator] or "
            "craftsfl\\[model].",
            highlight=False,
        )
        sys.exit(FAILED)


def _plain(text: str) -> str:
    """Keep rich from reading brackets in `text` as markup, and a terminal from obeying it."""
    return printable(text).replace("[", "\\[")
