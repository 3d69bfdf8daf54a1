"""Become another user and run a program.

`python -P -m craftsfl.processes.as_user USER LOG PROGRAM …`

For a supervisor that runs as root. The log is opened only after the change of user: its folder may
belong to a hostile user, and root would write to wherever a link in it points. The program can
never gain privileges again.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from pathlib import Path

from client.agent.isolation import UMASK
from client.confinement.kernel import forbid_new_privileges
from craftsfl.processes.accounts import find_account
from privacy.files import open_to_append


def run_as(user: str, log: Path, argv: list[str]) -> None:
    """Replace this process by `argv`, run as `user`, its output appended to `log`."""
    find_account(user).become()
    os.umask(UMASK)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # not every system has it
        forbid_new_privileges()
    os.chdir("/")
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        output = open_to_append(log)
    except OSError as error:
        sys.exit(
            f"{user} cannot write its log {log}: {error.strerror}. Check whose the folder is "
            "(docs/hospital.md, Install), and the disk's free space."
        )
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    os.execve(argv[0], argv, os.environ)


if __name__ == "__main__":
    run_as(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
