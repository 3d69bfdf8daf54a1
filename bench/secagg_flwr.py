"""One round of flwr's legacy SecAgg+, its own client and server code, in one process.

The first site's client runs in full and is the one that is timed. The others run in full except
for the vector: at the third stage they mask one parameter and then answer with a vector of zeros
of the right size, because the server's work does not depend on its values.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.client.mod.secure_aggregation.secaggplus_mod import secaggplus_mod
from flwr.common import (
    Code,
    FitIns,
    FitRes,
    Parameters,
    Status,
    ndarray_to_bytes,
    ndarrays_to_parameters,
)
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.compat.common import recorddict_compat as compat
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.server.workflow.secure_aggregation.secaggplus_workflow import WorkflowState
from flwr.supercore.task_identity import TaskIdentity
from numpy.typing import NDArray

from bench.secagg_timing import Cost, SecAggCell, Watch

CLIPPING_RANGE = 8.0  # flwr's default
BITS = 32  # flwr's modulus range; its levels have 22
WEIGHT = 1000  # flwr's default maximum: every site has it

_RUN, _SERVER = 1, 1


class _Site:
    """One client: flwr's mod around a training that has already been done."""

    def __init__(self, node: int, vector: NDArray[np.float32], stand_in: bytes | None) -> None:
        self._context = Context(_RUN, node, {}, RecordDict(), {})
        self._vector = vector
        self._stand_in = stand_in
        self.watch = Watch()
        self.up = self.down = 0

    def answer(self, message: Message) -> Message:
        """The mod's answer; its time is counted, without the training and the stand-in."""
        # In one process the messages share their records, and the mod takes entries away.
        configs = message.content.config_records[RECORD_KEY_CONFIGS]
        stage = configs[Key.STAGE]
        message.content = RecordDict({RECORD_KEY_CONFIGS: ConfigRecord(dict(configs))})
        self.down += _bytes(configs)
        with self.watch.running():
            reply = secaggplus_mod(message, self._context, self._train)
        sent = reply.content.config_records[RECORD_KEY_CONFIGS]
        if self._stand_in is not None and stage == Stage.COLLECT_MASKED_VECTORS:
            masked: Any = sent[Key.MASKED_PARAMETERS]
            sent[Key.MASKED_PARAMETERS] = [masked[0], self._stand_in]
        self.up += _bytes(sent)
        return reply

    def _train(self, message: Message, context: Context) -> Message:
        unrelated = Watch()
        with unrelated.running():
            parameters = ndarrays_to_parameters([self._vector])
            result = FitRes(Status(Code.OK, ""), parameters, WEIGHT, {})
            content = compat.fitres_to_recorddict(result, keep_input=False)
            reply = Message(content, reply_to=message)
        self.watch.seconds -= unrelated.seconds
        return reply


class _Grid:
    """Hands messages to the sites; those of `lost` fail from the third stage on."""

    def __init__(self, sites: dict[int, _Site], lost: Iterable[int]) -> None:
        self._sites = sites
        self._lost = frozenset(lost)
        self.watch = Watch()

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """All answers; what this takes is not the server's."""
        with self.watch.running():
            return [self._answer(message) for message in messages]

    def _answer(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        stage = message.content.config_records[RECORD_KEY_CONFIGS][Key.STAGE]
        if node in self._lost and stage == Stage.COLLECT_MASKED_VECTORS:
            return Message(Error(0, "lost"), reply_to=message)
        return self._sites[node].answer(message)


class _Proxy:
    def __init__(self, node: int) -> None:
        self.node_id = node


class _Strategy:
    """Asks every site; does nothing with the sum, so that only secure aggregation is counted."""

    def __init__(self, nodes: Iterable[int]) -> None:
        self._nodes = tuple(nodes)
        self.result: Parameters | None = None

    def configure_fit(self, *_: object) -> list[tuple[_Proxy, FitIns]]:
        return [(_Proxy(node), FitIns(Parameters([], "numpy.ndarray"), {})) for node in self._nodes]

    def aggregate_fit(
        self, _round: int, results: list[tuple[object, FitRes]], _failures: object
    ) -> tuple[None, dict[str, object]]:
        self.result = results[0][1].parameters
        return None, {}

    def num_available(self) -> int:
        return len(self._nodes)


def run(cell: SecAggCell, vector: NDArray[np.float32], threshold: int) -> Cost:
    """One round on the complete graph with `threshold`; RuntimeError if flwr aborts it."""
    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    # RandomState makes 64-bit masks; the zeros have their type.
    stand_in = ndarray_to_bytes(np.zeros(cell.d, np.int64))
    nodes = range(_SERVER + 1, _SERVER + 1 + cell.n)
    counted = _Site(nodes[0], vector, None)
    others = {node: _Site(node, vector[:1], stand_in) for node in nodes[1:]}
    grid = _Grid({nodes[0]: counted, **others}, nodes[cell.n - cell.dropped :])
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = _RUN, _SERVER, 1
    server = Watch()
    with server.running():
        _serve(grid, _Strategy(nodes), threshold)
    server_s = server.seconds - grid.watch.seconds
    return Cost(counted.watch.seconds, server_s, counted.up, counted.down)


def _serve(grid: _Grid, strategy: _Strategy, threshold: int) -> None:
    context = Context(_RUN, _SERVER, {}, RecordDict(), {})
    context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: 1})
    context.state.array_records[MAIN_PARAMS_RECORD] = compat.parameters_to_arrayrecord(
        Parameters([], "numpy.ndarray"), keep_input=False
    )
    parties: Any = strategy  # stands in for flwr's strategy and its list of clients
    legacy = LegacyContext(context, strategy=parties, client_manager=parties)
    workflow = SecAggPlusWorkflow(
        1.0, threshold, max_weight=WEIGHT, clipping_range=CLIPPING_RANGE, modulus_range=1 << BITS
    )
    state = WorkflowState()
    stages: tuple[Callable[..., bool], ...] = (
        workflow.setup_stage,
        workflow.share_keys_stage,
        workflow.collect_masked_vectors_stage,
        workflow.unmask_stage,
    )
    for stage in stages:
        if not stage(grid, legacy, state):
            raise RuntimeError(f"flwr's SecAgg+ stopped in {stage.__name__}.")


def _bytes(record: ConfigRecord) -> int:
    """The bytes in a record's values; names and framing are left out, in flwr's favour."""
    total = 0
    for value in record.values():
        for item in value if isinstance(value, list) else [value]:
            total += len(item) if isinstance(item, bytes) else 8
    return total
