"""Do the readers' results that were handed in meet what the study demands of them? Pure.

The coordinator asks before a promotion, the auditor of the log afterwards: the same rule.

A result counts if one of those whom the manifest names has signed it and it is of this very adapter
and study. Where several count, each has to meet the demand: nobody picks the kindest readers.
"""

# Why: docs/adr/0063-atlas.md, docs/adr/0071-who-judged-and-what-readers-found.md

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from privacy.audit.readers_result import ReadersInterval, SignedReaders
from privacy.study.promotion import ReadersDemand
from privacy.visible import visible

_SHOWN = 16  # hex digits
ReadersAnswer: TypeAlias = tuple[str, bool, str]  # what is demanded, whether it is met, what was


def readers_answers(
    wanted: ReadersDemand, of: tuple[str, str], handed_in: Sequence[SignedReaders]
) -> Iterator[ReadersAnswer]:
    """An answer for each demand; `of`: SHA-256 of the adapter's file and the study's digest."""
    refused = [(one, _refusal(wanted, of, one)) for one in handed_in]
    count = [one for one, why in refused if not why]
    found = [why or _counted(one) for one, why in refused]
    names = " or ".join(one.name for one in wanted.keys)
    yield (
        f"{wanted.readers} readers or more have judged pictures of this adapter, signed by {names}",
        bool(count) and all(one.readers >= wanted.readers for one in count),
        "; ".join(found) or "no result was handed in",
    )
    if wanted.told_apart is not None:
        most = wanted.told_apart
        apart = [one.told_apart for one in count]
        yield _answer(
            f"readers tell real from synthetic in no more than {most:.1%} of the cases, and take "
            "one for the other in no more",
            apart,
            [
                figure is not None and 1 - most <= figure.low <= figure.high <= most
                for figure in apart
            ],
        )
    if wanted.preferred is not None:
        preferred = [one.preferred for one in count]
        yield _answer(
            f"the share that prefers pictures from after training is above {wanted.preferred:g}",
            preferred,
            [figure is not None and figure.low > wanted.preferred for figure in preferred],
        )


def counting_readers(
    wanted: ReadersDemand, of: tuple[str, str], handed_in: Sequence[SignedReaders]
) -> tuple[SignedReaders, ...]:
    """Those that count, each once; `of` as above."""
    return tuple(dict.fromkeys(one for one in handed_in if not _refusal(wanted, of, one)))


def _refusal(wanted: ReadersDemand, of: tuple[str, str], one: SignedReaders) -> str:
    """Why a result does not count; "" if it does."""
    adapter, study = of
    name = visible(one.signer, most=32)
    key = next((listed.key for listed in wanted.keys if listed.name == one.signer), None)
    if key is None:
        return f"{name} is not named by the study"
    if not one.is_signed_by(bytes.fromhex(key)):
        return f"the signature is not {name}'s"
    if one.adapter != adapter:
        return f"{name}'s result is of another adapter, {one.adapter[:_SHOWN]}…"
    if one.study != study:
        return f"{name}'s result is of another study, {one.study[:_SHOWN]}…"
    return ""


def _counted(one: SignedReaders) -> str:
    left = f", {one.missing} of {one.questions} questions left out" if one.missing else ""
    return f"{one.readers} readers, sealed key {one.key[:_SHOWN]}…, signed by {one.signer}{left}"


def _answer(
    what: str, figures: Sequence[ReadersInterval | None], met: Sequence[bool]
) -> ReadersAnswer:
    return what, bool(met) and all(met), "; ".join(map(_shown, figures)) or "no result counts"


def _shown(figure: ReadersInterval | None) -> str:
    if figure is None:
        return "not asked, or not beside the base alone"
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"
