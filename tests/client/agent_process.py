"""An agent process with a fake trainer: `python -m tests.client.agent_process --site site.toml`.

With `--one-user-no-airlock` behind it for tests that speak to it as its own user. Its trainer is
`tests.client.trainer_process`. No update is late, however slow the machine is. At its end it lists
what it has imported, in modules.txt of the state folder.
"""

from __future__ import annotations

if __name__ == "__main__":
    from client.agent.isolation import isolate
    from client.trainer.nursery import fork_nursery

    isolate()
    forked = fork_nursery()

import functools
import sys
from pathlib import Path

import client.agent.__main__ as agent_main
from client.agent.apart import ONE_USER
from client.agent.site_agent import AgentParts
from client.trainer.process import Nursery

from .fakes import PausingClock

FAKE_TRAINER = "tests.client.trainer_process"


if __name__ == "__main__":
    agent_main.AgentParts = functools.partial(AgentParts, clock=PausingClock())  # type: ignore[misc,assignment]
    one_user = ONE_USER in sys.argv[3:]
    site = Path(sys.argv[2])
    status = agent_main.run_agent(site, Nursery(*forked), trainer=FAKE_TRAINER, one_user=one_user)
    (site.parent / "state" / "modules.txt").write_text("\n".join(sys.modules))
    sys.exit(status)
