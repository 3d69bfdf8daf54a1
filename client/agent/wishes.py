"""Whether the hospital wants to take part: `craftsfl site pause`, `resume` and `leave`.

One small file in the state folder, written by a command and read by the agent before it takes
anything new. So it holds while the agent is down, and after a restart. Guarantees, each tested:

- Without the file the site takes part. With a file that cannot be read, or says something else, it
  does not: whoever wrote it wanted to say something.
- An attempt that is open goes on and ends as ever: only what would begin is refused, and refusing
  it costs nothing.
"""

# Why: docs/adr/0058-the-hospitals-desk.md

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from privacy.errors import DeploymentError
from privacy.files import read_private, told_if_unwritable, write_private
from privacy.wire.bodies import Refusal
from privacy.wire.reasons import Reason

_LARGEST: Final = 4096


class SiteWish(StrEnum):
    """What the hospital wants."""

    RUN = "run"
    PAUSE = "pause"
    LEAVE = "leave"

    @property
    def words(self) -> str:
        """How things stand, for the hospital's desk."""
        return _WORDS[self]

    @property
    def refusal(self) -> Refusal | None:
        """What a coordinator is answered that would begin something; None if it may."""
        reason = _REASONS.get(self)
        return None if reason is None else Refusal(reason)


_WORDS: Final = {
    SiteWish.RUN: "This site takes part.",
    SiteWish.PAUSE: "This site is paused: the agent refuses every new attempt, free of charge.",
    SiteWish.LEAVE: "This site has left: the agent refuses every new attempt, free of charge.",
}
_REASONS: Final = {SiteWish.PAUSE: Reason.PAUSED, SiteWish.LEAVE: Reason.LEFT}


@dataclass(frozen=True, slots=True)
class WishFile:
    """Where the wish is kept."""

    path: Path

    def read(self) -> SiteWish:
        """The wish; never raises. What cannot be read counts as a pause."""
        try:
            found = json.loads(read_private(self.path, _LARGEST))
            return SiteWish(found["wish"])
        except FileNotFoundError:
            return SiteWish.RUN
        except (OSError, ValueError, KeyError, TypeError):
            return SiteWish.PAUSE

    def write(self, wish: SiteWish) -> None:
        """On disk when this returns, from the agent's next message on; raises `DeploymentError`."""
        hint = "Run this as the agent's user; check the disk's free space."
        with told_if_unwritable(self.path, hint, DeploymentError):
            write_private(self.path, json.dumps({"wish": wish}).encode("ascii"))
            if os.geteuid() == 0:  # else the agent's user could not read it
                owner = self.path.parent.stat()
                os.chown(self.path, owner.st_uid, owner.st_gid)
