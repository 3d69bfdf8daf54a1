"""Flower's ServerApp process, started by our SuperExec: token and operator's key come by stdin.

`flwr-serverapp` takes its token on the command line, which every user of the machine can read.
Nothing of `privacy` may be imported here: it comes from the app bundle.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from queue import Queue

from craftsfl.processes.flower.shown_key import show_key_everywhere
from craftsfl.processes.lifeline import end_with_parent


def main() -> None:
    """Run the ServerApp of the task that the token is for."""
    parser = argparse.ArgumentParser(description="Run a Flower ServerApp.")
    parser.add_argument("--runtime-api-address", required=True)
    parser.add_argument("--root-certificates", required=True, type=Path)
    options = parser.parse_args()
    end_with_parent()
    logging.raiseExceptions = False  # of a full disk under the log, it would print a traceback
    token, key = (sys.stdin.readline().strip() for _ in range(2))
    from flwr.supercore.logger import mirror_output_to_queue, restore_output
    from flwr.superlink.runtime import run_serverapp

    show_key_everywhere(key)
    lines: Queue[str | None] = Queue()
    mirror_output_to_queue(lines)
    run_serverapp(
        runtime_api_address=options.runtime_api_address,
        log_queue=lines,
        token=token,
        insecure=False,
        certificates=options.root_certificates.read_bytes(),
        runtime_dependency_install=False,
    )
    restore_output()


if __name__ == "__main__":
    main()
