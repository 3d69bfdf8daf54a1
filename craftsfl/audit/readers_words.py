"""A readers' result on which a promotion rests, in a sentence."""

from __future__ import annotations

from privacy.audit.readers_result import SignedReaders
from privacy.visible import visible


def readers_words(read: SignedReaders) -> str:
    """What a readers' result says, in a sentence."""
    figures = (
        ("told real from synthetic in", read.told_apart),
        ("preferred it to the base in", read.preferred),
    )
    said = " and ".join(
        f"{words} {one.value:.3f} ({one.low:.3f} to {one.high:.3f})"
        for words, one in figures
        if one is not None
    )
    return (
        f"of {read.adapter[:16]}…: {read.readers} readers {said or 'showed nothing'}; signed by "
        f"{visible(read.signer, most=32)}, sealed key {read.key[:16]}…"
    )
