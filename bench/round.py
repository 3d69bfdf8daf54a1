"""Where a round's time goes, on the real processes of the demo (three sites, loopback).

Rows: `phase`, `seconds`, `rounds`. Phases before the first round are totals; the others are
medians over rounds. `training` is the slowest site's. `transfer` is measured separately: one update
of the run's size through Flower's message encoding and an agent's socket, both ways. `waiting` is
the rest of the round: Flower's polling and the start of one client process per message.

`exchange: ...` are the five exchanges of secure aggregation, one message to each site and back;
`masked input` includes waiting for training and for the reply slot. Together with `aggregation`
they make up the round. `secure aggregation adds` is what it costs in addition: the two exchanges
after the last update, and the part of the exchange of shares that lies after the end of training.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.output import BenchRow, parser, print_rows
from client.agent.progress import ProgressSource
from client.agent.service import serve
from client.forwarder import forward
from craftsfl.demo.run import run_demo
from craftsfl.demo.workspace import DemoOptions
from craftsfl.rounds.timeline import RoundTiming
from privacy.wire.bodies import SIGNATURE_BYTES
from privacy.wire.envelope import Envelope, open_envelope, seal
from privacy.wire.secagg import MaskedInput, masked_size_limit
from server.messages import pack_envelope, unpack_envelope

REPEATS = 7


def transfer_seconds(parameters: int) -> float:
    """Seconds to move one masked update there and back, at 16 bits; the median of `REPEATS`."""
    lanes = np.zeros(-(-parameters // 4), np.uint64)
    message = seal(Envelope(1, 1, 1, MaskedInput(lanes, bytes(SIGNATURE_BYTES))))
    limit = masked_size_limit(3, lanes.size, parameters)
    samples = []
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "a.sock"
        service = serve(lambda data: data, ProgressSource(), socket, limit=limit)
        try:
            for _ in range(REPEATS):
                start = time.perf_counter()
                answer = forward(unpack_envelope(pack_envelope(message)), str(socket)).answer
                open_envelope(unpack_envelope(pack_envelope(answer)), limit=limit)
                samples.append(time.perf_counter() - start)
        finally:
            service.stop()
    return statistics.median(samples)


def _exchanges(rounds: Sequence[RoundTiming]) -> dict[str, float]:
    """The median seconds of each exchange, in order."""
    names = list(rounds[0].exchanges)
    return {
        f"exchange: {name}": statistics.median(timing.exchanges[name] for timing in rounds)
        for name in names
    }


def measure(rounds: int) -> list[BenchRow]:
    """Run the demo in a temporary folder and break down its time."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        outcome = run_demo(DemoOptions(folder=Path(folder) / "demo", rounds=rounds))
        transfer = transfer_seconds(outcome.parameters)

    def median(name: str) -> float:
        return statistics.median(float(getattr(timing, name)) for timing in outcome.rounds)

    first = outcome.seconds.get("first training step after", float("nan"))
    seconds = {
        "start-up": outcome.seconds["prepare"] + outcome.seconds["start"],
        "first training step after": first,
        "round": median("total"),
        "waiting for Flower's polling": median("waiting") - transfer,
        "training": median("training"),
        "transfer": transfer,
        "aggregation": median("aggregation"),
        **_exchanges(outcome.rounds),
        "secure aggregation adds": median("masking"),
        "federation": outcome.seconds["federation"],
        "whole demo": outcome.seconds["total"],
    }
    return [{"phase": name, "seconds": value, "rounds": rounds} for name, value in seconds.items()]


def main() -> None:
    """`python -m bench.round [--json] [--rounds N]`."""
    arguments = parser("round", __doc__ or "")
    arguments.add_argument("--rounds", type=int, default=4)
    options = arguments.parse_args()
    print_rows("round", measure(options.rounds), as_json=options.json)


if __name__ == "__main__":
    main()
