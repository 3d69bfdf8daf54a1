"""Running things as other users of this machine, which only root can do.

The users have numbers and no names, homes or groups. `scripts.other_users` says how they find the
interpreter.
"""

from __future__ import annotations

import os
import pickle
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scripts.other_users import command_as

AGENT, SUPERNODE = 61001, 61002  # uid and gid


def attempt(uid: int, action: Callable[[], Any]) -> Any:
    """What `action` returns, or the exception it raises, as the user `uid` in a child process."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            try:
                result = action()
            except Exception as error:  # noqa: BLE001 - raised or not is for the test to say
                result = error
            os.write(write, pickle.dumps(result))
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        data = stream.read()
    os.waitpid(child, 0)
    return pickle.loads(data)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that every user may enter (pytest's belong to root alone)."""
    folder = Path(tempfile.mkdtemp(prefix="craftsfl-users-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def give(folder: Path, uid: int) -> None:
    """Make the user `uid` the owner of `folder` and everything in it."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, uid, uid, follow_symlinks=False)


def _possible() -> bool:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return False
    try_it = command_as(AGENT, [sys.executable, "-c", ""])
    return subprocess.run(try_it, capture_output=True, check=False).returncode == 0


needs_users = pytest.mark.skipif(not _possible(), reason="only root can become other users")


def shared(folder: Path) -> dict[str, str]:
    """Files and folders below `folder` with any right for the group or others."""
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in [folder, *folder.rglob("*")]}
    return {
        str(path.relative_to(folder.parent)): oct(mode)
        for path, mode in modes.items()
        if mode & 0o077 and not path.is_symlink()
    }
