"""Commands for root to start as other users, who need neither names nor homes.

Where the interpreter lies below a folder that only root may enter, a private mount namespace shows
it to them; nothing of the machine is changed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

# $1: the closed folder, $2: the folder in it that is to be seen, then uid, gid and the command.
_SHOW = """
set -e
top=$1 seen=$2; shift 2; umask 022
mount --make-rprivate /
stage=$(mktemp -d)
mount -t tmpfs -o mode=0755 none "$stage"
mkdir -p "$stage/${seen#"$top"/}"
mount --bind "$seen" "$stage/${seen#"$top"/}"
mount --move "$stage" "$top"
rmdir "$stage"
exec "$@"
"""


def visible(argv: Sequence[str]) -> list[str]:
    """`argv` for root to start, with the interpreter in a place where every user may run it."""
    closed, prefix = _closed_above(Path(sys.base_prefix)), sys.base_prefix
    if closed is None:
        return list(argv)
    return ["unshare", "--mount", "sh", "-c", _SHOW, "sh", str(closed), prefix, *argv]


def command_as(uid: int, argv: Sequence[str]) -> list[str]:
    """`argv` for root to start, so that it runs as the user `uid`."""
    return visible(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *argv])


def _closed_above(path: Path) -> Path | None:
    """The highest folder above `path` that others may not enter."""
    folders = reversed([path, *path.parents])
    return next((folder for folder in folders if not folder.stat().st_mode & 0o001), None)
