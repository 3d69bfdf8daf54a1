"""Where a round's time goes, on the real processes of the demo (three sites, loopback).

Rows: `phase`, `seconds`, `megabytes` (of memory; one of the two is null), `rounds`, `mode`: sealed
steps (pooled) or masked updates (threshold), and `forwarder`: our gateway or Flower's supernode, or
first the one and then the other. Phases before the first
round are totals; the others are medians over rounds. `training` is the slowest site's. `transfer`
is measured separately: one update of the run's size through Flower's message encoding and an
agent's socket, both ways. `waiting` is the rest of the round: the forwarder's looks for messages,
Flower's own work, and with a SuperNode the start of one client process per message.

`small message there and back` is the median of three sites that are asked at once, on a SuperLink
of its own, with agents that answer at once.

`beside slot and training` is what is left of a round without its reply slot, or without the
training of the slowest site where that took longer. In mode pooled there are two exchanges:
`start`, while the slot runs, and `vectors`, from the slot on.

In mode threshold `exchange: ...` are the five exchanges of secure aggregation, one message to each
site and back; `masked input` includes waiting for training and for the reply slot. Together with
`aggregation` they make up the round. `secure aggregation adds` is what it costs beyond: the two
exchanges after the last update, and the part of the exchange of shares that lies after the end of
training.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np

from bench.output import BenchRow, parser, print_rows
from bench.small_message import measure_small_message
from client.agent.progress import ProgressSource
from client.agent.service import serve
from client.forwarder import forward
from craftsfl.demo.report import DemoOutcome
from craftsfl.demo.run import run_demo
from craftsfl.demo.studies import DemoMode
from craftsfl.demo.workspace import DemoOptions
from craftsfl.rounds.timeline import RoundTiming
from privacy.errors import FederationError
from privacy.study.manifest import load_study
from privacy.wire.bodies import SIGNATURE_BYTES
from privacy.wire.envelope import Envelope, open_envelope, seal
from privacy.wire.secagg import MaskedInput, masked_size_limit
from server.messages import pack_envelope, unpack_envelope

REPEATS = 7
_STUDY = "study.toml"
FORWARDERS = ("gateway", "supernode")


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


def _run(options: DemoOptions) -> tuple[DemoOutcome, float]:
    """Run the demo; its outcome, and the reply slot in seconds.

    A machine that has become busier since the slot was chosen misses it: then once more, with a
    slot twice as long. Raises `FederationError` with the slot if that was too short as well.
    """
    try:
        return run_demo(options), load_study(options.folder / _STUDY).cohort.reply_slot
    except FederationError as error:
        slot = 2 * load_study(options.folder / _STUDY).cohort.reply_slot
        print(f"{error}; once more, with a slot of {slot:g} s", file=sys.stderr)
    try:
        return run_demo(replace(options, reply_slot=slot)), slot
    except FederationError as error:
        load = os.getloadavg()[0]
        raise FederationError(
            f"No run of the demo ended, the last with a slot of {slot:g} s: {error.message}",
            f"This machine has a load of {load:.1f}; measure when it is quiet.",
        ) from error


def measure(rounds: int, forwarder: str = "gateway", mode: DemoMode = "pooled") -> list[BenchRow]:
    """Run the demo in a temporary folder and break down its time; small messages apart."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        options = DemoOptions(
            Path(folder) / "demo",
            rounds=rounds,
            supernodes=forwarder == "supernode",
            mode=mode,
        )
        outcome, slot = _run(options)
        transfer = transfer_seconds(outcome.parameters)
        small = measure_small_message(forwarder)

    def median(name: str) -> float:
        return statistics.median(float(getattr(timing, name)) for timing in outcome.rounds)

    first = outcome.seconds.get("first training step after", float("nan"))
    seconds = {
        "start-up": outcome.seconds["prepare"] + outcome.seconds["start"],
        "first training step after": first,
        "round": median("total"),
        "waiting for Flower's polling": median("waiting") - transfer,
        "reply slot": slot,
        "training": median("training"),
        "beside slot and training": statistics.median(
            timing.total - max(slot, timing.training) for timing in outcome.rounds
        ),
        "transfer": transfer,
        "aggregation": median("aggregation"),
        **_exchanges(outcome.rounds),
        **({"secure aggregation adds": median("masking")} if mode == "threshold" else {}),
        "small message there and back": small.median,
        "slowest small message": small.slowest,
        "federation": outcome.seconds["federation"],
        "whole demo": outcome.seconds["total"],
    }
    memory = {
        "largest network-facing process": small.process,
        "all of a site's network-facing processes": small.site,
    }
    rows: list[BenchRow] = []
    for name, value in seconds.items():
        rows.append({"phase": name, "seconds": value, "megabytes": None, "rounds": rounds})
    for name, value in memory.items():
        rows.append({"phase": name, "seconds": None, "megabytes": value, "rounds": rounds})
    return [{**row, "mode": mode, "forwarder": forwarder} for row in rows]


def main() -> None:
    """`python -m bench.round [--json] [--rounds N] [--mode M] [--forwarder F]`."""
    arguments = parser("round", __doc__ or "")
    arguments.add_argument("--rounds", type=int, default=4)
    arguments.add_argument("--forwarder", choices=(*FORWARDERS, "both"), default="gateway")
    arguments.add_argument("--mode", choices=get_args(DemoMode), default="pooled")
    options = arguments.parse_args()
    chosen = FORWARDERS if options.forwarder == "both" else (options.forwarder,)
    rows = [row for forwarder in chosen for row in measure(options.rounds, forwarder, options.mode)]
    print_rows("round", rows, as_json=options.json)


if __name__ == "__main__":
    main()
