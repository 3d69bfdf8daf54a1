"""The one place where files are made, replaced, locked and, if they are private, read.

Guarantees, each with a test:

- A file is replaced whole or not at all: the new one has a random name until it is complete and on
  disk, then takes `path`'s place in one step, and the folder's entry is on disk when the call
  returns. Where anything fails, `path` is as it was and nothing is left behind.
- New files are created exclusively, so what somebody planted under a name, a symbolic link above
  all, is neither followed nor written to; a link at `path` itself is replaced, not followed.
- A private file has mode 0600 from its first moment, under any umask; a public one 0644 at most.
- What is read, changed in place, appended to or locked is a regular file, not a link, a pipe or a
  device. What is read or changed in place also belongs to this user or to root (root itself may
  work on anybody's), cannot be written by others and is not too large; a secret cannot be read
  by others either.
"""

# Why: docs/adr/0028-private-files.md

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from privacy.errors import ConfigError, CraftsflError

PRIVATE: Final = 0o600
PUBLIC: Final = 0o644  # less the umask: nobody else ever writes
_OTHERS: Final = 0o077
_OTHERS_WRITE: Final = 0o022
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening a pipe that somebody planted would wait for its other end.
_NO_SURPRISE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# What link(2) answers on a file system without hard links, a USB stick's above all.
_NO_HARD_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})


class RefusedFile(OSError):
    """A file that is not used because of what it is: `strerror` says why, `hint` what to do.

    An `OSError`, so that whoever reports a file that cannot be read reports this one too.
    """

    def __init__(self, path: Path, why: str, hint: str) -> None:
        super().__init__(errno.EPERM, why, str(path))
        self.hint = hint


def hint_for(error: OSError, otherwise: str) -> str:
    """What to do about `error`: a refused file says so itself."""
    return error.hint if isinstance(error, RefusedFile) else otherwise


@contextmanager
def told_if_unwritable(
    path: Path, hint: str, kind: type[CraftsflError] = ConfigError, *, id: str = ""
) -> Iterator[None]:
    """Raise `kind` in the place of an `OSError` inside: `path` cannot be written, and `hint`."""
    try:
        yield
    except OSError as error:
        raise kind(
            f"{path} cannot be written: {error.strerror}.", hint_for(error, hint), id=id
        ) from None


def read_secret(path: Path, most: int) -> bytes:
    """The bytes, `most` at most, of a file that nobody else can read or write; raises `OSError`."""
    return _read(path, most, _OTHERS)


def read_private(path: Path, most: int) -> bytes:
    """The bytes, `most` at most, of a file that nobody else can write; raises `OSError`.

    For a site's state, which is written with mode 0600. A copy that came back from a backup
    readable by others still says the same.
    """
    return _read(path, most, _OTHERS_WRITE)


def write_private(path: Path, data: bytes) -> None:
    """Put `data` in the place of `path`, readable by its owner alone; raises `OSError`."""
    with replacing(path) as stream:
        stream.write(data)


def write_public(path: Path, data: bytes) -> None:
    """Put `data` in the place of `path`, readable as the umask says; raises `OSError`."""
    with replacing(path, PUBLIC) as stream:
        stream.write(data)


def write_private_once(path: Path, data: bytes) -> None:
    """Make `path` with `data`, readable by its owner alone; raises `OSError`.

    `FileExistsError` if there is anything by that name: of several that make it at once, one does.
    """
    with _complete(path, PRIVATE, _claim) as stream:
        stream.write(data)


def write_public_once(path: Path, data: bytes) -> None:
    """The same, readable as the umask says."""
    with _complete(path, PUBLIC, _claim) as stream:
        stream.write(data)


@contextmanager
def replacing(path: Path, mode: int = PRIVATE) -> Iterator[BinaryIO]:
    """A stream whose contents take the place of `path` when the block ends well.

    On disk when it returns, the folder's entry too. Raises `OSError`.
    """
    with _complete(path, mode, os.replace) as stream:
        yield stream


def write_at(path: Path, offset: int, data: bytes) -> None:
    """Change the private file `path` in place, not synced: it survives the process, not a power
    cut. Raises `OSError`.
    """
    file = _opened(path, os.O_WRONLY, _OTHERS_WRITE)
    try:
        if os.pwrite(file, data, offset) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(file)


def make_private(path: Path) -> None:
    """Make `path` empty and its owner's alone if there is nothing by that name.

    For a program that opens its file by name, as SQLite does. Raises `OSError`.
    """
    os.close(_opened(path, os.O_RDWR | os.O_CREAT, _OTHERS_WRITE))


def open_to_append(path: Path) -> int:
    """A descriptor that appends to `path`, made with mode 0600 if absent; raises `OSError`."""
    return _opened(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0)


def lock(path: Path) -> int:
    """Lock `path`, made if absent, until the descriptor that is returned is closed.

    Raises `BlockingIOError` where somebody else holds it, otherwise `OSError`.
    """
    file = _opened(path, os.O_RDWR | os.O_CREAT, 0)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise
    return file


def try_lock(file: int, *, shared: bool = False) -> bool:
    """Lock an open file until it is closed; False if somebody else holds it.

    `shared`: next to others who do the same; it only fails where somebody holds the file alone.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove_parts(path: Path) -> None:
    """Remove what a process that was killed while writing `path` has left; raises `OSError`.

    Only for whoever alone writes `path`: the file of another writer would go as well.
    """
    for part in path.parent.glob(f".{path.name}.*"):
        part.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Have the disk hold the folder's entries; raises `OSError`."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextmanager
def _complete(path: Path, mode: int, put: Callable[[Path, Path], object]) -> Iterator[BinaryIO]:
    """A stream into a new file, which `put` gives its name when it is complete and on disk."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    made = os.open(part, _NEW, mode)
    try:
        with os.fdopen(made, "w+b") as stream:
            if mode == PRIVATE:
                os.fchmod(made, PRIVATE)  # a umask may have taken the owner's own rights
            yield stream
            stream.flush()
            # Before it gets its name: otherwise a power cut could leave the name with no contents.
            os.fsync(stream.fileno())
        put(part, path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def _claim(part: Path, path: Path) -> None:
    """Name `part` `path`, unless that name is taken: `FileExistsError`."""
    try:
        os.link(part, path)
    except FileExistsError:
        # Whoever was first may not have come this far, and the caller goes on with their file.
        sync_folder(path.parent)
        raise
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        os.close(os.open(path, _NEW, PRIVATE))  # exclusive as well, but for a moment empty
        part.replace(path)


def _read(path: Path, most: int, forbidden: int) -> bytes:
    with os.fdopen(_opened(path, os.O_RDONLY, forbidden), "rb") as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise RefusedFile(path, f"it has more than {most} bytes", "Put the right file there.")
    return data


def _opened(path: Path, flags: int, forbidden: int) -> int:
    """A descriptor of the regular file `path` without the rights `forbidden`; 0 checks no owner."""
    try:
        file = os.open(path, flags | _NO_SURPRISE, PRIVATE)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise RefusedFile(path, "it is a symbolic link", "Put the file itself there.") from None
    try:
        _check(path, os.fstat(file), forbidden)
    except RefusedFile:
        os.close(file)
        raise
    return file


def _check(path: Path, facts: os.stat_result, forbidden: int) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise RefusedFile(path, "it is not a regular file", "Put the right file there.")
    user = os.geteuid()
    if forbidden and user != 0 and facts.st_uid not in (user, 0):
        raise RefusedFile(
            path,
            "it belongs to another user",
            f"Find out who could have changed it; then give it to the user {user} by `chown`.",
        )
    if facts.st_mode & forbidden:
        secret = forbidden == _OTHERS
        raise RefusedFile(
            path,
            f"others can {'read or ' if secret else ''}change it",
            f"Find out who could have {'copied' if secret else 'changed'} it; then `chmod 600` it.",
        )
