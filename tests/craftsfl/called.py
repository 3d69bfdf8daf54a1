"""A command as a person meets it, errors in words included, without a new process's seconds."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

from craftsfl import cli


@dataclass(frozen=True)
class Called:
    """What a command printed, and the status that it ended with."""

    returncode: int
    stdout: str
    stderr: str


def call(*words: object) -> Called:
    """Call what the program `craftsfl` calls; an error that it has no words for is raised."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["craftsfl", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    code = ended.value.code
    assert isinstance(code, int), code
    return Called(code, out.getvalue(), err.getvalue())


def craftsfl(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, which imports all anew: a second or two."""
    return subprocess.run(
        [sys.executable, "-m", "craftsfl", *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
