"""A gateway at work after it has shut itself in: `python -P working_gateway.py FACTS`."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from pathlib import Path

from client.gateway.confinement import Surroundings, confine


def main() -> None:
    facts = json.loads(Path(sys.argv[1]).read_text())
    memory = os.open(facts["home"] + "/node.json", os.O_RDWR | os.O_CREAT, 0o600)
    around = Surroundings(
        readable=(Path(facts["key"]), Path(facts["ca"])),
        agent_socket=Path(facts["agent"]),
        host="localhost",
        port=facts["port"],
        largest=2 * facts["limit"],
        remembered=(memory,),
        private=(Path(facts["private"]),),
    )
    lock = confine(around, abi=facts["abi"])
    report: dict[str, object] = {"held": lock.held.is_airlock, "text": lock.held.text}
    report["key"] = Path(facts["key"]).read_text()
    os.pwrite(memory, b"remembered", 0)
    os.ftruncate(memory, 8)
    report["memory"] = os.pread(memory, 20, 0).decode()
    report["echo"] = len(lock.agent.forward(b"x" * facts["bytes"]).answer)
    started = time.perf_counter()
    for _ in range(20):
        lock.agent.forward(b"small")
    report["exchange_seconds"] = (time.perf_counter() - started) / 20
    report["too_large"] = lock.agent.forward(b"y" * (facts["limit"] + 1)).silent
    report["again"] = lock.agent.forward(b"again").answer.decode()
    report["knock"] = lock.agent.knock().name
    # Imported only now, with threads of numpy's, as the gateway does it.
    import httpx
    from flwr.supernode.fleet_http_client import FleetHttpClient  # noqa: F401

    report["modules"] = sorted({"torch", "grpc"} & set(sys.modules))
    with httpx.Client(verify=facts["ca"]) as client:
        report["tls"] = client.get(f"https://localhost:{facts['port']}/hello").text
        seen: list[str] = []
        thread = threading.Thread(target=lambda: seen.append(client.get(facts["url"]).text))
        thread.start()
        thread.join()
        report["thread"] = seen
        try:
            client.get(f"https://localhost:{facts['port'] + 1}/")
        except httpx.ConnectError as error:
            report["elsewhere"] = str(error)
    logging.warning("a line in the log")
    report["pid"] = os.getpid()
    print("REPORT" + json.dumps(report), flush=True)
    if facts.get("wait"):
        time.sleep(60)


if __name__ == "__main__":
    main()
