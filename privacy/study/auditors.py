"""`[auditors]`: whose verdict an adapter needs before it is promoted, fixed before the study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, model_validator

from privacy.config import Count, SiteName, Strict


class AuditorKey(Strict):
    """Somebody who signs verdicts: a name for people, and an Ed25519 key in hex."""

    name: SiteName
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def check_distinct(listed: Sequence[AuditorKey], who: str) -> None:
    """Raise `ValueError` where two of them, who are `who`, have one name or key."""
    for what, found in (
        ("names", [one.name for one in listed]),
        ("keys", [one.key for one in listed]),
    ):
        if len(set(found)) != len(found):
            raise ValueError(f"two {who} have the same {what}")


class Auditors(Strict):
    """`needed` of those listed have to sign a verdict that everything in the bundle holds."""

    needed: Count
    keys: tuple[AuditorKey, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _can_be_met(self) -> Auditors:
        check_distinct(self.keys, "auditors")
        if self.needed > len(self.keys):
            raise ValueError(f"auditors.needed is {self.needed}, and {len(self.keys)} are listed")
        return self
