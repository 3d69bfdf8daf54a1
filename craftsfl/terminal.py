"""What a person sees: results on standard output, messages on standard error, and how many of them.

Long lines wrap at the width of a terminal. In a pipe or a file every message stays on one line, and
so does every row of a table, so that `grep` finds what was printed.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

UNWRAPPED_WIDTH = 10_000  # columns; wide enough for any table, since no screen has to hold it
DEFAULT_LEVEL = logging.INFO

_messages = logging.getLogger("craftsfl.terminal")


def output() -> Console:
    """Where a command's results go: standard output."""
    return _unwrapped(Console())


def progress(*, stderr: bool = False) -> Console:
    """Where a command shows progress: standard output or error, but silent above `info`."""
    return _unwrapped(Console(stderr=stderr, quiet=_messages.level > logging.INFO))


def progress_bars(*columns: ProgressColumn | str) -> Progress:
    """Bars that go when the work is done; a file gets a line every half minute instead."""
    from craftsfl.logged_bars import LoggedBars

    console = progress(stderr=True)
    silent = console.quiet or not console.is_terminal
    return LoggedBars(*columns, console=console, transient=True, disable=silent)


def errors() -> Console:
    """Where errors and warnings go: standard error."""
    return _unwrapped(Console(stderr=True))


def say(text: str, level: int = logging.INFO) -> None:
    """Print one message on standard error, as plain text, if messages of `level` are shown."""
    _messages.log(level, "%s", text)


def show_from(level: int) -> None:
    """Show messages of `level` and above; at `logging.DEBUG` also what libraries log."""
    _messages.setLevel(level)
    if level <= logging.DEBUG:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")


class _ToTerminal(logging.Handler):
    """Looks up standard error for each message: the stream may have been replaced since."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # a full disk, where it leads to a file, ends no command
            errors().print(record.getMessage(), highlight=False, markup=False)


def _unwrapped(console: Console) -> Console:
    if not console.is_terminal:
        console.soft_wrap = True
        console.width = UNWRAPPED_WIDTH
    return console


_messages.setLevel(DEFAULT_LEVEL)
_messages.addHandler(_ToTerminal())
_messages.propagate = False
