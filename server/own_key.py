"""The coordinator's own key: it signs the steps of a pooled study, whose manifest names it.

It protects no patient: a site takes steps from nobody else, and nobody else can pass for the
coordinator on the way. Whoever has it can still only ask.
"""

from __future__ import annotations

from pathlib import Path

from privacy.error_ids import ErrorId
from privacy.errors import ConfigError
from privacy.identity import A_STUDYS_KEY, Identity, load_identity
from privacy.study.manifest import Study


def make_coordinator_key(path: Path) -> bytes:
    """Make a key in the file `path` (mode 0600); returns its public half, 32 bytes.

    Raises `ConfigError` if the file exists or cannot be made.
    """
    identity = Identity.generate()
    identity.write_new(path, None, if_there=A_STUDYS_KEY, parents=True)
    return identity.public


def coordinator_key(path: Path | None, study: Study) -> Identity | None:
    """The key that the study names; None for a study that names none.

    Raises `ConfigError` if it is missing, or another one.
    """
    if study.pooled is None:
        return None
    if path is None:
        raise ConfigError(
            f"The study {study.name} names a key of the coordinator, and consortium.toml has none.",
            "Set `coordinator_key` in consortium.toml to the file: craftsfl rounds key",
            id=ErrorId.COORDINATOR_KEY,
        )
    identity = load_identity(path)
    if identity.public.hex() != study.pooled.coordinator_key:
        raise ConfigError(
            f"{path} is not the key that the study names ({study.pooled.coordinator_key[:16]}…).",
            "Restore that key. With another one, the sites have to agree on a study that names it.",
            id=ErrorId.COORDINATOR_KEY,
        )
    return identity
