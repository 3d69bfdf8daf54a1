"""What a person sees: results on standard output, messages on standard error, and how much of both.

A terminal folds long lines at its width. A pipe or a file gets every message as one line and every
row of a table as one row, so that `grep` finds what was printed.
"""

from __future__ import annotations

import logging

from rich.console import Console

UNFOLDED = 10_000  # columns of a table that nobody's screen has to hold
DEFAULT_LEVEL = logging.INFO

_messages = logging.getLogger("craftsfl.terminal")


def output() -> Console:
    """Where a command's results go: standard output."""
    return _unfolded(Console())


def progress() -> Console:
    """Where a command shows that it goes on: standard output too, nothing below `info`."""
    return _unfolded(Console(quiet=_messages.getEffectiveLevel() > logging.INFO))


def errors() -> Console:
    """Where errors and warnings go: standard error."""
    return _unfolded(Console(stderr=True))


def say(text: str, level: int = logging.INFO) -> None:
    """One message of a command on standard error, without markup, from `level` on."""
    _messages.log(level, "%s", text)


def show_from(level: int) -> None:
    """Show messages from `level` on; at `logging.DEBUG` also what the libraries report."""
    _messages.setLevel(level)
    if level <= logging.DEBUG:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")


class _ToTerminal(logging.Handler):
    """Looks for standard error at each message: the stream may have been replaced since."""

    def emit(self, record: logging.LogRecord) -> None:
        errors().print(record.getMessage(), highlight=False, markup=False)


def _unfolded(console: Console) -> Console:
    if not console.is_terminal:
        console.soft_wrap = True
        console.width = UNFOLDED
    return console


_messages.setLevel(DEFAULT_LEVEL)
_messages.addHandler(_ToTerminal())
_messages.propagate = False
