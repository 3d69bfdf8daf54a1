"""The file of the adapter that was released: it is what it says, and says what its study has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from craftsfl.audit.replay import Replay
from model.layout import Layout, frozen_values
from model.origin import read_origin
from privacy.audit.checks.costs import SAME, whole_cost
from privacy.audit.evidence import ADAPTER_FILE, Evidence
from privacy.audit.faults import AuditFailure, Flaw, failure
from privacy.errors import AuditError, ModelError
from privacy.strict_json import read_json
from privacy.study.manifest import Study

_HEADER: Final = 8  # bytes that say how long a safetensors file's header is
_LARGEST_HEADER: Final = 16 << 20
_METADATA: Final = frozenset(
    {"format", "lora_adapter_metadata", "craftsfl_layout", "craftsfl_frozen", "craftsfl_origin"}
)


def check_released(evidence: Evidence, layout: Layout, found: Replay) -> Iterator[AuditFailure]:
    """The file of the adapter holds what the run that the index names has come to."""
    number = evidence.index.run
    data = evidence.files.get(ADAPTER_FILE)
    if data is None or found.chain is None:
        return
    if found.steps != evidence.study.rounds:
        words = f"It was released after {found.steps} of {evidence.study.rounds} steps."
        yield failure(Flaw.STEP_MISSING, words, run=number)
    try:
        vector = adapter_in(data, layout)
        check_own_words(data, layout, evidence.study, number)
    except AuditError as error:
        yield failure(Flaw.ADAPTER, error.message, run=number)
        return
    if vector.tobytes() != found.chain.published.astype("<f4", copy=False).tobytes():
        words = "The adapter that was released does not follow from the start and the opened sums."
        yield failure(Flaw.ADAPTER, words, run=number)


def check_file(evidence: Evidence, layout: Layout) -> Iterator[AuditFailure]:
    """The same of a study of updates, whose numbers follow from nothing in the bundle."""
    number, data = evidence.index.run, evidence.files.get(ADAPTER_FILE)
    if data is None:
        return
    try:
        adapter_in(data, layout)
        check_own_words(data, layout, evidence.study, number)
    except AuditError as error:
        yield failure(Flaw.ADAPTER, error.message, run=number)


def adapter_in(data: bytes, layout: Layout) -> NDArray[np.float32]:
    """The flat vector [P] of a safetensors file of this layout; `AuditError` for anything else.

    The format: u64 little-endian, as many bytes of JSON, then the tensors.
    """
    size = int.from_bytes(data[:_HEADER], "little")
    if len(data) < _HEADER or size > min(len(data) - _HEADER, _LARGEST_HEADER):
        raise AuditError("It is not a safetensors file.")
    try:
        header = _header(data, size)
        _check_frozen(header, layout, data, size)
        parts = [_tensor(header, entry.name, entry.shape, data, size) for entry in layout.entries]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AuditError("It does not hold the adapter of this layout.") from error
    return np.concatenate(parts)


def check_own_words(data: bytes, layout: Layout, study: Study, run: int) -> None:
    """What the file says of itself is what the study has; `AuditError` if not."""
    size = int.from_bytes(data[:_HEADER], "little")
    said = _header(data, size).get("__metadata__")
    own = study.adapter
    fields = {"unet.r": own.rank, "unet.lora_alpha": own.alpha}
    try:
        if not isinstance(said, dict) or not said.keys() <= _METADATA:
            raise ValueError
        lora = {**fields, "unet.target_modules": list(own.targets)}
        order = [entry.name for entry in layout.entries]
        frozen = [entry.name for entry in layout.frozen]
        same = read_json(str(said["lora_adapter_metadata"])) == lora
        same = same and read_json(str(said["craftsfl_layout"])) == order
        same = same and read_json(str(said.get("craftsfl_frozen", "[]"))) == frozen
        same = same and said["format"] == "pt"
        same = same and _follows(said.get("craftsfl_origin"), study, run)
    except (ValueError, KeyError, TypeError, ModelError):
        same = False
    if not same:
        raise AuditError("The adapter's file says of itself what its study does not.")


def _follows(said: object, study: Study, run: int) -> bool:
    """Whether what a file says of its origin, if it does, is the study's and no lower."""
    if said is None:
        return True
    origin, whole = read_origin(str(said)), whole_cost(study)
    named = (origin.base, origin.study, origin.study_digest, origin.run)
    if named != (study.base.digest, study.name, study.digest().hex(), str(run)):
        return False
    if (origin.rounds, origin.delta) != (study.rounds, study.privacy.delta):
        return False
    return origin.epsilon is None or origin.epsilon >= whole * (1 - SAME)


def _header(data: bytes, size: int) -> dict[str, dict[str, object]]:
    found = read_json(data[_HEADER : _HEADER + size].decode("utf-8"))
    if not isinstance(found, dict):
        raise TypeError
    return found


def _check_frozen(
    header: dict[str, dict[str, object]], layout: Layout, data: bytes, size: int
) -> None:
    """The public factors are those that follow from the layout, and there is no other tensor."""
    named = {f"unet.{entry.name}" for entry in (*layout.entries, *layout.frozen)}
    if header.keys() - {"__metadata__"} != named:
        raise ValueError
    values = frozen_values(layout)
    for entry in layout.frozen:
        own = values[entry.name].astype("<f4", copy=False)
        if _tensor(header, entry.name, entry.shape, data, size).tobytes() != own.tobytes():
            raise ValueError
    if _HEADER + size + 4 * (layout.parameters + sum(e.size for e in layout.frozen)) != len(data):
        raise ValueError


def _tensor(
    header: dict[str, dict[str, object]],
    name: str,
    shape: tuple[int, ...],
    data: bytes,
    size: int,
) -> NDArray[np.float32]:
    entry = header[f"unet.{name}"]
    offsets = entry["data_offsets"]
    if entry["dtype"] != "F32" or entry["shape"] != list(shape):
        raise ValueError
    if not isinstance(offsets, list) or len(offsets) != 2:
        raise TypeError
    first, last = offsets
    if type(first) is not int or type(last) is not int or not 0 <= first <= last:
        raise TypeError
    body = data[_HEADER + size + first : _HEADER + size + last]
    found = np.frombuffer(body, "<f4")
    if found.size != int(np.prod(shape)):
        raise ValueError
    return found
