"""`craftsfl rounds renew`: the certificate of a consortium that made its own authority."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Iterator
from pathlib import Path

from craftsfl.processes.flower.renewal import renew_certificate
from craftsfl.rounds.operator import superlink_of
from server.settings import load_consortium


def renew_consortium(
    settings_file: Path, authority_key: Path | None, now: datetime.datetime | None = None
) -> Iterator[str]:
    """Renew the certificate; what was made and what comes next, line by line.

    The name by which the invitation has hospitals reach the SuperLink is kept, or added. Raises
    `CraftsflError`, and has then changed nothing.
    """
    consortium = load_consortium(settings_file)
    files = superlink_of(consortium).credentials
    invitation = consortium.invitation
    host = invitation.superlink.rpartition(":")[0] if invitation is not None else ""
    key = authority_key or files.authority.with_name("ca.key")
    at = now or datetime.datetime.now(datetime.UTC)
    made = renew_certificate(files, key, [host] if host else [], at)
    end = made.not_valid_after_utc
    yield f"{files.certificate} is valid until {end:%Y-%m-%d}, {(end - at).days} days from now."
    if authority_key is None:
        yield f"Move {key} back to the disk that is not in this machine."
    yield (
        "Next: end craftsfl rounds serve with Ctrl-C and start it again, between two runs or in "
        f"one: craftsfl rounds serve {shlex.quote(str(settings_file))}. The hospitals do nothing."
    )
