"""What the processes that we start are given of this one: a few variables, and no right to share.

A person's environment holds what is nobody else's business: tokens, passwords, agents' sockets. So
a process gets the variables listed here and those that a settings file names for it, no others.
"""

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
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")  # the system's authorities, where they lie apart
# Where models, GPUs and their libraries are, and how many cores may be used.
MODELS = (
    *("CRAFTSFL_CACHE", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "HF_HOME", "HF_HUB_CACHE"),
    *("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "PYTORCH_CUDA_ALLOC_CONF"),
    *("NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "OMP_NUM_THREADS"),
)


def environment(
    home: Path, extra: Mapping[str, str] | None = None, *, allowed: Collection[str] = ()
) -> dict[str, str]:
    """An environment with Flower silent, offline and at home in `home`, Python without its cwd.

    Of this process's variables those that every program needs and those of the names `allowed`;
    `extra` comes on top.
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
        "PYTHONSAFEPATH": "1",  # what -P says, for Flower's programs and all that they start
        **(extra or {}),
    }


def keep_files_private(*folders: Path) -> None:
    """Make what this process and those it starts write its user's alone.

    Also what is in `folders` already: SQLite gives a new journal its database's rights.
    """
    os.umask(UMASK)
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for path in (folder, *folder.rglob("*")):
            mode = stat.S_IMODE(path.lstat().st_mode)
            if mode & UMASK and not path.is_symlink():
                path.chmod(mode & ~UMASK)
