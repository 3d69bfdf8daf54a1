"""A gateway at work after it has shut itself in: `python -P working_gateway.py FACTS`."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from pathlib import Path

from client.gateway.confinement import confine
from client.gateway.doors import AgentAway


def main() -> None:
    facts = json.loads(Path(sys.argv[1]).read_text())
    lock = confine(
        [Path(facts["key"]), Path(facts["ca"])],
        Path(facts["agent"]),
        "localhost",
        facts["port"],
        private=[Path(facts["private"])],
        abi=facts["abi"],
    )
    report: dict[str, object] = {"held": lock.held.is_airlock, "text": lock.held.text}
    report["key"] = Path(facts["key"]).read_text()
    report["echo"] = len(lock.exchange(b"x" * facts["bytes"]))
    started = time.perf_counter()
    for _ in range(20):
        lock.exchange(b"small")
    report["exchange_seconds"] = (time.perf_counter() - started) / 20
    try:
        lock.exchange(b"y" * (facts["limit"] + 1))
    except AgentAway as away:
        report["too_large"] = away.fault.name
    report["again"] = lock.exchange(b"again").decode()
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
