"""`craftsfl rounds renew`: the certificate of a consortium that made its own authority."""

# Why: docs/adr/0076-what-is-lost-is-made-again.md

from __future__ import annotations

import datetime
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from craftsfl.processes.flower.renewal import Renewal, ServerNames, renew_certificate
from craftsfl.rounds.founding import check_host
from craftsfl.rounds.operator import superlink_of
from privacy.files import write_public
from privacy.study.invitation import read_invitation
from server.settings import ConsortiumSettings, load_consortium


@dataclass(frozen=True)
class Renewing:
    """What was typed. `authority_key`: where `ca.key` is; None: beside the authority."""

    settings: Path
    authority_key: Path | None = None
    names: Sequence[str] = ()  # that the certificate has to have, besides those that are known
    new_key: bool = False


def renew_consortium(asked: Renewing, now: datetime.datetime | None = None) -> Iterator[str]:
    """Renew the certificate; what was made and what comes next, line by line.

    A certificate, a server's key or an authority's certificate that is lost is made again or put
    back. The name by which the invitation has hospitals reach the SuperLink is kept, or added.
    Raises `CraftsflError`, and has then changed nothing but the last.
    """
    consortium = load_consortium(asked.settings)
    link = superlink_of(consortium)
    files = link.credentials
    for name in asked.names:
        check_host(name)
    if not files.authority.exists() and (text := _invited_authority(consortium)):
        write_public(files.authority, text.encode("utf-8"))
        yield f"{files.authority} was put back from the invitation."
    key = asked.authority_key or files.authority.with_name("ca.key")
    at = now or datetime.datetime.now(datetime.UTC)
    names = ServerNames(
        hospitals=(*asked.names, *_invited_host(consortium)),
        machine=(link.address.rpartition(":")[0].strip("[]"), "localhost", "127.0.0.1"),
    )
    made = renew_certificate(files, key, names, at, new_key=asked.new_key)
    end = made.certificate.not_valid_after_utc
    yield f"{files.certificate} is valid until {end:%Y-%m-%d}, {(end - at).days} days from now."
    if made.new_key:
        yield f"{files.key} is a new key. {_earlier_words(made)}".strip()
    if asked.authority_key is None:
        yield f"Move {key} back to the disk that is not in this machine."
    yield (
        "Next: end craftsfl rounds serve with Ctrl-C and start it again, between two runs or in "
        f"one: craftsfl rounds serve {shlex.quote(str(asked.settings))}. The hospitals do nothing."
    )


def _earlier_words(made: Renewal) -> str:
    """What somebody can do who has the earlier key: a certificate cannot be called back."""
    if made.before is None:
        return ""
    return (
        "Whoever else has the earlier one can pose as this SuperLink until its certificate ends, "
        f"{made.before.not_valid_after_utc:%Y-%m-%d}."
    )


def _invited_host(consortium: ConsortiumSettings) -> list[str]:
    if consortium.invitation is None:
        return []
    return [consortium.invitation.superlink.rpartition(":")[0]]


def _invited_authority(consortium: ConsortiumSettings) -> str:
    """The authority's certificate as the hospitals got it; "" where there is no invitation."""
    invitation = consortium.invitation
    if invitation is None or not invitation.file.exists():
        return ""
    return read_invitation(invitation.file).authority
