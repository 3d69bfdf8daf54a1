"""The adapter of every step, worked out again from the start and the opened sums.

And of the file that was released: it holds what the last step gives, number by number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.layout import Layout, frozen_digest, frozen_values
from model.layout_text import decode_layout
from privacy.audit.checks.costs import SAME, whole_cost
from privacy.audit.checks.membership import rosters_of
from privacy.audit.checks.steps import LayoutDigests
from privacy.audit.evidence import ADAPTER_FILE, LAYOUT_FILE, Evidence, RunEvidence
from privacy.audit.faults import AuditFailure, Flaw, failure
from privacy.errors import AuditError, CraftsflError
from privacy.strict_json import read_json
from privacy.study.manifest import Study
from strategies.chain import AdapterChain
from strategies.pooled import begin_chain, digests_of, final_of, following

MOST_PARAMETERS: Final = 1 << 26  # of an adapter, and of its frozen factors
_HEADER: Final = 8  # bytes that say how long a safetensors file's header is
_LARGEST_HEADER: Final = 16 << 20
_METADATA: Final = frozenset(
    {"format", "lora_adapter_metadata", "craftsfl_layout", "craftsfl_frozen", "craftsfl_origin"}
)


@dataclass
class Replay:
    """`chain`: after the last step that follows; `steps`: how many; `failures`: what does not."""

    chain: AdapterChain | None = None
    failures: list[AuditFailure] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """How many steps were worked out."""
        return 0 if self.chain is None else self.chain.steps


def layout_of_bundle(evidence: Evidence) -> tuple[Layout | None, list[AuditFailure]]:
    """What the adapter's numbers mean; None, and why, where the bundle does not say."""
    data = evidence.files.get(LAYOUT_FILE, b"")
    try:
        layout = decode_layout(data)
    except CraftsflError as error:
        return None, [failure(Flaw.MALFORMED, f"{LAYOUT_FILE}: {error.message}")]
    size = max(layout.parameters, sum(entry.size for entry in layout.frozen))
    if size > MOST_PARAMETERS:
        words = f"{size} numbers; at most {MOST_PARAMETERS} are worked out."
        return None, [failure(Flaw.TOO_LARGE, words)]
    pooled = evidence.study.pooled
    if pooled is not None and pooled.parameters != layout.parameters:
        words = f"The layout has {layout.parameters} numbers, the manifest {pooled.parameters}."
        return None, [failure(Flaw.ADAPTER, words)]
    return layout, []


def layout_digests(layout: Layout) -> LayoutDigests:
    """What labels hold of the layout."""
    return LayoutDigests(layout.fingerprint(), frozen_digest(layout))


def replay(evidence: Evidence, number: int, layout: Layout) -> Replay:
    """The steps of a run, from the start that the study fixes."""
    found = Replay()
    run = evidence.runs[number]
    try:
        found.chain = begin_chain(evidence.study, layout)
    except CraftsflError as error:
        found.failures.append(failure(Flaw.ADAPTER, error.message, run=number))
        return found
    _follow(evidence, run, found, number)
    found.failures += _ended(run, found, number)
    return found


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
        check_own_words(data, layout, evidence.study)
    except AuditError as error:
        yield failure(Flaw.ADAPTER, error.message, run=number)
        return
    if vector.tobytes() != found.chain.published.astype("<f4", copy=False).tobytes():
        words = "The adapter that was released does not follow from the start and the opened sums."
        yield failure(Flaw.ADAPTER, words, run=number)


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


def check_own_words(data: bytes, layout: Layout, study: Study) -> None:
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
        origin = read_json(str(said["craftsfl_origin"])) if "craftsfl_origin" in said else None
        same = same and (origin is None or _follows(origin, study))
    except (ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise AuditError("The adapter's file says of itself what its study does not.")


def _follows(origin: object, study: Study) -> bool:
    if not isinstance(origin, dict):
        return False
    claimed, whole = origin["epsilon"], whole_cost(study)
    named = (origin["study_digest"], origin["delta"], origin["rounds"], origin["base"])
    if named != (study.digest().hex(), study.privacy.delta, study.rounds, study.base.digest):
        return False
    return claimed is None or (isinstance(claimed, float) and claimed >= whole * (1 - SAME))


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


def _follow(evidence: Evidence, run: RunEvidence, found: Replay, number: int) -> None:
    """Add the sums in order, and compare each with what the requests say came before it."""
    chain = found.chain
    if chain is None:
        return
    rosters = {roster.digest(): roster for roster in rosters_of(evidence)}
    rosters_by_session = {
        one.offer.session: rosters.get(one.offer.roster_digest) for one in run.sessions
    }
    before = {chain.steps: chain}
    for total in run.sums:
        roster = rosters_by_session.get(total.session)
        where = ("", number, total.step, total.attempt)
        if roster is None or total.step != chain.steps + 1:
            words = f"It does not follow step {chain.steps}."
            found.failures.append(failure(Flaw.STEP_MISSING, words, *where))
            break
        try:
            chain = following(chain, [total], evidence.study, roster)
        except CraftsflError as error:
            found.failures.append(failure(Flaw.CHAIN, error.message, *where))
            break
        before[chain.steps] = chain
    found.chain = chain
    found.failures += _begun_elsewhere(run, before, number)


def _begun_elsewhere(
    run: RunEvidence, before: dict[int, AdapterChain], number: int
) -> Iterator[AuditFailure]:
    opened = {(one.step, one.attempt) for one in run.sums}
    for request in run.requests:
        known = before.get(request.step - 1)
        if known is None:
            continue
        own = digests_of(known)
        same = (own.adapter, own.state, own.sums) == (request.adapter, request.state, request.sums)
        # A step after a sum that nobody took began from it; only steps that opened have to follow.
        if not same and (request.step, request.attempt) in opened:
            words = "It began from another adapter than the sums before it give."
            yield failure(Flaw.CHAIN, words, "", number, request.step, request.attempt)


def _ended(run: RunEvidence, found: Replay, number: int) -> Iterator[AuditFailure]:
    if run.closing is None or found.chain is None:
        return
    close, own = run.closing.close, final_of(found.chain)
    said = (close.adapter, close.state, close.sums, close.published)
    if said != (own.chain.adapter, own.chain.state, own.chain.sums, own.published):
        words = "The coordinator's last word names another end than the sums lead to."
        yield failure(Flaw.CLOSING, words, run=number)
