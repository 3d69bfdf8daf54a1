"""What the signatures of LogShown and LogAnswer cover.

shown  : H("log-shown", the bytes before its signature)              by the coordinator's key
answer : H("log-answer", public key, H of what was shown, the bytes before its signature)
                                                                     by the site
"""

from __future__ import annotations

from typing import Final

from privacy.secagg.keys import digest
from privacy.wire.log import LogAnswer, LogShown

_SHOWN: Final = b"log-shown"
_ANSWER: Final = b"log-answer"


def shown_signed(shown: LogShown) -> bytes:
    """What the coordinator signs, 32 bytes."""
    return digest(_SHOWN, shown.signed_part())


def answer_signed(answer: LogAnswer, shown: LogShown, public: bytes) -> bytes:
    """What the site with this identity key signs, 32 bytes: an answer to this and nothing else."""
    return digest(_ANSWER, public, shown_signed(shown), answer.signed_part())
