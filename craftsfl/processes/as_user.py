"""Become another user and run a program.

`python -P -m craftsfl.processes.as_user USER LOG PROGRAM …`

For a supervisor that is root. The log is opened only afterwards: in a folder of a user who may be
hostile, root would write wherever a link there points to. The program cannot gain rights again.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from pathlib import Path

from client.agent.kernel import forbid_new_privileges
from craftsfl.processes.accounts import find_account
from craftsfl.processes.environment import UMASK
from privacy.files import open_to_append


def run_as(user: str, log: Path, argv: list[str]) -> None:
    """Turn this process into `argv` as `user`, its output appended to `log`; does not return."""
    find_account(user).become()
    os.umask(UMASK)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # a system without it
        forbid_new_privileges()
    os.chdir("/")
    log.parent.mkdir(parents=True, exist_ok=True)
    output = open_to_append(log)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    os.execve(argv[0], argv, os.environ)


if __name__ == "__main__":
    run_as(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
