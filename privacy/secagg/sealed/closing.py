"""The end of a run: each site that can prove the last sum says whether it comes to the same.

Every step's sum is proven when the next step brings it. The last one has no next step, so the
coordinator sends it with a SealedClose, which names the state that all of the sums lead to:

    close     : H("sealed-close", the bytes before its signature)      by the coordinator's key
    confirmed : H("sealed-confirmed", the bytes that `close` covers)   by the site

are what signatures cover. A site changes nothing, journals nothing and charges nothing: it proves
the sums by their tags, works the adapter out, and compares. Asked again it answers the same.
"""

# Why: docs/adr/0050-dense-vectors-and-closed-runs.md

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from privacy.identity import Identity, verify
from privacy.secagg.keys import digest
from privacy.secagg.refusals import Refused
from privacy.secagg.sealed.label import ChainDigests, SealedStudy
from privacy.wire.checks import Check
from privacy.wire.closing import SealedClose, SealedConfirmed

_CLOSE: Final = b"sealed-close"
_CONFIRMED: Final = b"sealed-confirmed"


@dataclass(frozen=True, slots=True)
class FinalDigests:
    """Where a run has come to: its chain, and what is published of it (32 bytes)."""

    chain: ChainDigests
    published: bytes


FinalOf: TypeAlias = Callable[[SealedClose], FinalDigests]


def closing(
    coordinator: Identity, study: SealedStudy, run: int, session: int, final: FinalDigests
) -> SealedClose:
    """What the coordinator asks every site in the end; `session` is that of the last step."""
    close = SealedClose(
        *(run, session, study.steps, study.study_digest),
        *(final.chain.adapter, final.chain.state, final.chain.sums, final.published),
    )
    return replace(close, signature=coordinator.sign(_closed(close)))


def check_close(close: SealedClose, study: SealedStudy, run: int) -> None:
    """Raise `Refused` for what is not the end of this run, or not the coordinator's word."""
    if not verify(study.coordinator, close.signature, _closed(close)):
        raise Refused(Check.SIGNATURE)
    if close.study_digest != study.study_digest:
        raise Refused(Check.RECIPE)
    if close.run != run:
        raise Refused(Check.RUN)
    if close.steps != study.steps:
        raise Refused(Check.SESSION_STEPS)


def check_final(close: SealedClose, own: FinalDigests) -> None:
    """Raise `Refused` where the site has not come to the same."""
    if close.sums != own.chain.sums:
        raise Refused(Check.SUMS)
    if (close.adapter, close.published) != (own.chain.adapter, own.published):
        raise Refused(Check.ADAPTER)
    if close.state != own.chain.state:
        raise Refused(Check.STATE)


def confirmed(identity: Identity, close: SealedClose) -> SealedConfirmed:
    """The site's word for `close`."""
    return SealedConfirmed(identity.sign(_confirmed(close)))


def confirms(answer: SealedConfirmed, close: SealedClose, public: bytes) -> bool:
    """Whether the site with this identity key has signed `close`."""
    return verify(public, answer.signature, _confirmed(close))


def _closed(close: SealedClose) -> bytes:
    return digest(_CLOSE, close.signed_part())


def _confirmed(close: SealedClose) -> bytes:
    return digest(_CONFIRMED, close.signed_part())
