"""What processes inherit from the one that starts them: a few variables, and files kept private.

A person's environment holds secrets: tokens, passwords, sockets of authentication agents. So a
process gets only the variables listed here and those that a settings file names for it.
"""

# Why: docs/adr/0029-command-line-and-processes.md

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from client.agent.isolation import OFFLINE, UMASK

TASK_POLL_SECONDS = "0.2"

_ALWAYS = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TZ", "LANG", "LANGUAGE")
_LOCALE = "LC_"
CERTIFICATES = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)  # the system's certificate authorities, if not in the usual place
# Where to find models, GPUs and their libraries, and how many cores to use.
MODELS = (
    *("CRAFTSFL_CACHE", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "HF_HOME", "HF_HUB_CACHE"),
    *("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "PYTORCH_CUDA_ALLOC_CONF"),
    *("NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "OMP_NUM_THREADS"),
)


def environment(
    home: Path, extra: Mapping[str, str] | None = None, *, allowed: Collection[str] = ()
) -> dict[str, str]:
    """An environment in which Flower is silent, offline and uses `home` as its home folder.

    Python does not look for modules in the working folder. Of this process's variables it keeps
    those that every program needs and those named in `allowed`; `extra` is added last.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _ALWAYS or name in allowed or name.startswith(_LOCALE)
    }
    return {
        **kept,
        **OFFLINE,
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": TASK_POLL_SECONDS,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",  # the same as -P, and it also reaches what Flower starts
        **(extra or {}),
    }


def keep_files_private(*folders: Path) -> None:
    """Make everything that this process and its children write private to their user.

    Also what is already in `folders`: SQLite gives a new journal the permissions of its database.
    """
    os.umask(UMASK)
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for path in (folder, *folder.rglob("*")):
            mode = stat.S_IMODE(path.lstat().st_mode)
            if mode & UMASK and not path.is_symlink():
                path.chmod(mode & ~UMASK)
