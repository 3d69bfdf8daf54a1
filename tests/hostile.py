"""What a hostile bundle tries where the ClientApp runs, with nothing but the standard library.

The coordinator may send any code. `report` tries to read the hospital's data, keys and ledger, to
trace the agent, to become root, and tells what it found; `python hostile.py FOLDER PID` prints it.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

MARK = "REPORT"
WANTED = (
    *("site.key", "state/ledger.key", "state/patients.key", "state/ledger.sqlite"),
    *("tiles/metadata.csv", "tiles/0-0.png", "tiles/1-0.png"),
)
PTRACE_ATTACH = 16


def report(folder: Path, agent: int) -> dict[str, Any]:
    """What code in this process can get from the hospital in `folder`, whose agent is `agent`."""
    stolen, refused = [], []
    for name in WANTED:
        try:
            stolen.append([name, (folder / name).read_bytes().hex()[:8]])
        except PermissionError:
            refused.append(name)
        except FileNotFoundError:
            stolen.append([name, "known to be missing"])
    with socket.socket(socket.AF_UNIX) as door:
        reached = door.connect_ex(str(folder / "run/agent.sock"))
    libc = ctypes.CDLL(None, use_errno=True)
    status = Path("/proc/self/status").read_text().splitlines()
    return {
        "uid": os.getuid(),
        "stolen": stolen,
        "refused": refused,
        "traced": libc.ptrace(PTRACE_ATTACH, agent, None, None),
        "peeked": [what for what in ("environ", "mem", "maps", "fd") if peek(agent, what)],
        "reached": reached,
        "root": libc.setuid(0) == 0,
        "variables": sorted(os.environ),
        "safe": sys.flags.safe_path,
        "privileges": next(line.split()[1] for line in status if line.startswith("NoNewPrivs")),
    }


def peek(pid: int, what: str) -> bool:
    """Whether a file of /proc/PID opens."""
    path = Path(f"/proc/{pid}/{what}")
    try:
        _ = list(path.iterdir()) if what == "fd" else path.open("rb").close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    print(MARK + json.dumps(report(Path(sys.argv[1]), int(sys.argv[2]))))
