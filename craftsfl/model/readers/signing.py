"""`reader-study score --sign`: the result that leaves the site, bound to key and adapter."""

# Why: docs/adr/0063-atlas.md

from __future__ import annotations

import math
import re
import time
from pathlib import Path
from typing import Final

from craftsfl.model.readers.answers import ScoredStudy
from craftsfl.new_file import write_new_file
from craftsfl.passphrase import check_study_key, identity_in
from model.lab.readers.items import ReadingTask
from model.lab.readers.power import share_interval
from privacy.audit.readers_result import ReadersInterval, SignedReaders
from privacy.errors import ConfigError, DataError

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")  # as the manifest has them
_ROUNDING: Final = 1e-6


def check_signing(sign: Path | None, name: str | None, out: Path | None) -> None:
    """Raise `ConfigError` for options that do not go together, before anything is scored."""
    if sign is None:
        if name is not None or out is not None:
            raise ConfigError("Nothing is signed without a key.", "Add --sign KEYFILE.")
        return
    if name is None or not _NAME.fullmatch(name):
        raise ConfigError(
            "--sign needs the signer's name.",
            "--name as it stands in promotion.readers of study.toml: lower case, digits, hyphens.",
        )
    check_study_key(sign)


def sign_readers(scored: ScoredStudy, name: str, key: Path, out: Path) -> SignedReaders:
    """Write the signed result to `out`, for its owner alone.

    Raises `DataError` where the pictures are not known to be one adapter's, `ConfigError` for a key
    that cannot be used, or a file that exists.
    """
    model = scored.model
    if model is None:
        raise DataError(
            "The key does not say which adapter drew the pictures: the result cannot be signed.",
            "Make the kit from what craftsfl model sample --adapter --out-dir wrote, with an "
            "adapter that a run has released.",
        )
    identity = identity_in(key)
    readers = len(scored.missing)
    unsigned = SignedReaders(
        signer=name,
        key=scored.study,
        adapter=model.adapter.removeprefix("sha256:"),
        study=model.study,
        readers=readers,
        questions=scored.questions * readers,
        missing=sum(scored.missing.values()),
        told_apart=_over_all(scored, ReadingTask.ORIGIN, "accuracy"),
        preferred=_pairs(scored),
        time=int(time.time()),
    )
    signed = unsigned.signed_with(identity)
    write_new_file(out, signed.encode(), private=True)
    return signed


def _pairs(scored: ScoredStudy) -> ReadersInterval | None:
    """What readers prefer says something of the adapter only beside its own base."""
    if scored.model is None or not scored.model.base_before:
        return None
    return _over_all(scored, ReadingTask.PAIR, "preferred the one from after training")


def _over_all(scored: ScoredStudy, task: ReadingTask, figure: str) -> ReadersInterval | None:
    """With an interval that is nowhere narrower than the exact one of as many judgements.

    The bootstrap's has no width where all judge alike, so two clicks would show anything.
    """
    for item in scored.figures:
        if (item.task, item.figure, item.reader) != (task, figure, "all"):
            continue
        if item.value is None or item.low is None or item.high is None:
            return None
        total = item.value * item.count  # no whole number where somebody saw no difference
        low = share_interval(math.floor(total + _ROUNDING), item.count)[0]
        high = share_interval(math.ceil(total - _ROUNDING), item.count)[1]
        return ReadersInterval(item.value, min(low, item.low), max(high, item.high), item.count)
    return None
