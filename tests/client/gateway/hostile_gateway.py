"""A gateway that the coordinator has taken over, under the agent's own user.

`python -P hostile_gateway.py FACTS`: shuts itself in as the gateway does, unless the facts say not
to, then tries all `attacks` and prints for each what became of it. FACTS is a JSON file.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.client.gateway.attacks import files, kernel, processes, sockets

# In this order: the last ones change the process itself.
ATTACKS = files.ATTACKS | processes.ATTACKS | sockets.ATTACKS | kernel.ATTACKS
DONE = "done"
MARK = "REPORT"


def outcome(action: Callable[[Any], object], facts: Any) -> str:
    try:
        action(facts)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, repr(error))
    return DONE


def shut_in(facts: Any) -> Any:
    from client.gateway.confinement import Surroundings, confine

    around = Surroundings(
        readable=(Path(facts["readable"]),),
        agent_socket=Path(facts["agent"]),
        host="localhost",
        port=facts["port"],
        largest=1 << 20,
        remembered=(facts["remembered"],),
        private=(Path(facts["key"]), Path(facts["ledger"]), Path(facts["tile"]).parent),
    )
    return confine(around, abi=facts["abi"])


def main() -> None:
    facts = json.loads(Path(sys.argv[1]).read_text())
    facts["inherited"] = os.open(facts["key"], os.O_RDONLY)
    facts["inherited_to_write"] = os.open(facts["spare"], os.O_RDWR)
    facts["remembered"] = os.open(facts["home"] + "/node.json", os.O_RDWR | os.O_CREAT, 0o600)
    report: dict[str, object] = {}
    lock = shut_in(facts) if facts["confined"] else None
    if lock is not None:
        report["says"] = {"held": lock.held.is_airlock, "text": lock.held.text}
    for name, action in ATTACKS.items():
        report[name] = outcome(action, facts)
    print(MARK + json.dumps(report))


if __name__ == "__main__":
    main()
